"""What each process runs in the test of data-parallel training: a few steps, and its weights after each into a file."""

import os
import sys
from pathlib import Path

os.environ["ACCELERATE_USE_CPU"] = "true"

import torch

from tests.learners import PLAN, little_training


def main(out: Path, local_steps: int) -> None:
    torch.set_num_threads(1)
    training, after = little_training(out, PLAN[::2], local_steps), []
    for _ in training.run(log_every=1, max_steps=4):
        after.append({name: weight.clone() for name, weight in training.model.state_dict().items()})
    torch.save(after, out / f"weights{training.accelerator.process_index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
