"""Choosing the model: a shipped one, a folder, or a hub name."""

import gradio as gr

from .. import panels
from .shell import MODEL, Page, guarded


class ModelPicker:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        models = self.page.registry.models
        with gr.Accordion("Model", open=False):
            with gr.Row(elem_classes="level"):
                self.name = gr.Dropdown(models.names(), value=models.default, label="A shipped model, a folder, or a hub name such as YuWangX/mplus-8b",
                                        allow_custom_value=True, min_width=260)  # fmt: skip
                self.load = gr.Button("Load: a new, empty memory", min_width=200)
            self.note = gr.HTML(
                panels.progress("What cannot work on this machine is said before it is loaded."), padding=False
            )

    def wire(self) -> None:
        page = self.page
        page.then_redraw(self.load.click(guarded(self.on_load), self.name, self.note, show_progress="minimal", **MODEL))

    def on_load(self, name: str, request: gr.Request) -> str:
        session = self.page.session(request)
        loaded = self.page.registry.models.get(name or "")
        session.start(loaded)
        return panels.progress(f"{loaded.name} is ready; its memory is its checkpoint's own.")
