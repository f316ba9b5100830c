"""Turn the controls of a notebook's figure and see whether it follows."""

import itertools
from typing import Any

import ipywidgets

from lab.widgets import Explorer, drawn


def settings(control: Any) -> list[Any]:
    """Some values that a control can be given, as indices for choices."""
    if isinstance(control, ipywidgets.Checkbox):
        return [False, True]
    if isinstance(control, ipywidgets.Text):
        return ["Who is Petra Lund?", "What is the capital of Tarn?"]
    if hasattr(control, "options"):
        return list(range(len(control.options)))
    return [control.min, control.max]


def turn(control: Any, setting: Any) -> None:
    if hasattr(control, "options"):
        control.index = setting
    else:
        control.value = setting


def follows(explorer: Explorer, name: str) -> bool:
    """Whether the figure changes with a control, in some position of one of the other controls."""
    control = explorer.controls[name]
    others = [(other, setting) for key, other in explorer.controls.items() if key != name
              for setting in (settings(other) if hasattr(other, "options") else [])]  # fmt: skip
    for position in [None, *others]:
        if position:
            turn(*position)
        seen = []
        for setting in itertools.islice(settings(control), 3):
            turn(control, setting)
            seen.append(str(drawn(explorer.figure)))
        if len(set(seen)) > 1:
            return True
    return False


def report(namespace: dict[str, Any]) -> dict[str, bool]:
    """ "explorer.control" -> whether its figure follows, for all explorers of a notebook."""
    explorers = {n: value for n, value in namespace.items() if isinstance(value, Explorer) and not n.startswith("_")}
    return {f"{n}.{name}": follows(explorer, name) for n, explorer in explorers.items() for name in explorer.controls}
