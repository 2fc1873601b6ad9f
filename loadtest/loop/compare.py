"""`python -m loadtest compare A B`: what changed, beyond the noise, and where.

Exit codes, for CI: 0 nothing became worse, 1 something did, 3 nothing can be concluded: not even of
the server's CPU, or functions grew by more than its noise while its own figure tells no change.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from loadtest.loop import stacks
from loadtest.loop.flame_graph import differential
from loadtest.loop.functions import MIN_SAMPLES, FunctionChange, changes, per_request
from loadtest.report import pages
from loadtest.report.machine import sentence
from loadtest.report.noise import FIGURES, MIN_SECONDS, QUIET_SHARE, Difference, compare_figure, quiet
from loadtest.report.result_folder import STACKS_FILE, add_results, find, read_summary
from loadtest.report.terminal import console, print_table
from server.cli import output_file

#: What must be equal besides the code, and the options that change no figure.
MACHINE = ("cpu", "usable_cores", "kernel", "python", "packages")
OF_NO_ACCOUNT = {
    "name", "results", "open", "max_p99_ms", "max_error_rate", "min_rps", "no_profile", "code",
}  # fmt: skip
CANNOT_TELL = 3
COLOURS = {"worse": "red", "better": "green", "same": "dim", "unknown": "yellow"}


class Comparison(NamedTuple):
    """Two runs held against each other; `notes` say what weakens the comparison."""

    before: dict[str, Any]
    after: dict[str, Any]
    differences: list[Difference]
    functions: list[FunctionChange]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        """0 nothing became worse, 1 something did, 3 nothing can be concluded."""
        if any(d.verdict == "worse" for d in self.differences):
            return 1
        return CANNOT_TELL if self._cpu.verdict == "unknown" or self.grown else 0

    @property
    def grown(self) -> list[FunctionChange]:
        """The functions that grew beyond the noise, where the server's CPU should have told it and did not.

        All that changed must come to more than its floor on a quiet machine: what was moved from
        one function to another is no growth.
        """
        if self._cpu.verdict not in ("same", "unknown"):
            return []
        changed = [f for f in self.functions if not f.is_noise]
        floor_us = self._cpu.figure.floor * self._cpu.before[1]
        if not sum(f.change_us for f in changed) > floor_us:
            return []
        return [f for f in changed if f.change_us > 0]

    @property
    def _cpu(self) -> Difference:
        return next(d for d in self.differences if d.figure.key == "cpu_us_per_request")

    @property
    def differs(self) -> bool:
        """Whether any figure differs beyond the noise."""
        return any(d.verdict in ("better", "worse") for d in self.differences)

    @property
    def conclusion(self) -> str:
        """One sentence."""
        beyond = [d for d in self.differences if d.verdict in ("better", "worse")]
        if beyond:
            return "Different: " + ", ".join(f"{d.figure.label} {words(d)}" for d in beyond) + "."
        if self.grown:
            grown = ", ".join(f"{f.name} {f.change_us:+.1f} us" for f in self.grown)
            return f"Nothing can be concluded: the figures tell no difference, and functions grew ({grown})."
        if any(d.verdict == "unknown" for d in self.differences):
            return "No difference beyond the noise in what can be told on a busy machine."
        return "No difference beyond the noise."


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("before", metavar="A", help="the name of a run, or its folder")
    parser.add_argument("after", metavar="B", help="another")
    add_results(parser)
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON instead of tables")
    parser.add_argument(
        "--html", type=output_file, metavar="FILE", help="write a page with a differential flame graph"
    )


def main(options: argparse.Namespace) -> int:
    """Compare, print, and write the page; the exit code says whether something became worse."""
    before, after = (find(name, options.results) for name in (options.before, options.after))
    comparison = compare(before, after)
    if options.json:
        print(as_json(comparison).decode())
    else:
        print_comparison(comparison)
    if options.html:
        options.html.write_text(page(comparison, before, after))
        if not options.json:
            console.print(f"Page: {options.html}")
    return comparison.exit_code


def compare(before: Path, after: Path) -> Comparison:
    """Compare two folders of results."""
    a, b = read_summary(before), read_summary(after)
    notes = _notes(a, b)
    rows_a, rows_b = quiet(a["seconds"]), quiet(b["seconds"])
    busy = min(len(rows_a), len(rows_b)) < MIN_SECONDS
    if busy:
        rows_a, rows_b = ([r for r in s["seconds"] if r["measured"]] for s in (a, b))
        notes.append(
            f"Other work took more than {QUIET_SHARE:.0%} of the machine in all but a few seconds of a run: "
            "of throughput and latency nothing can be said, of CPU only a large change. "
            "Repeat the runs on a quiet machine."
        )
    differences = [
        compare_figure(f, [r[f.key] for r in rows_a], [r[f.key] for r in rows_b], busy=busy) for f in FIGURES
    ]
    functions = _functions(before, after, a, b)
    few = min((s["profile"].get("samples", MIN_SAMPLES) for s in (a, b)), default=MIN_SAMPLES)
    if functions and few < MIN_SAMPLES:
        notes.append(
            f"A recording has {few} samples of work, fewer than {MIN_SAMPLES}: of functions nothing can be "
            "said. Record for longer, or on a quiet machine."
        )
    return Comparison(a, b, differences, functions, notes)


def as_json(comparison: Comparison) -> bytes:
    """The comparison for programs; a figure's quartiles and its change are in the units of `summary.json`."""
    figures = {
        d.figure.key: {
            "verdict": d.verdict,
            "before": d.before,
            "after": d.after,
            "change": d.change,
            "interval": (d.low, d.high),
            "absolute": d.figure.absolute,
        }
        for d in comparison.differences
    }
    functions = [{**f._asdict(), "change_us": f.change_us, "noise": f.is_noise} for f in comparison.functions]
    document = {
        "before": comparison.before["name"],
        "after": comparison.after["name"],
        "conclusion": comparison.conclusion,
        "exit_code": comparison.exit_code,
        "figures": figures,
        "functions": functions,
        "notes": comparison.notes,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def words(difference: Difference) -> str:
    """A change in words: `+12 %`."""
    if difference.figure.absolute:
        return f"{difference.change * difference.figure.scale:+.2f} {difference.figure.unit}"
    return f"{difference.change:+.0%}".replace("%", " %")


def spread(figures: tuple[float, float, float], difference: Difference) -> str:
    """A median with its quartiles: `1.21 ms (1.18 to 1.30)`."""
    low, middle, high = (value * difference.figure.scale for value in figures)
    return f"{_digits(middle)} {difference.figure.unit} ({_digits(low)} to {_digits(high)})".replace(
        "  ", " "
    )


def interval(difference: Difference) -> str:
    """The bootstrap interval of a change."""
    low, high = difference.low, difference.high
    if difference.figure.absolute:
        scale = difference.figure.scale
        return f"{low * scale:+.2f} to {high * scale:+.2f} {difference.figure.unit}"
    return f"{low * 100:+.0f} to {high * 100:+.0f} %"


def print_comparison(comparison: Comparison) -> None:
    """The tables on the terminal."""
    console.print(
        f"{comparison.before['name']} -> {comparison.after['name']}: [bold]{comparison.conclusion}[/]"
    )
    headings = ("figure", "before", "after", "change", "99.5 % interval", "verdict")
    rows = (
        (
            d.figure.label,
            spread(d.before, d),
            spread(d.after, d),
            words(d),
            interval(d),
            f"[{COLOURS[d.verdict]}]{d.verdict}[/]",
        )
        for d in comparison.differences
    )
    print_table("", headings, rows)
    if comparison.functions:
        _print_functions(comparison.functions)
    for note in comparison.notes:
        console.print(note)


def page(comparison: Comparison, before: Path, after: Path) -> str:
    """The HTML page, with both directions of the differential flame graph."""
    graphs: tuple[str, ...] = ()
    if comparison.functions:
        a, b = (
            stacks.from_event_loop(per_request(stacks.read(folder / STACKS_FILE), us))
            for folder, us in ((before, _cpu_us(comparison.before)), (after, _cpu_us(comparison.after)))
        )
        graphs = differential(a, b)
    return pages.render(
        "compare.html",
        comparison=comparison,
        machines=[sentence(s["environment"]) for s in (comparison.before, comparison.after)],
        words=words,
        spread=spread,
        interval=interval,
        graphs=graphs,
    )


def _functions(before: Path, after: Path, a: dict[str, Any], b: dict[str, Any]) -> list[FunctionChange]:
    if not all((folder / STACKS_FILE).exists() for folder in (before, after)):
        return []
    return changes(
        stacks.read(before / STACKS_FILE), stacks.read(after / STACKS_FILE), _cpu_us(a), _cpu_us(b)
    )


def _cpu_us(summary: dict[str, Any]) -> float:
    return float(summary["totals"]["cpu_us_per_request"])


def _notes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs besides the code."""
    here, there = a["environment"], b["environment"]
    machine = [key for key in MACHINE if here[key] != there[key]]
    options, others = here["settings"], there["settings"]
    asked = sorted((options.keys() | others.keys()) - OF_NO_ACCOUNT)
    asked = [f"--{key.replace('_', '-')}" for key in asked if options.get(key) != others.get(key)]
    return [f"The runs differ in {what} too." for what in (*machine, *asked)]


def _print_functions(functions: list[FunctionChange]) -> None:
    rows = (
        (
            f.name,
            f"{f.before_us:.2f} us",
            f"{f.after_us:.2f} us",
            f"{f.change_us:+.2f} us",
            "[dim]noise[/]" if f.is_noise else "",
        )
        for f in functions
    )
    headings = ("function", "before", "after", "change", "")
    print_table("CPU of a request by Python function, largest change first", headings, rows)


def _digits(value: float) -> str:
    """Three digits at least, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
