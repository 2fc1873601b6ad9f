"""The page of results: the last outcome of every fault, with its date and machine."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from loadtest.faults.outcome import FaultOutcome

#: What became of one fault.
Result: TypeAlias = dict[str, Any]

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
INTRODUCTION = """# Faults

Written by `make faults`, `make fuzz` and `make soak`: the last run of each fault of the plan in
[reliability.md](../reliability.md), which says how each is done and what it must reach. *Lost* are answers
without a line in the log, *wrong* are answers or lines that differ from the trained model's score by a bit.

| | fault | date | | sent | ok | shed | failed | lost | twice | wrong | recovered |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
#: What a section of the page begins with; its key and a colon follow.
_SECTION = "\n## "


class FaultText(NamedTuple):
    """One fault on the page: its row of the table, and its section."""

    row: str
    section: str


def entry(
    outcome: FaultOutcome, title: str, seconds: float, machine: str, *, short: bool, skipped: str = ""
) -> Result:
    """What became of one fault, with its date and machine."""
    state = SKIPPED if skipped else FAILED if outcome.broken else PASSED
    return {
        "title": title,
        "state": state,
        "reason": skipped,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds),
        "short": short,
        "machine": machine,
        **outcome.document(),
    }


def read(file: Path) -> dict[str, FaultText]:
    """The faults of a page, by key; none if there is no file."""
    table, *sections = file.read_text().split(_SECTION) if file.exists() else [""]
    rows = {line.split()[1]: line for line in table.splitlines() if line.startswith("| F")}
    keys = [section.partition(":")[0] for section in sections]
    return {key: FaultText(rows[key], section) for key, section in zip(keys, sections, strict=True)}


def write(faults: Mapping[str, FaultText], file: Path) -> None:
    """Write the page, in the order of the keys' numbers."""
    ordered = [text for _, text in sorted(faults.items(), key=lambda item: int(item[0][1:]))]
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{text.row}\n" for text in ordered)
    file.write_text(INTRODUCTION + rows + "".join(_SECTION + text.section for text in ordered))


def text_of(key: str, result: Mapping[str, Any]) -> FaultText:
    """A fault as the page has it."""
    return FaultText(_row(key, result), "\n".join(_details(key, result)))


def _row(key: str, result: Mapping[str, Any]) -> str:
    state = result["state"] + (" (short)" if result["short"] else "")
    failed = ", ".join(f"{count:,} {kind}" for kind, count in result["failed"].items()) or "0"
    seconds = result["recover_seconds"]
    numbers = (f"{result[name]:,}" for name in ("sent", "ok", "shed"))
    agreed = (f"{result[name]:,}" for name in ("lost", "duplicate", "wrong"))
    cells = [
        key, result["title"], result["date"], state, *numbers, failed, *agreed,
        "" if seconds is None else f"{seconds:g} s",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _details(key: str, result: Mapping[str, Any]) -> list[str]:
    lines = [f"{key}: {result['title']}", ""]
    if result["state"] == SKIPPED:
        lines += [f"Skipped on {result['date']}: {result['reason']}.", ""]
        return lines
    lines.append(f"{result['date']}, {result['seconds']} s. {result['machine']}.")
    lines.append("")
    for check in result["checks"]:
        mark = "reached" if check["holds"] else "**not reached**"
        lines.append(f"- {check['fact']}: {check['found'] or ('yes' if check['holds'] else 'no')}, {mark}")
    lines += [f"- {name}: {value}" for name, value in result["figures"].items()]
    lines.append("")
    return lines
