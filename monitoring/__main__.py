"""`python -m monitoring`: what the prediction log tells."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from server.cli import CommandParser, input_file, output_file, run
from server.errors import number_of

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

    from monitoring.drift.comparison import DriftReport
    from monitoring.drift.timeline import Period, Since
    from monitoring.logs.erasure import Erasure
    from monitoring.logs.subject import DataSubject
    from server.model.bundle import Bundle

#: Adds a command, as `_command` does.
Adder: TypeAlias = Callable[..., argparse.ArgumentParser]

#: What was looked for was found: drift, a loss, a response that would differ today.
FOUND = 3
#: Of a log nothing is missing as far as can be known, but the end of it is not vouched for.
NOT_PROVABLE = 4
#: A report of less time has vintages of weeks.
_TWO_MONTHS = 62 * 86_400


def main(arguments: Sequence[str]) -> int:
    """Parse the options and run one command."""
    parser = CommandParser("python -m monitoring", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_commands in (_add_drift, _add_log, _add_outcomes):
        add_commands(partial(_command, commands))
    options = parser.parse_args(arguments)
    from monitoring.tables import standard_output  # the options are told without it

    run_command: Callable[[argparse.Namespace, Console], int] = options.run
    return run_command(options, standard_output())


def _add_drift(command: Adder) -> None:
    """What a log says, and how far its rows moved."""
    report = command(
        "report", _report, "figures and plots of a log, in the terminal and as one HTML page", json=True
    )
    report.add_argument(
        "--html", type=output_file, default="runs/report.html", help="page to write [%(default)s]"
    )
    report.add_argument(
        "--check",
        action="store_true",
        help="exit 3 if a column drifted, outcomes are worse or lines are missing, for scripts",
    )
    _add_outcomes_file(report, "as of `performance` and `challenge`: what became of the decisions")
    report.add_argument("--metrics", type=_page, help="a server's /metrics, URL or file, for the error rate")
    drift = command(
        "drift",
        _drift,
        "drift of logs or CSV files against the training data; exits 3 on drift",
        json=True,
        log="log files, folders of them, or CSV files",
    )
    drift.add_argument(
        "--by",
        choices=("hour", "day", "week", "month"),
        help="judge each such period (UTC) by itself, and say since when, or from when to when",
    )
    drift.add_argument(
        "--against",
        nargs=2,
        type=_moment,
        metavar="TIME",
        help="compare with the lines between two times instead of training; looked at are those after",
    )
    drift.add_argument(
        "--segment",
        default="",
        metavar="FIELD",
        help="with --against: within each value of a field too",
    )
    _add_gauges(drift)
    for parser in (report, drift):
        for name, meaning in (("--since", "lines from this time on"), ("--until", "lines before this time")):
            parser.add_argument(name, type=_moment, metavar="TIME", help=f"{meaning}, UTC: 2026-03-01T14:00")


def _add_log(command: Adder) -> None:
    """The log itself: scored again, proven whole, searched, and somebody taken out of it."""
    command("replay", _replay, "score a log again; exits 3 if the bundle that wrote it disagrees", json=True)
    verify = command(
        "verify-log",
        _verify,
        "prove that no line was lost; exits 3 if one was, 4 if it cannot be proved",
        model=False,
        json=True,
    )
    verify.add_argument(
        "--key-file", type=input_file, metavar="FILE", help="look at the seals too: HOTROW_LOG_KEY_FILE"
    )
    verify.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="SEAL",
        help="a seal that was kept elsewhere must be there",
    )
    erase = command(
        "erase",
        _erase,
        "take one subject's rows out of a log, told to its journal",
        model=False,
        json=True,
    )
    whose = erase.add_mutually_exclusive_group(required=True)
    whose.add_argument("--subject", metavar="HASH", help="the hash that stands for a field in the log")
    whose.add_argument("--value", metavar="FIELD=VALUE", help="the value itself, with --key-file")
    _add_whose(whose)
    erase.add_argument("--key-file", type=input_file, metavar="FILE", help="the server's HOTROW_LOG_KEY_FILE")
    find = command(
        "find",
        _find,
        "the lines of an id, a caller or a field, as JSON; exits 3 if there are none",
        model=False,
    )
    find.add_argument(
        "--model", type=Path, metavar="DIR", help="bundle to compute an id's again with [those in models/]"
    )
    which = find.add_mutually_exclusive_group(required=True)
    which.add_argument("--caller", metavar="NAME", help="the name of a key, or of a client's certificate")
    find.add_argument("--key-file", type=input_file, metavar="FILE", help="the server's HOTROW_LOG_KEY_FILE")
    _add_whose(which)


def _add_outcomes(command: Adder) -> None:
    """What became of the decisions: by outcomes, by groups, beside a challenger."""
    told = command("outcomes", None, "outcomes that came, kept beside the log", model=False, log="")
    adding = told.add_subparsers(required=True, metavar="add")
    add = _command(
        adding, "add", _add, "write the outcomes of a file down, beside the log", json=True, log=""
    )
    add.add_argument("log", type=Path, metavar="LOG", help="folder of the log, or a file in it")
    add.add_argument("file", type=input_file, metavar="FILE", help="CSV, NDJSON or JSON: KEY, outcome, at")
    measured = command(
        "performance",
        _performance,
        "how good the scores were, by outcomes; exits 3 if worse than promised",
        json=True,
    )
    _add_outcomes_file(measured, "instead of those beside the log; without any, what is expected")
    measured.add_argument("--by", choices=("day", "week", "month"), default="month", help="vintages [month]")
    measured.add_argument(
        "--segment", default="", metavar="FIELD", help="figures for each value of a field too"
    )
    _add_gauges(measured)
    measured.add_argument(
        "--keep",
        action="store_true",
        help="keep the figures in LOG, for /metrics and page",
    )
    fair = command(
        "fairness", _fairness, "decisions by group; exits 3 where one is accepted too seldom", json=True
    )
    fair.add_argument("--by", required=True, metavar="FIELD", help="a field of the rows, also of context")
    fair.add_argument(
        "--cuts", type=_numbers, default=(), metavar="25,40", help="groups of a number: cut here"
    )
    _add_outcomes_file(fair, "errors by group too; without, by those beside the log")
    for parser in (measured, fair):
        parser.add_argument(
            "--html", type=output_file, metavar="FILE", help="write the figures as a page too"
        )
    challenge = command(
        "challenge",
        _challenge,
        "what a challenger said of the same rows; exits 3 if it costs more",
        json=True,
    )
    _add_outcomes_file(challenge, "costs and AUC too; without, by those beside the log")
    month = command(
        "simulate-month", _simulate_month, "a month of decisions and outcomes with a fault to find", log=""
    )
    month.add_argument("out", type=Path, metavar="OUT", help="folder to write logs/ and outcomes.csv into")
    month.add_argument("--rows-a-day", type=int, default=1000, metavar="N", help="[1000]")


def _command(
    commands: "argparse._SubParsersAction[Any]",
    name: str,
    run_: object,
    meaning: str,
    *,
    model: bool = True,
    json: bool = False,
    log: str = "log files, or folders of them",
) -> argparse.ArgumentParser:
    """A command: whether a bundle is named to it and it prints JSON, and what it reads, "" if nothing."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=meaning, description=meaning)
    parser.set_defaults(run=run_)
    if model:
        parser.add_argument(
            "--model", type=Path, metavar="DIR", help="bundle [the one in models/ that wrote the log]"
        )
        parser.add_argument(
            "--lines", metavar="NAME[@VERSION]", help="look at the lines of this model [of the bundle]"
        )
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    if log:
        parser.add_argument("log", nargs="+", type=Path, metavar="LOG", help=log)
    return parser


def _add_outcomes_file(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--outcomes", type=input_file, metavar="FILE", help=meaning)


def _add_whose(group: "argparse._MutuallyExclusiveGroup") -> None:
    meaning = "the id of a response, or a client's of a row, a request or a trace (may be repeated)"
    group.add_argument("--id", action="append", help=meaning)
    group.add_argument("--request-id", action="append", dest="id", help="the same")
    group.add_argument("--context", metavar="FIELD=VALUE", help="rows with this field of context, or input")


def _add_gauges(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--textfile", type=output_file, metavar="FILE", help="write gauges for node_exporter too"
    )
    parser.add_argument("--push", metavar="URL", help="push these gauges to a Prometheus Pushgateway")


def _print(
    options: argparse.Namespace, console: "Console", document: object, printed: Callable[[], object]
) -> None:
    """One JSON object where that is asked for, else what is printed for people."""
    import orjson

    if options.json:
        console.print_json(orjson.dumps(document).decode())
    else:
        printed()


# Each command imports what it needs: `verify-log` need not wait for the plots.


def _report(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.errors import LogError
    from monitoring.logs.lines import bundle_for
    from monitoring.outcomes.challenge import challenges
    from monitoring.outcomes.performance import TASKS, outcome_report
    from monitoring.report.figures_page import outcome_parts
    from monitoring.report.page import render
    from monitoring.report.report import make_report
    from monitoring.report.terminal import print_report

    bundle = bundle_for(options.log, options.model, options.lines)
    between = (options.since, options.until)
    if bundle is None and options.outcomes is not None:
        raise LogError(
            "expected the champion's bundle, for the costs of --outcomes, got none: name it with --model DIR"
        )
    challenged = challenges(options.log, bundle, options.outcomes, False, *between) if bundle else []
    report = make_report(options.log, bundle, options.metrics, options.lines, *between, challenged)
    parts = []
    # Lines that name no model are of the first servers, whose decisions have no key.
    if bundle is not None and bundle.task in TASKS and (report.figures.models or options.outcomes):
        by = "week" if report.figures.seconds < _TWO_MONTHS else "month"
        told = outcome_report(options.log, bundle, options.lines, options.outcomes, by, "", *between)
        report, parts = replace(report, outcomes=told), outcome_parts(told)
    options.html.write_text(render(report, parts), encoding="utf-8")
    _print(options, console, report.to_dict(), lambda: print_report(report, console, options.html))
    return FOUND if options.check and report.has_findings else 0


def _drift(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.drift.comparison import drift_of_files
    from monitoring.drift.csv_rows import CSV_SUFFIXES
    from monitoring.errors import LogError
    from monitoring.logs.lines import required_bundle

    if options.segment and not options.against:
        raise LogError(
            "expected --against FROM UNTIL beside --segment, got none: the rows of one value are compared "
            "with its own rows before, as they differ from all rows of training"
        )
    if options.by and options.against:
        raise LogError("expected --by or --against, got both: hours and days are compared with training")
    bundle = required_bundle(options.log, options.model, options.lines)
    if not all(path.name.lower().endswith(CSV_SUFFIXES) for path in options.log):
        return _drift_of_log(options, bundle, console)
    if options.by or options.since or options.until or options.against or options.segment:
        raise LogError(
            "expected a log for --by, --since, --until, --against and --segment, got CSV files: no times"
        )
    return _say_drift(drift_of_files(options.log, bundle), [], [], options, console)


def _drift_of_log(options: argparse.Namespace, bundle: "Bundle", console: "Console") -> int:
    from monitoring.drift.comparison import drift_of_log
    from monitoring.drift.earlier import reference_of_period
    from monitoring.drift.segments import drift_of_segments, references_of_segments, with_segments
    from monitoring.drift.timeline import since, timeline, to_the_hour
    from monitoring.logs.lines import keep_lines, keep_time
    from monitoring.logs.table import open_log

    start, before, parts = options.since, None, {}
    with open_log(options.log, bundle.schema, options.segment) as log:
        wanted = keep_lines(log, bundle, options.lines)
        if options.against:
            before = reference_of_period(log, bundle, *options.against)
            start = start or options.against[1]
        if options.segment:
            parts = references_of_segments(log, bundle, *options.against)
        keep_time(log, wanted, start, options.until)
        periods = timeline(log, bundle, options.by) if options.by else []
        begun = to_the_hour(log, bundle, since(periods), options.by) if periods else []
        drift = drift_of_log(log, bundle, before)
        if parts:
            drift = with_segments(drift, drift_of_segments(log, bundle, parts), options.segment)
        return _say_drift(drift, periods, begun, options, console)


def _say_drift(
    drift: "DriftReport",
    periods: "list[Period]",
    begun: "list[Since]",
    options: argparse.Namespace,
    console: "Console",
) -> int:
    from monitoring.drift.textfile import drift_gauges
    from monitoring.drift.timeline import passed, to_dicts
    from monitoring.gauges import put_gauges
    from monitoring.report.terminal import print_drift, print_timeline

    put_gauges(drift_gauges(drift), "hotrow_drift", drift.model, options.textfile, options.push)
    dates = {one.name: one.start.isoformat() + "Z" for one in begun}
    over = passed(periods)
    ended = [{"name": one.name, "start": f"{one.start:%FT%TZ}", "end": f"{one.end:%FT%TZ}"} for one in over]
    more = {"periods": to_dicts(periods), "since": dates, "passed": ended} if periods else {}

    def printed() -> None:
        print_drift(drift, console)
        print_timeline(periods, begun, over, console)

    _print(options, console, drift.to_dict() | more, printed)
    return FOUND if drift.found or any(period.drift.drifted for period in periods) else 0


def _moment(text: str) -> "datetime":
    from monitoring.logs.lines import moment

    try:
        return moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-03-01T14:00, got {text!r}") from None


def _replay(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.logs.lines import required_bundle
    from monitoring.logs.replay import replay
    from monitoring.report.terminal import print_replay

    bundle = required_bundle(options.log, options.model, options.lines)
    result = replay(options.log, bundle, options.lines)
    _print(options, console, result.to_dict(), lambda: print_replay(result, console))
    return FOUND if result.disagreeing else 0


def _verify(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.errors import LogError
    from monitoring.logs.seals import check_seals
    from monitoring.logs.verification import LogVerdict, verify
    from monitoring.logs.verification_text import print_beside, print_seals, print_verification

    key = _key(options)
    if options.anchor and key is None:
        raise LogError("expected --key-file beside --anchor, got none")
    checked = verify(options.log)
    seals = check_seals(checked.files, key, options.anchor) if key is not None else None

    def printed() -> None:
        print_verification(checked, console)
        print_beside(checked.files, console)
        print_seals(seals, checked.files, console)

    _print(options, console, checked.to_dict() | {"seals": asdict(seals) if seals else None}, printed)
    if seals is not None and seals.faults:
        return FOUND
    return {LogVerdict.WHOLE: 0, LogVerdict.NOT_PROVABLE: NOT_PROVABLE, LogVerdict.MISSING: FOUND}[
        checked.verdict
    ]


def _key(options: argparse.Namespace) -> bytes | None:
    import os

    from server.log.masked import read_key

    return read_key(options.key_file, Path(os.devnull)) if options.key_file else None


def _whose(options: argparse.Namespace) -> "DataSubject":
    """Whose rows `erase` or `find` means: one of the options of the group is there."""
    from monitoring.logs.subject import Hashed, OfCaller, ResponseIds, of_context, subject_of

    asked = vars(options)
    if options.id:
        return ResponseIds(options.id)
    if options.context is not None:
        return of_context(options.context, options.key_file, options.log)
    if asked.get("caller") is not None:
        return OfCaller(options.caller)
    if asked.get("subject") is not None:
        return Hashed(options.subject)
    return subject_of(options.value, options.key_file, options.log)


def _erase(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.logs.erasure import erase

    done = erase(options.log, _whose(options), _key(options))
    _print(options, console, done.to_dict(), lambda: _print_erasure(done, console))
    return 0 if done.is_complete else FOUND


def _print_erasure(done: "Erasure", console: "Console") -> None:
    from rich.markup import escape

    console.print(
        f"{number_of(done.lines, 'line')}, and {number_of(done.rows, 'row')} of batches, erased from "
        f"{number_of(len(done.files), 'file')}."
        + (f" Beside: {number_of(done.reviews, 'review')}." if done.reviews else "")
        + (f" Beside: {number_of(done.outcomes, 'outcome')}." if done.outcomes else ""),
        soft_wrap=True,
    )
    for file in done.in_use:
        console.print(
            f"[red]{file} is being written and has the subject too:[/] run this again when it is closed, "
            "after HOTROW_LOG_FILE_SECONDS or when its server has stopped.",
            soft_wrap=True,
        )
    for sentence in done.unsearched:
        console.print(f"[red]Not searched:[/] {escape(sentence)}.", soft_wrap=True)


def _add(options: argparse.Namespace, console: "Console") -> int:
    from rich.markup import escape

    from monitoring.logs.lines import required_bundle
    from monitoring.outcomes.adding import add_outcomes

    bundle = required_bundle([options.log], options.model, options.lines)
    added = add_outcomes(options.log, options.file, bundle)
    _print(
        options,
        console,
        added.to_dict(),
        lambda: console.print(escape(added.sentence), soft_wrap=True),
    )
    return 0


def _performance(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.gauges import put_gauges
    from monitoring.logs.lines import required_bundle
    from monitoring.outcomes.performance import outcome_report
    from monitoring.outcomes.promised import keep, measured_of, outcome_gauges
    from monitoring.outcomes.terminal import print_outcomes

    bundle = required_bundle(options.log, options.model, options.lines)
    report = outcome_report(options.log, bundle, options.lines, options.outcomes, options.by, options.segment)
    measured = measured_of(report, bundle)
    if options.keep:
        keep(options.log, measured)
    put_gauges(outcome_gauges(measured), "hotrow_outcomes", report.model, options.textfile, options.push)
    if options.html:
        from monitoring.report.figures_page import render_outcomes  # matplotlib takes a second

        options.html.write_text(render_outcomes(report), encoding="utf-8")
    _print(options, console, report.to_dict(), lambda: print_outcomes(report, console))
    return FOUND if report.worse else 0


def _fairness(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.logs.lines import required_bundle
    from monitoring.outcomes.fairness import fairness
    from monitoring.outcomes.terminal import print_fairness

    bundle = required_bundle(options.log, options.model, options.lines)
    groups = fairness(options.log, bundle, options.by, options.cuts, options.lines, options.outcomes)
    model = options.lines or bundle.label
    if options.html:
        from monitoring.report.figures_page import render_fairness  # matplotlib takes a second

        options.html.write_text(render_fairness(groups, model, options.by), encoding="utf-8")
    content = {"model": model, "by": options.by, "groups": [group.to_dict() for group in groups]}
    _print(options, console, content, lambda: print_fairness(groups, console))
    return FOUND if any(group.adverse for group in groups) else 0


def _challenge(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.logs.lines import required_bundle
    from monitoring.outcomes.challenge import challenges
    from monitoring.outcomes.terminal import print_challenge

    bundle = required_bundle(options.log, options.model, options.lines)
    found = challenges(options.log, bundle, options.outcomes)

    def printed() -> None:
        for one in found:
            print_challenge(one, console)

    document = [one.to_dict() for one in found]
    _print(options, console, document, printed)
    return FOUND if any(one.verdict == "worse" for one in found) else 0


def _page(text: str) -> str:
    return text if "://" in text else str(input_file(text))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, text.split(",")))
    except ValueError:
        found = ()
    if not found or list(found) != sorted(set(found)):
        raise argparse.ArgumentTypeError(f"expected ascending numbers such as 25,40,60, got {text!r}")
    return found


def _simulate_month(options: argparse.Namespace, console: "Console") -> int:
    from monitoring.logs.lines import SHIPPED
    from monitoring.simulated_month import FAULT_BEGINS, simulate_month
    from server.model.bundle import Bundle

    month = simulate_month(Bundle.load(options.model or SHIPPED), options.out, options.rows_a_day)
    console.print(
        f"{number_of(month.rows, 'decision')} in {month.log}, outcomes in {month.outcomes}. "
        f"From {FAULT_BEGINS:%Y-%m-%d %H:%M} UTC on {month.feature} is a hundredth of what it should be.",
        soft_wrap=True,
    )
    return 0


def _find(options: argparse.Namespace, console: "Console") -> int:
    import orjson
    from rich.markup import escape

    from monitoring.logs.finding import Checked, Search

    search = Search(options.log, _whose(options))
    checked = Checked(options.log, options.model) if options.id else None
    lines = 0
    for line in search.lines():
        console.file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode())
        if checked is not None:
            checked.add(line)
        lines += 1
    console.stderr = True
    for sentence in checked.sentences if checked is not None else ():
        console.print(escape(sentence), soft_wrap=True)
    for sentence in search.unsearched:
        console.print(f"[red]Not searched:[/] {escape(sentence)}.", soft_wrap=True)
    if not lines:
        named = "these ids" if options.id else "this field" if options.context else "this caller"
        console.print(f"No line of {named}.")
    return 0 if lines and not search.unsearched else FOUND


if __name__ == "__main__":
    run(main)
