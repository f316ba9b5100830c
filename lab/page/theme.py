"""Colours, fonts and sizes: gradio's bundled fonts only, contrast of 4.5 and more in light and dark."""

from pathlib import Path

from gradio import themes


def theme() -> themes.Base:
    looks = themes.Default(primary_hue="blue", neutral_hue="slate", radius_size="md", text_size="md")
    return looks.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        block_shadow="none",
    )


CSS = (Path(__file__).parent / "page.css").read_text()
