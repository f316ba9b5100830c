"""The page: layout and wiring of every tab. The only place, with app.py, that knows gradio."""
