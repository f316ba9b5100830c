"""What a command line takes for a number or a name, so that a slip is told before anything runs."""

from argparse import ArgumentTypeError
from pathlib import Path


def count(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is below 1")
    return number


def picture(text: str) -> str:
    """The name of a picture that can be drawn."""
    if Path(text).suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentTypeError(f"{text} does not end in .png, .svg or .pdf")
    return text
