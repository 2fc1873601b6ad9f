"""The templates of this folder's pages."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def _plot(title: str, svg: str) -> Markup:
    """A drawing of ours, named for those who do not see it; a narrow screen scrolls it."""
    named = svg.replace("<svg ", Markup('<svg role="img" aria-label="{}" ').format(title), 1)
    return Markup('<div class="scroll">{}</div>').format(Markup(named))


def templates_of(folder: Path) -> Environment:
    """The templates in a folder, which write what they are given as text, and miss nothing unsaid."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


templates = templates_of(Path(__file__).parent)
templates.globals["plot"] = _plot
