"""Six steps through the lab. They follow from what a person has really done (`Session.done`), nothing else."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from html import escape


@dataclass(frozen=True)
class Step:
    """key: in `Session.done` once it has been done. tab: where it is done."""

    key: str
    name: str
    tab: str
    how: str


STEPS = (
    Step("write", "Write a text", "lab",
         "Choose an example world and press “Write to memory”. Watch θ take its colour."),
    Step("distract", "Bury it", "lab",
         "Add ten unrelated texts. Every write throws random old tokens out of θ and into Θ."),
    Step("ask", "Ask for it", "lab",
         "Ask a question. Each layer's retriever looks through Θ; the passages it took are marked."),
    Step("slot", "Find a slot", "lab",
         "Click a cell of the map, or open Selection and give layer and slot: which word wrote this token?"),
    Step("ablate", "Take Θ away", "retrieval",
         "Press “Θ off”. How much less likely is the answer without its long-term memory?"),
    Step("compare", "Compare", "lab",
         "Press “Ask all methods”. The same texts, the same bytes: who still knows, and who is quick?"),
)  # fmt: skip
OTHERWISE: dict[str, dict[str, str]] = {
    "distract": {"how": "Add ten unrelated texts. Every write throws random old tokens out of θ: there is no Θ."},
    "ask": {"how": "Ask a question. Nothing is retrieved: the answer rests on θ alone."},
    "ablate": {"name": "Take a text away",
               "how": "Press “Delete the text”. How much less likely is the answer without it?"},
}  # fmt: skip
OF_MEMORYLLM = tuple(replace(step, **OTHERWISE.get(step.key, {})) for step in STEPS)
"""The same steps with a model that has no Θ."""

GO = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-tab]');
  if (button) trigger('select', {index: 0, value: button.dataset.tab}); });
"""
"""Script of both: a click on a step's button opens its tab."""


def steps(has_theta: bool) -> tuple[Step, ...]:
    return STEPS if has_theta else OF_MEMORYLLM


def due(done: Collection[str], has_theta: bool = True) -> Step | None:
    """The first step that has not been done."""
    return next((step for step in steps(has_theta) if step.key not in done), None)


def strip(done: Mapping[str, float], has_theta: bool = True) -> str:
    """The step that is due, in one line for the top of the page; nothing once all are done."""
    step = due(done, has_theta)
    if step is None:
        return ""
    every = steps(has_theta)
    dots = "".join(f'<i class="{"did" if one.key in done else "now" if one is step else ""}"></i>' for one in every)
    place = every.index(step) + 1
    return (
        f'<div class="guide" role="status"><span class="dots" aria-hidden="true">{dots}</span>'
        f"<span><b>Step {place} of {len(STEPS)}: {escape(step.name)}.</b> {escape(step.how)}</span>"
        f"{_button(step)}</div>"
    )


def listed(done: Mapping[str, float], has_theta: bool = True) -> str:
    """All steps, those done ticked off."""
    lines, now = [], due(done, has_theta)
    for number, step in enumerate(steps(has_theta), 1):
        did = step.key in done
        state = "did" if did else "next" if step is now else ""
        lines.append(
            f'<li class="{state}"><span class="tick" aria-hidden="true">{"✓" if did else number}</span><span>'
            f"<b>{escape(step.name)}</b>{' (done)' if did else ''}<br>{escape(step.how)}</span>{_button(step)}</li>"
        )
    return f'<ol class="steps">{"".join(lines)}</ol>'


def _button(step: Step) -> str:
    return (
        f'<button type="button" class="go" data-tab="{step.tab}" aria-label="{escape(step.name)}: open '
        f'{step.tab.title()}">Open {step.tab.title()}</button>'
    )
