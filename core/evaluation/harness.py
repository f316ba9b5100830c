"""lm-evaluation-harness on M+: `python -m core.evaluation.harness run --model mplus --model_args pretrained=mini …`.

All other arguments are `lm_eval`'s own, which has no hook for models from outside: this registers ours and hands over.
It needs `pip install -e .[harness]`. As in the paper's LongBench runs, of a long context all but the last tokens is
ingested into a memory that was reset; what fits the window is read as it is. Memory is reset for every request.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.__main__ import cli_evaluate  # pyright: ignore[reportMissingImports]
from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
from lm_eval.api.registry import register_model  # pyright: ignore[reportMissingImports]
from tqdm import tqdm

from ..model import MPlusForCausalLM
from ..reader import MPlusReader
from ..reading import new_memory, read_logits
from .commands import load_any


@register_model("mplus")
class MPlusLM(TemplateLM):
    """model_args: pretrained (a shipped name, a folder or a hub name), window (tokens of a prompt, the checkpoint's by
    default; a smaller one sends more through memory), long_term=False (MemoryLLM on the same weights), dtype, seed."""

    backend = "causal"

    def __init__(
        self, pretrained: str = "mini", window: int | None = None, long_term: bool = True, dtype: str = "float32",
        seed: int = 0, device: str | None = None, batch_size: Any = 1, max_batch_size: Any = None,
    ):  # fmt: skip
        super().__init__()
        if device and device.startswith("cuda") and not torch.cuda.is_available():  # the harness's default everywhere
            device = None
        model, self.tokenizer = load_any(pretrained, device, dtype)
        if not isinstance(model, MPlusForCausalLM):
            raise ValueError(f"{pretrained} is no M+ model; use the harness's own `--model hf` for it.")
        self.reader = MPlusReader(model, self.tokenizer, new_memory(model, "smaller", long_term=long_term, seed=seed))
        self.window = min(int(window or model.config.prompt_window), model.config.prompt_window)

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        return list(self.tokenizer(string, add_special_tokens=bool(add_special_tokens), verbose=False)["input_ids"])

    def ingest(self, ids: Sequence[int]) -> None:
        """A text of a single token cannot be written; it is left out."""
        if len(ids) > 1:
            self.reader.ingest(str(self.tokenizer.decode(ids)))

    def score(self, ids: Sequence[int], num: int) -> tuple[float, bool]:
        """Log-likelihood of the last `num` of these tokens behind the memory, and whether each is the likeliest."""
        if not 0 < num < len(ids) <= self.window + 1:
            raise ValueError(
                f"A continuation of {num} tokens does not fit the window of {self.window}; raise `window`."
            )
        given = torch.tensor([ids], device=self.reader.model.device)
        with torch.no_grad():
            output, _ = read_logits(self.reader.model, [self.reader.memory], given[:, :-1], buffer=self.reader.buffer)
        assert output.logits is not None
        logits, wanted = output.logits[0, -num:].float(), given[0, -num:]
        likelihood = logits.log_softmax(-1).gather(1, wanted[:, None]).sum()
        return float(likelihood), bool((logits.argmax(-1) == wanted).all())

    def _loglikelihood_tokens(self, requests: Sequence[Any], disable_tqdm: bool = False, **kwargs: Any) -> list[Any]:
        results = []
        for _, context, continuation in tqdm(requests, disable=disable_tqdm):
            self.reader.reset()
            cut = max(0, len(context) + len(continuation) - self.window)
            self.ingest(context[:cut])
            results.append(self.score([*context[cut:], *continuation], len(continuation)))
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Each window is read behind the memory of everything before it."""
        results = []
        for (text,) in tqdm([request.args for request in requests], disable=disable_tqdm):
            self.reader.reset()
            ids, total = [self.eot_token_id, *self.tok_encode(text)], 0.0
            for start in range(1, len(ids), self.window):
                self.ingest(ids[max(1, start - self.window) : start] if start > 1 else [])
                piece = ids[start - 1 : start + self.window]
                total += self.score(piece, len(piece) - 1)[0]
            results.append(total)
        return results

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        results = []
        for context, settings in tqdm([request.args for request in requests], disable=disable_tqdm):
            until = settings.get("until") or []
            until = [until] if isinstance(until, str) else until
            num = min(int(settings.get("max_gen_toks", 128)), self.window // 2)
            self.reader.reset()
            ids = self.tok_encode(context)
            cut = max(0, len(ids) - (self.window - num))
            self.ingest(ids[:cut])
            sampling = {name: settings[name] for name in ("temperature", "top_p", "top_k") if settings.get("do_sample")
                        and name in settings}  # fmt: skip
            prompt = str(self.tokenizer.decode(ids[cut:]))
            answer = self.reader.answer(prompt, num, raw=True, do_sample=bool(settings.get("do_sample")), **sampling)
            text = str(self.tokenizer.decode(answer.tokens, skip_special_tokens=True))
            places = [place for stop in until if stop and (place := text.find(stop)) >= 0]
            results.append(text[: min(places, default=len(text))])
        return results


if __name__ == "__main__":
    cli_evaluate()
