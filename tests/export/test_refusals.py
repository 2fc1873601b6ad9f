"""Every refusal of a model says what to do: whoever reads it did not write the exporter."""

import ast
from collections.abc import Iterator
from pathlib import Path

#: Where a description or a table is read what was expected is what to write.
WRITTEN_BY_HAND = ("export/reading/", "export/evaluation/", "export/command.py")
#: Those put together of words that hold the way out.
OTHERWISE = (
    "f'{words}; {advice}'",
    "f'{expected} ({_short(error)}): {mend}'",
    "{_advice(conversion)}",
    "{other}",
)


def refusals() -> Iterator[tuple[str, str]]:
    """Where each stands, and its words as they are in the source."""
    for path in sorted(Path("export").rglob("*.py")):
        if path.as_posix().startswith(WRITTEN_BY_HAND):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ExportRefused":
                (words,) = node.args
                if isinstance(words, ast.Constant | ast.JoinedStr):
                    yield f"{path}:{node.lineno}", ast.unparse(words)


def test_every_refusal_says_what_to_do() -> None:
    """What came is followed by a colon or a semicolon, and what to do."""
    found = dict(refusals())
    lacking = {
        place: text
        for place, text in found.items()
        if not any(mark in text.rpartition("got")[2].removeprefix(":") for mark in (": ", "; "))
        and not any(words in text for words in OTHERWISE)
    }
    assert len(found) > 50
    assert not lacking
