"""The results file: the last outcome of every fault, with its date and machine."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from loadtest.faults.outcome import FaultOutcome

#: One fault's part of the results file.
Result: TypeAlias = dict[str, Any]

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
INTRODUCTION = """# Faults

Written by `make faults`, `make fuzz` and `make soak`: the last run of each fault of the plan in
[reliability.md](../reliability.md), which says how each is done and what it must reach. *Lost* are answers
without a line in the log, *wrong* are answers or lines that differ from the trained model's score by a bit.
"""


def entry(
    outcome: FaultOutcome, title: str, seconds: float, machine: str, *, short: bool, skipped: str = ""
) -> Result:
    """One fault's part of the results."""
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


def read(file: Path) -> dict[str, Any]:
    """The results there are; none if there is no file."""
    if not file.exists():
        return {}
    results: dict[str, Any] = orjson.loads(file.read_bytes())
    return results


def write(results: Mapping[str, Any], file: Path) -> None:
    """Write the results as JSON, and as a page of the same name."""
    ordered = dict(sorted(results.items(), key=lambda item: int(item[0][1:])))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps(ordered, option=orjson.OPT_INDENT_2) + b"\n")
    file.with_suffix(".md").write_text(_page(ordered))


def _page(results: Mapping[str, Any]) -> str:
    lines = [
        INTRODUCTION,
        "| | fault | date | | sent | ok | shed | failed | lost | twice | wrong | recovered |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(key, result) for key, result in results.items()),
        "",
        *(line for key, result in results.items() for line in _details(key, result)),
    ]
    return "\n".join(lines)


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
    lines = [f"## {key}: {result['title']}", ""]
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
