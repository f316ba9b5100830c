"""The tasks of `python -m core.evaluate`, one module each, over metrics, texts and resumable records.

A task sees readers through their protocol. Retention alone also knows a faster way (`core.replay`) to the same answers.
"""
