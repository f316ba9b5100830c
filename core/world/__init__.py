"""The fact world: invented people, places and things, what is true of them, and how people say and ask it."""

from .facts import Fact, World

__all__ = ["Fact", "World"]
