"""Figures follow their controls, exercises judge, and everything shown can be drawn offline."""

import ipywidgets
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import core
from lab.charts import histograms, lines, parts
from lab.diary import Diary
from lab.models import tiny
from lab.plots import provenance
from lab.widgets import PLOTLY, Live, drawn, exercise, explore, finding, show
from tests.controls import follows


@pytest.fixture(autouse=True)
def shell():
    """`display` shows nothing that could be captured without a shell."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def line(power: int = 1, upside_down: bool = False):
    sign = -1 if upside_down else 1
    return lines([0, 1, 2], {"y": [sign * x**power for x in (0, 1, 2)]}, f"power {power}")


def test_a_figure_follows_every_control():
    with capture_output() as out:
        explorer = explore(line, power=(1, 5, 1), upside_down=False)
        assert isinstance(explorer.controls["power"], ipywidgets.IntSlider)
        assert not explorer.controls["power"].continuous_update
        first = drawn(explorer.figure)
        explorer.controls["power"].value = 5
    assert finding(explorer.figure) == "power 5"
    assert drawn(explorer.figure) != first
    assert any(PLOTLY in output.data for output in out.outputs)
    with capture_output():
        assert follows(explorer, "power") and follows(explorer, "upside_down")


def test_a_control_that_does_nothing_is_noticed():
    with capture_output():
        assert not follows(explore(lambda idle: line(), idle=(1, 5, 1)), "idle")


def test_a_value_error_is_shown_as_its_sentence():
    def fails(number):
        raise ValueError(f"{number} <is> too much.")

    with capture_output():
        explorer = explore(fails, number=(1, 3, 1))
    assert "&lt;is&gt; too much." in explorer.figure


def test_what_is_no_control_is_refused():
    with pytest.raises(ValueError, match="is no control"), capture_output():
        explore(line, power=object())


def test_a_live_figure_is_drawn_again_in_place():
    with capture_output() as out:
        live = Live()
        live.draw(line(1))
        live.draw(line(2))
    outputs = out.outputs  # made anew at every look
    figures = [output for output in outputs if PLOTLY in output.data]
    assert [bool(output.update) for output in figures] == [False, True]
    assert len({output.transient["display_id"] for output in figures}) == 1
    emptied = outputs[outputs.index(figures[1]) - 1]  # JupyterLab's plotly draws in a new place only
    assert emptied.update and emptied.transient == figures[1].transient and PLOTLY not in emptied.data


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (lambda: None, "Exercise 1: right."),
        (lambda: 1 + ..., "not yet. Your answer belongs where the dots are."),
        (lambda: 1 / 0, "not yet. ZeroDivisionError"),
        (lambda: exec("assert 0, 'too <small>'"), "not yet. too <small>"),
    ],
)
def test_an_exercise_says_how_it_stands(body, verdict):
    with capture_output() as out, exercise("Exercise 1"):
        body()
    (judged,) = out.outputs
    assert verdict in judged.data["text/plain"]
    assert "<small>" not in judged.data["text/html"]


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt), exercise("Exercise 1"):
        raise KeyboardInterrupt


def test_figures_can_be_shown_without_the_cloud():
    with capture_output() as out:
        show(parts({"a": {"x": 1.0}}, "bars"), histograms({"a": [1.0, 2.0]}, "spread"), "<p>words</p>")
    figures = [output.data[PLOTLY] for output in out.outputs if PLOTLY in output.data]
    assert len(figures) == 2 and all(figure["config"]["showSendToCloud"] is False for figure in figures)
    assert "words" in out.outputs[-1].data["text/html"]


def test_a_diary_notes_every_chunk_and_what_was_found():
    loaded = tiny()
    diary = Diary(core.MPlusReader(loaded.model, loaded.tokenizer))
    first = diary.write("Short.")
    diary.write_all(["A longer text about the island of Tarn. " * 6, "Another text, about nothing at all. " * 6])
    chunks = sum(len(text.chunks) for text in diary.texts)
    assert len(diary.moments) == 1 + chunks and first.repeated > 1
    seen = diary.ask("What is Tarn?", max_new_tokens=2)
    assert len(seen.layers) == loaded.model.config.num_hidden_layers
    assert provenance(seen, diary.names).data
    twin = diary.fork()
    twin.reader.delete(1)
    assert [text.id for text in diary.texts] == [1, 2, 3] and [text.id for text in twin.texts] == [2, 3]
