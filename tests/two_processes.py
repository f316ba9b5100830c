"""What each process runs in the test of data-parallel training: a few steps, then its weights into a file."""

import os
import sys
from pathlib import Path

os.environ["ACCELERATE_USE_CPU"] = "true"

import torch

from tests.learners import PLAN, little_training


def main(out: Path) -> None:
    torch.set_num_threads(1)
    training = little_training(out, PLAN[::2])
    list(training.run(log_every=2, max_steps=4))
    rank = training.accelerator.process_index
    torch.save(training.model.state_dict(), out / f"weights{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
