"""Gradio, imported in half the time.

At each import it reads the source of every component to write an interface file
(`gradio.component_meta`), which nobody reads here: half of what an import costs. It
leaves out what has no source file, and so it does while it is imported here.
"""

import inspect
from typing import Any

_file_of = inspect.getfile


def _file_of_others(of: Any) -> str:
    if isinstance(of, type) and of.__module__.startswith("gradio."):
        raise OSError("an interface file is not wanted")
    return _file_of(of)


inspect.getfile = _file_of_others  # type: ignore[assignment]  # its parameter is called `object`
try:
    import gradio as gr
finally:
    inspect.getfile = _file_of

__all__ = ["gr"]
