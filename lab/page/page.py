"""The whole page: what is above the tabs, the tabs, and what happens when it is opened and closed."""

import time

import gradio as gr

from .api import add_endpoints
from .compare_tab import CompareTab
from .lab_tab import LabTab
from .learn_tab import LearnTab
from .memory_tab import MemoryTab
from .model_picker import ModelPicker
from .resources_tab import ResourcesTab
from .retrieval_tab import RetrievalTab
from .shell import ALL, DRAW, KEEP, QUIET, Page, guarded
from .training_tab import TrainingTab

TABS = (
    ("lab", "Lab", LabTab),
    ("memory", "Memory", MemoryTab),
    ("retrieval", "Retrieval", RetrievalTab),
    ("compare", "Compare", CompareTab),
    ("resources", "Resources", ResourcesTab),
    ("training", "Training", TrainingTab),
    ("learn", "Learn", LearnTab),
)


def build(page: Page) -> gr.Blocks:
    """The page as gradio blocks, ready to launch."""
    with gr.Blocks(title="M+ Lab", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        page.build_top()
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                page.build_selection()
            with gr.Column(scale=2, min_width=320):
                picker = ModelPicker(page)
                picker.build()
        tabs, built = {}, {}
        with gr.Tabs() as bar:
            for key, name, kind in TABS:
                with gr.Tab(name, id=key, elem_id=f"tab-{key}") as tabs[key]:
                    built[key] = kind(page)
                    built[key].build()
        for part in (picker, *built.values()):
            part.wire()  # only now are all the charts there that an event may have to redraw
        for key, tab in tabs.items():
            event = tab.select(None, None, page.tab, js=f"() => '{key}'")
            event.then(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        for selector in (page.text, page.layer, page.slot):
            selector.input(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        cleared = page.clear.click(lambda: (0, ALL, None), None, [page.text, page.layer, page.slot], **QUIET)
        cleared.then(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        stepped = [page.step.release, page.step.input]  # by mouse, and by keyboard
        gr.on(stepped, guarded(page.draw), page.selectors, page.drawn, **DRAW)
        for steps in (page.guide, built["learn"].steps):
            event = steps.select(guarded(open_tab), None, [bar, page.tab], **QUIET)
            event.then(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        resources = built["resources"]
        page.key.change(None, page.key, None, js=KEEP)
        opened = blocks.load(guarded(offer(page)), page.key, [page.restore_row, page.saved], js=KEEP, **QUIET)
        page.then_redraw(opened).then(resources.on_plan, resources.inputs, resources.planned, **QUIET)
        restored = page.restore.click(guarded(restore(page)), page.saved, page.restore_row, preprocess=False, **QUIET)
        page.then_redraw(restored)
        page.start_new.click(lambda: gr.Row(visible=False), None, page.restore_row, **QUIET)
        blocks.unload(page.leave)
        add_endpoints(page)
    return blocks


def open_tab(event: gr.SelectData) -> tuple[gr.Tabs, str]:
    """The tab that a step of the guide is done in."""
    key = next((key for key, _, _ in TABS if key == event.value), TABS[0][0])
    return gr.Tabs(selected=key), key


def offer(page: Page):
    """What this browser wrote and is still there, newest first."""

    def handler(keys: list[str], request: gr.Request):
        own, found = page.session(request).key, [(page.registry.saved(key), key) for key in reversed(keys)]
        offers = [(described(saved), key) for saved, key in found if saved and key != own]
        newest = offers[0][1] if offers else None
        return gr.Row(visible=bool(offers)), gr.Dropdown(choices=offers, value=newest)

    return handler


def described(saved: dict) -> str:
    """A saved session in words."""
    texts = f"{saved['texts']} text{'' if saved['texts'] == 1 else 's'}" if "texts" in saved else "Texts"
    where = f"{texts} on {saved['model']}"
    passed = time.time() - max(saved.get("done", {}).values(), default=time.time())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := int(passed / length)) > 0:
            return f"{where}, {count} {unit}{'' if count == 1 else 's'} ago"
    return f"{where}, just now"


def restore(page: Page):
    def handler(key: str, request: gr.Request):
        page.registry.restore(request.session_hash or "direct", key)
        return gr.Row(visible=False)

    return handler
