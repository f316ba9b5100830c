"""Which models the lab can run: the shipped ones, a tiny untrained stand-in, a folder, a hub name; each loaded once.

What cannot work on this machine is said before it is loaded.
"""

import json
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

import core
from core.adapters import add_adapters
from core.checkpoint import SHIPPED

TINY = "tiny (untrained)"


@dataclass(frozen=True)
class Loaded:
    """A model in memory. warning: what a person must know about its answers, permanently shown; empty if nothing."""

    name: str
    model: core.MPlusForCausalLM
    tokenizer: PreTrainedTokenizerBase
    warning: str = ""


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, made in memory."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(token_models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>", "<|pad|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")


def tiny() -> Loaded:
    """A model of 0.2 million random weights, always the same: every shape is real, no answer is."""
    config = core.MPlusConfig(
        vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, max_position_embeddings=8192, eos_token_id=256,
        bos_token_id=256, pad_token_id=257, block_size=16, num_blocks=16, num_retrieved=64, max_long_term=4096,
        chunk_size=64, min_chunk=16, prompt_window=1024, relevance="block", retriever_size=16, lora_rank=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = core.MPlusForCausalLM(config)
        add_adapters(model, config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() >= 2:
                    parameter.normal_(std=0.15)
        tokenizer = byte_tokenizer()
        filler = core.MPlusReader(model.eval(), tokenizer, core.new_memory(model, "hidden"))
        filler.ingest(
            "This is where a checkpoint has its own memory. " * 64
        )  # so that θ looks like what is written later
        model.memory.pool.copy_(filler.memory.state.pool)
    return Loaded(TINY, model, tokenizer, "untrained: shapes are real, answers are not")


class Models:
    """The models of one process. At most `keep` stay loaded; sessions that use an older one keep it alive.

    root: the only folder checkpoints may come from, besides the shipped ones; None allows every folder and hub names.
    """

    def __init__(self, default: str | None = None, root: Path | None = None, exposed: bool = False, keep: int = 3):
        self.root, self.exposed, self.keep = root, exposed, keep
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[str, Loaded] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        shipped = self.shipped()
        self.default = default or ("mini" if "mini" in shipped else TINY)

    @staticmethod
    def shipped() -> list[str]:
        """Names under models/, mini first."""
        names = sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))
        return sorted(names, key=lambda name: name != "mini")

    def names(self) -> list[str]:
        return [*self.shipped(), TINY]

    def get(self, name: str) -> Loaded:
        """The model of that name, loaded if need be. Raises ValueError that says what is wrong before loading it."""
        name = name.strip()
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:  # of one name one at a time; nobody waits for another's model
            found = self._alive.get(name) or (tiny() if name == TINY else self._load(name))
        with self._lock:
            self._alive[name] = self._loaded[name] = found
            self._loaded.move_to_end(name)
            while len(self._loaded) > self.keep:
                self._loaded.popitem(last=False)
        return found

    def _load(self, name: str) -> Loaded:
        if name not in self.shipped():
            self._permit(name)
        folder = core.checkpoint.find(name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        reader = core.load(folder, device, fitting_dtype(folder, device))
        config = json.loads((folder / "config.json").read_text())
        plain = config.get("model_type") == "llama" and not any(
            key.startswith("num_") and "block" in key for key in config
        )
        warning = "a plain base model: its memory has not been trained, answers rest on luck" if plain else ""
        return Loaded(name, reader.model, reader.tokenizer, warning)

    def _permit(self, name: str) -> None:
        if not name:
            raise ValueError("No model is named; choose one of the list or give a folder or a hub name.")
        if self.root is not None:
            path = Path(name).resolve()
            if not path.is_relative_to(self.root.resolve()) or not path.is_dir():
                raise ValueError(f"{name!r} is not a folder under the allowed model folder; put the checkpoint there.")
        elif self.exposed:
            raise ValueError("Other models cannot be loaded over the network; start the lab with --model-root FOLDER.")


def fitting_dtype(folder: Path, device: str) -> torch.dtype:
    """float32, or on a GPU of which that would take more than a quarter bfloat16: memories need room as well.

    Raises ValueError if the weights of a checkpoint do not fit into what is free.
    """
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    halves = str(config.get("torch_dtype") or config.get("dtype")) in ("bfloat16", "float16")
    need, free = stored * (2 if halves else 1), psutil.virtual_memory().available
    dtype = torch.float32
    if device == "cuda":
        free = torch.cuda.mem_get_info()[0]
        if need > free / 4:
            dtype, need = torch.bfloat16, need // 2
    if need > 0.9 * free:
        raise ValueError(
            f"This checkpoint needs about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free; "
            "close other programs or choose a smaller model."
        )
    return dtype
