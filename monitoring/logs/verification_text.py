"""What a verification says, as text for a terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from monitoring.logs.seals import Seals, is_sealed
from monitoring.logs.verification import Instance, LogVerdict, Process, Verification
from monitoring.tables import table
from server.errors import MAX_IN_SENTENCE, number_of
from server.outcomes.store import outcome_files

_NUMBERS = ("lines", "last number", "missing", "double")


def print_seals(seals: Seals | None, files: Sequence[Path], console: Console) -> None:
    """Whether the log is what its server wrote, as far as seals tell."""
    if seals is None:
        if is_sealed(files):
            console.print("Sealed: with --key-file it is told whether anything was changed.", soft_wrap=True)
        return
    for fault in seals.faults:
        console.print(f"[red]Changed:[/] {escape(fault)}.", soft_wrap=True)
    if not seals.faults:
        console.print("Nothing that was sealed has been changed.", soft_wrap=True)
    for name in seals.open_ended:
        console.print(f"Not sealed to its end yet: {escape(name)}.", soft_wrap=True)
    for journal, head in seals.heads.items():
        console.print(f"Last seal of {escape(journal)}, to be kept elsewhere: {head}", soft_wrap=True)


def print_beside(files: Sequence[Path], console: Console) -> None:
    """What lies beside the lines and is proved by none of their numbers and seals."""
    outcomes = outcome_files(file.parent for file in files)
    if outcomes:
        console.print(
            f"Outcomes in {number_of(len(outcomes), 'file')} beside: neither numbered nor sealed, so nothing "
            "is said of these.",
            soft_wrap=True,
        )


def print_verification(checked: Verification, console: Console) -> None:
    """Instance by instance, what is there and what is missing."""
    read = f"{number_of(checked.lines, 'line')} in {number_of(len(checked.files), 'file')}"
    console.print(f"[bold]{read}[/], {checked.unreadable:,} unreadable")
    instances = table("instance", *_NUMBERS, words="state")
    told = {instance.instance: process for process in checked.processes for instance in process.instances}
    for instance in checked.instances:
        instances.add_row(
            instance.instance,
            f"{instance.lines:,}",
            f"{instance.last:,}",
            f"{instance.lost:,}",
            f"{instance.duplicates:,}",
            _state(instance, told.get(instance.instance)),
        )
    console.print(instances)
    for process in checked.processes:
        if process.unwritten:
            gone = number_of(process.unwritten, "line")
            console.print(f"[red]Gone: {gone} of the process of {process.opened}.[/]")
    for file in checked.absent:
        console.print(f"Not here: {file}, a closed file; name the folder it was moved to as well.")
    console.print(_sentence(checked), soft_wrap=True)


def _sentence(checked: Verification) -> str:
    if checked.verdict is LogVerdict.MISSING:
        return "[red]missing: lines are gone, double or unreadable.[/]"
    if checked.verdict is LogVerdict.NOT_PROVABLE:
        instances = number_of(checked.unvouched, "instance")
        return (
            f"[yellow]not provable: no gap is seen, but {instances} never closed the log, or have no journal "
            "beside it;[/] a server that still runs, or one that was killed, whose last lines could be gone."
        )
    return "whole: every line that was promised is there."


def _state(instance: Instance, process: Process | None) -> str:
    words = [f"missing {_gaps(instance)}"] if instance.gaps else []
    if instance.removed:
        words.append(f"1 to {instance.removed:,} deleted with old files")
    if instance.erased:
        words.append(f"{instance.erased:,} erased for a subject")
    if process is None:
        words.append("no journal: its last lines cannot be vouched for")
    elif process.lines is None:
        words.append("not closed: running, or killed with up to 100 ms of lines")
    elif process.dropped:
        words.append(f"closed, {process.dropped:,} dropped and counted")
    else:
        words.append("closed")
    return "; ".join(words)


def _gaps(instance: Instance) -> str:
    listed = [f"{a:,}" if a == b else f"{a:,}-{b:,}" for a, b in instance.gaps[:MAX_IN_SENTENCE]]
    return ", ".join(listed) + (
        f" and {len(instance.gaps) - MAX_IN_SENTENCE:,} more" if len(instance.gaps) > MAX_IN_SENTENCE else ""
    )
