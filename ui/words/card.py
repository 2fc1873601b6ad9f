"""The model card as HTML: Markdown of the bundle, rendered here, with no raw HTML of it let through."""

import re
from itertools import count

from markdown_it import MarkdownIt

#: The page has its own headings of the first two levels.
_DEEPER = 2
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_TABLE = '<div class="scroll" tabindex="0" role="region" aria-label="Table {}"><table>'


def card_html(markdown: str) -> str:
    """The card without its front matter; headings two levels deeper, tables that scroll by themselves."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_FRONT_MATTER.sub("", markdown))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + _DEEPER)}"
    html: str = parser.renderer.render(tokens, parser.options, {})
    # Markdown's empty corner of a table is no header of anything.
    html = html.replace("<th></th>", "<td></td>").replace("</table>", "</table></div>")
    numbers = count(1)
    return re.sub("<table>", lambda _: _TABLE.format(next(numbers)), html)
