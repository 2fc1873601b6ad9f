"""A decision to hand on: the request, the answer, and the same call for a shell."""

import json
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from ui.words.text import Text, tag

#: Where rows are sent to, of the first model.
PREDICT = "/predict"
_SUMMARY = Text("Share: JSON and curl", "Partager : JSON et curl")
_REQUEST = Text("The request", "La requête")
_ANSWER = Text("The answer", "La réponse")
_CALL = Text("The same call as curl", "Le même appel avec curl")
_COPY = Text("Copy", "Copier")
_DOWNLOAD = Text("Save as JSON", "Enregistrer en JSON")
_NOTE = Text(
    "Nothing is kept by the page: what you copy or save is yours to protect.",
    "La page ne garde rien : ce que vous copiez ou enregistrez est à protéger par vous.",
)


def shared(row: Mapping[str, Any], document: Mapping[str, Any], path: str = PREDICT) -> str:
    """The part below an answer; `verdict.js` gives its buttons their work."""
    blocks = (
        _block("request", _REQUEST, escape(_pretty(row))),
        _block("answer", _ANSWER, escape(_pretty(document))),
        _block("curl", _CALL, _curl(row, path)),
    )
    save = tag("button", _DOWNLOAD, type="button", class_="save")
    return (
        f'<details class="share">{tag("summary", _SUMMARY)}{"".join(blocks)}'
        f"{save}{tag('p', _NOTE, class_='note')}</details>"
    )


def curl(address: str, row: Mapping[str, Any], path: str = PREDICT) -> str:
    """A command for a shell that sends one row to be scored."""
    body = shlex.quote(json.dumps(row, ensure_ascii=False))
    return f"curl -sS {address}{path} -H 'Content-Type: application/json' -d {body}"


def _curl(row: Mapping[str, Any], path: str) -> str:
    """The command with this page's own address, which only the browser knows."""
    before, after = curl("ADDRESS", row, path).split("ADDRESS", 1)
    return f"{escape(before)}<span data-origin></span>{escape(after)}"


def _pretty(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _block(name: str, heading: Text, content: str) -> str:
    copy = tag("button", _COPY, type="button", class_="copy")
    return (
        f'<div class="block"><div class="block-head">{tag("h3", heading)}{copy}</div>'
        f'<pre tabindex="0" data-block="{name}">{content}</pre></div>'
    )
