"""What each process runs in the tests of data-parallel training: a few steps, and its weights after each into a file.

python -m tests.two_processes OUT LOCAL_STEPS [interrupt]    with the word, the second process gets a Ctrl-C in step 2
"""

import os
import signal
import sys
from pathlib import Path

os.environ["ACCELERATE_USE_CPU"] = "true"

import torch

from tests.learners import PLAN, little_training


def main(out: Path, local_steps: int, interrupt: bool = False) -> None:
    torch.set_num_threads(1)
    training, after, stopped = little_training(out, PLAN[::2], local_steps), [], 0
    rank = training.accelerator.process_index
    training.before_export = lambda practice, _: practice.model.memory.new.data.add_(1)  # the first process alone
    try:
        for record in training.run(log_every=1, max_steps=4):
            after.append({name: weight.clone() for name, weight in training.model.state_dict().items()})
            if interrupt and rank == 1 and record["step"] == 2:
                os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        stopped = training.state.total
    torch.save({"after": after, "stopped": stopped}, out / f"seen{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), "interrupt" in sys.argv)
