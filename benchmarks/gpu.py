"""One table of what M+ takes and how fast it is, by offload, within ten minutes: `python -m benchmarks.gpu`.

On CUDA at the paper's shape: Llama-3.1-8B with random weights in bfloat16, K 256, N 10,240, K0 2,560, M 150,000, with
128k tokens ingested. Without a GPU the same code runs a small shape on the CPU. If the time does not suffice, fewer
tokens are ingested; the table says how many.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.shapes import MEDIUM, random_chunks, random_model
from benchmarks.speed import FastMPlus, decode
from benchmarks.timing import save, seconds
from core.adapters import READ, use_adapter
from core.arguments import count
from core.cost import LLAMA_8B, PAPER_MB, Setting, memory_cost
from core.decoding import prepare_for_answers
from core.model import MPlusForCausalLM
from core.placement import OFFLOADS, look_up_on_host
from core.reading import MemoryPrefix, new_memory, write

PAPER_SHAPE = LLAMA_8B | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
MIB = 2**20
Row = dict[str, float | None]


class Placed(FastMPlus):
    """A memory with its parts where `offload` puts them."""

    def __init__(self, model: MPlusForCausalLM, offload: str):
        super().__init__(model, offload=offload, undo_levels=0)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors, wherever they are."""
        state = self.memory.state
        held = [state.short.tokens, state.newest, *([] if state.short.keys is None else [state.short.keys])]
        return sum(t.nbytes for t in held) + sum(log.num_bytes for log in state.logs) + self.buffer.num_bytes


def peak(cuda: bool) -> float | None:
    return torch.cuda.max_memory_allocated() / MIB if cuda else None


def fitting(measure: Callable[[], Row]) -> Row:
    """What was measured, or nothing but a note where the GPU is too small for it: the other rows go on."""
    try:
        return measure()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"does not fit, MiB there": torch.cuda.mem_get_info()[1] / MIB}


def one(model: MPlusForCausalLM, offload: str, chunks: Tensor, limit: float, rounds: int) -> Row:
    cuda, end = model.device.type == "cuda", time.perf_counter() + limit
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    placed, spent = Placed(model, offload), []
    for chunk in chunks:
        spent.append(seconds(lambda chunk=chunk: placed.write(chunk[None])))
        if time.perf_counter() > end:
            break
    questions = random_chunks(model.config, rounds + 1, 32, seed=1).to(model.device)
    decode(placed, questions[:1])  # the first question of all makes the buffers
    placed.write(chunks[:1])
    changed = seconds(lambda: placed.prefill(questions[:1]))
    first = [seconds(lambda q=q: placed.prefill(q[None])) for q in questions]
    one_more = statistics.median(decode(placed, questions[:1])[0] for _ in range(rounds))
    setting = Setting(
        model.dtype, "smaller", offload, prompt=32, long_term=len(placed.memory.state.logs[0]), undo=0,
        relaid=placed.buffer.relays, fused=not cuda,
    )  # fmt: skip
    planned = memory_cost(model.config, setting)
    return {
        "tokens ingested": len(spent) * chunks.shape[1], "write, ms": 1000 * statistics.median(spent),
        "first token after a write, ms": 1000 * changed, "first token, ms": 1000 * statistics.median(first[1:]),
        "decode, tokens/s": 1 / one_more, "peak device, MiB": peak(cuda), "planned device, MiB": planned.device / MIB,
        "memory held, MiB": placed.num_bytes / MIB,
    }  # fmt: skip


def together(model: MPlusForCausalLM, chunks: Tensor, count: int, rounds: int) -> Row:
    """Seconds a chunk when `count` memories are written in one pass, against one; and asked in one pass."""
    cuda = model.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    memories = [new_memory(model, "smaller", seed=index, undo_levels=0) for index in range(count)]
    spent = [seconds(lambda c=c: write(model, memories, c.expand(count, -1))) for c in chunks[: rounds + 1]]
    question = random_chunks(model.config, 1, 32, seed=1).to(model.device).expand(count, -1)

    @torch.no_grad()
    def ask() -> None:
        with use_adapter(model, READ):
            prefix = MemoryPrefix(model, memories, torch.ones_like(question))
            model.read(question, prefix, prefix.num_memory, logits_to_keep=1)

    asked = [seconds(ask) for _ in range(3)]
    return {
        "memories": count, "write, ms for all": 1000 * statistics.median(spent[1:]),
        "first token, ms for all": 1000 * statistics.median(asked), "peak device, MiB": peak(cuda),
    }  # fmt: skip


def table(rows: dict[str, Row]) -> str:
    names = dict.fromkeys(name for row in rows.values() for name in row)
    lines = [" | ".join(["", *rows]), "|".join(["---"] * (len(rows) + 1))]
    said = lambda number: "" if number is None else f"{number:,.1f}"  # noqa: E731
    lines += [" | ".join([name, *(said(row.get(name)) for row in rows.values())]) for name in names]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--tokens", type=count, help="tokens to ingest; 128k on CUDA, 16k on a CPU without")
    parser.add_argument("--rounds", type=count, default=5)
    arguments = parser.parse_args()
    begin, cuda = time.perf_counter(), torch.cuda.is_available()
    if cuda:
        model = random_model(PAPER_SHAPE, dtype=torch.bfloat16, device="cuda")
    else:
        torch.set_num_threads(1)
        model = random_model(MEDIUM, rules="paper")
    prepare_for_answers(model, fuse=not cuda)
    model.memory.pool = model.memory.pool.cpu()  # as `core.load` does
    tokens = arguments.tokens or (131_072 if cuda else 16_384)
    chunks = random_chunks(model.config, max(8, tokens // model.config.chunk_size)).to(model.device)
    each = arguments.minutes * 60 * 0.25
    file, batch, rows = "gpu" if cuda else "gpu-cpu", {}, {}
    for name in OFFLOADS:
        if name == "long":  # and "all", which follows; as `core.load` does
            look_up_on_host(model.model.embed_tokens, model.device)
        rows[name] = fitting(lambda name=name: one(model, name, chunks, each, arguments.rounds))
        save(file, {"offload": rows, "batch": batch}, whole=False)
    for many in (1, 8):
        batch[f"{many} memories"] = fitting(lambda many=many: together(model, chunks, many, arguments.rounds))
    for row in rows.values():
        for what in ("first token", "write"):
            if f"{what}, ms" in row and f"{what}, ms" in rows["none"]:
                row[f"{what} against none"] = row[f"{what}, ms"] / rows["none"][f"{what}, ms"]
    where = torch.cuda.get_device_name() if cuda else "CPU, small shape; there is no device peak to measure"
    print(f"{where}; {time.perf_counter() - begin:.0f} s\n\n{table(rows)}\n\n{table(batch)}\n")
    print("\n".join(f"paper, {name}: {value:,.0f} MB" for name, value in PAPER_MB.items()))
    print(save(file, {"offload": rows, "batch": batch}))


if __name__ == "__main__":
    main()
