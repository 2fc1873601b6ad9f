"""The accessibility tree of a page as text: what a screen reader has to speak from."""

from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page

#: Of a node's properties, what is said of its state.
_STATES = ("invalid", "checked", "selected", "pressed", "expanded", "busy", "required", "valuetext")
_SILENT = ("none", "generic", "InlineTextBox", "StaticText", "LineBreak", "ListMarker")


def spoken_tree(page: Page) -> list[str]:
    """A line for each node that says something: role, name, description and states, in the tree's order."""
    session = page.context.new_cdp_session(page)
    try:
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    finally:
        session.detach()
    lines = [_line(node) for node in nodes if not node["ignored"]]
    return [line for line in lines if line]


def _line(node: Mapping[str, Any]) -> str:
    role, name, described = (_value(node, member) for member in ("role", "name", "description"))
    if role in _SILENT or not (name or described):
        return ""
    states = {p["name"]: p["value"].get("value") for p in node.get("properties", ())}
    said = [
        f"{name_}={states[name_]}" for name_ in _STATES if states.get(name_) not in (None, "", False, "false")
    ]
    return " ".join(filter(None, (role, f'"{name}"', described and f"({described})", *said))).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def _value(node: Mapping[str, Any], member: str) -> str:
    return str(node.get(member, {}).get("value", ""))
