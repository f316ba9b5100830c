"""What processes that train together tell each other; one process alone tells nobody."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

CPU_HAS_BF16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def accelerator(precision: str = "bf16", cpu: bool = False) -> Accelerator:
    """One process or many, on whatever devices there are, bf16 or "no" mixed precision.

    Several may share a GPU: the steps of a small model are mostly Python, and one process leaves the GPU idle.
    On a processor without instructions for bf16 it would be emulated, at a third of the speed: there it is "no".
    """
    cpu = cpu or not torch.accelerator.is_available()  # without it, processes on CPUs would not know of each other
    if cpu and not CPU_HAS_BF16:
        precision = "no"
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # no step needs all of them
    handlers: list = [unused]
    devices = 0 if cpu else torch.accelerator.device_count()
    if devices and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > devices:
        handlers.append(InitProcessGroupKwargs(backend="gloo"))  # NCCL wants a GPU for each process
        os.environ["LOCAL_RANK"] = str(int(os.environ["LOCAL_RANK"]) % devices)  # accelerate takes it for the GPU's
    return Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=handlers)


def first_weights(processes: Accelerator, model: nn.Module) -> None:
    """Give all processes the weights of the first."""
    if processes.num_processes > 1:
        for parameter in model.parameters():
            torch.distributed.broadcast(parameter.data, 0)


def mean_weights(processes: Accelerator, model: nn.Module) -> None:
    """Give all processes the mean of their weights."""
    if processes.num_processes > 1:
        for parameter in model.parameters():
            parameter.data.copy_(processes.reduce(parameter.data, "mean"))  # type: ignore[arg-type]


def mean_figures(processes: Accelerator, figures: dict[str, float]) -> dict[str, float]:
    """The mean of each figure over the processes that have it."""
    together = [dict(figures) for _ in range(processes.num_processes)]
    if processes.num_processes > 1:
        torch.distributed.all_gather_object(together, figures)
    names = {name for each in together for name in each}
    values = {name: [each[name] for each in together if name in each] for name in sorted(names)}
    return {name: sum(found) / len(found) for name, found in values.items()}


def any_of(processes: Accelerator, *flags: bool) -> list[bool]:
    """Which of these flags any process has raised."""
    together = torch.tensor([int(flag) for flag in flags], device=processes.device)
    if processes.num_processes > 1:
        torch.distributed.all_reduce(together, torch.distributed.ReduceOp.MAX)
    return [bool(flag) for flag in together]


@contextmanager
def held_interrupts(processes: Accelerator) -> Iterator[Callable[[], bool]]:
    """Of several processes Ctrl-C is noted and not raised, as all must stop after one step: yields whether it was.

    One process alone is interrupted at once.
    """
    noted = False

    def note(*_: object) -> None:
        nonlocal noted
        noted = True

    if processes.num_processes == 1:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, before)
