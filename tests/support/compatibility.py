"""The tables of docs/compatibility.md: what a test saw, held against what the document says."""

import os
from collections.abc import Sequence
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"


def hold(section: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Fail unless the table of this section is the one made of these rows.

    With `COMPATIBILITY_WRITE=1` in the environment the section is written instead:
    a heading of the second level with its table, after the other sections.
    """
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    document = DOCUMENT.read_text(encoding="utf-8")
    head, found, rest = document.partition(f"## {section}\n")
    _, _, after = rest.partition("\n## ")
    if os.environ.get("COMPATIBILITY_WRITE") == "1":
        tail = f"\n## {after}" if after else ""
        head = head if found else head.rstrip("\n") + "\n\n"
        DOCUMENT.write_text(f"{head}## {section}\n\n{table}\n{tail}", encoding="utf-8")
        return
    written = rest[: len(rest) - len(after)].split("\n## ")[0].strip()
    assert written == table, f"docs/compatibility.md, {section}: run the test with COMPATIBILITY_WRITE=1"
