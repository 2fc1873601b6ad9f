"""Whose lines of a log are looked at: those of one model, for a log may hold those of many."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from monitoring.errors import LogError
from monitoring.logs.table import UNNAMED, LogTable, models_in
from server.errors import BundleError
from server.model.bundle import Bundle
from server.model.files import MANIFEST_FILE

#: Where bundles are looked for that no option names.
MODELS = Path("models")
SHIPPED = MODELS / "credit"


def keep_lines(
    log: LogTable,
    bundle: Bundle | None,
    label: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """Leave the lines of `label`, or else of the bundle, or else of the only model; which that is.

    `label` is `name@version`, or a name for all its versions; `since` and `until`
    (UTC, the end not included) leave a part of the time. Raises `LogError` if there are none, or
    lines of several and nothing says which.
    """
    wanted = label or (bundle.label if bundle else None)
    if wanted is None:
        if len(log.models) > 1:
            raise _many(log.models)
        wanted = next(iter(log.models))
    kept = matching(log.models, wanted)
    if not kept and label is None and set(log.models) == {UNNAMED}:
        kept, wanted = [UNNAMED], UNNAMED
    if not kept:
        raise LogError(
            f"expected lines of {wanted}, got {counted(log.models)}: "
            "name the bundle of these with --model, or look at them all the same with --lines"
        )
    log.keep(kept)
    keep_time(log, wanted, since, until)
    return wanted


def keep_time(log: LogTable, wanted: str, since: datetime | None, until: datetime | None) -> None:
    """Leave a part of the time, of the lines of `wanted`; raises `LogError` if there are none."""
    log.keep_between(since, until)
    if not log.row("select count(*) from requests")[0]:
        raise LogError(f"expected lines of {wanted} in the time of --since and --until, got none")


def moment(text: str) -> datetime:
    """A time as `--since` takes it: `2026-03-01`, `2026-03-01T14:00`, UTC unless it says another zone.

    Without a zone, as the log's table has it; raises `ValueError`.
    """
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def matching(labels: Iterable[str], wanted: str) -> list[str]:
    """The labels that are this `name@version`, or of this name."""
    return [label for label in labels if wanted in (label, label.partition("@")[0])]


def counted(models: Mapping[str, int]) -> str:
    """How many lines there are of each model, in words."""
    return ", ".join(f"{count:,} of {model}" for model, count in models.items()) or "none"


def bundle_for(paths: Sequence[Path], directory: Path | None, label: str | None = None) -> Bundle | None:
    """The bundle that a user names, or that of the log's lines among `models/`; None if none is there.

    Raises `LogError` if the log has lines of several models and nothing says which,
    `BundleError` of a bundle that cannot be read.
    """
    if directory is not None:
        return Bundle.load(directory)
    models = models_in(paths)
    labels = matching(models, label) if label else list(models)
    if not labels:
        return Bundle.load(SHIPPED) if (SHIPPED / MANIFEST_FILE).is_file() else None
    found = [bundle for bundle in served_bundles() if bundle.label in labels]
    # Of one model's versions the one that lies there is meant; of several models nobody knows.
    if len({label.partition("@")[0] for label in labels}) > 1 or len(found) != 1 < len(labels):
        raise _many(models)
    return found[0] if found else None


def _many(models: Mapping[str, int]) -> LogError:
    return LogError(
        f"expected lines of one model, got {counted(models)}: name its bundle with --model, or "
        "its lines with --lines"
    )


def required_bundle(paths: Sequence[Path], directory: Path | None, label: str | None = None) -> Bundle:
    """`bundle_for`, raising `LogError` where it finds none."""
    bundle = bundle_for(paths, directory, label)
    if bundle is None:
        names = ", ".join(models_in(paths)) or "these rows"
        raise LogError(f"expected the bundle of {names} in {MODELS}, got none: name it with --model DIR")
    return bundle


def served_bundles() -> Iterable[Bundle]:
    """Every bundle in `models/` that can be read."""
    for manifest in sorted(MODELS.glob(f"*/{MANIFEST_FILE}")):
        try:
            yield Bundle.load(manifest.parent)
        except BundleError:
            continue  # of another model perhaps; whoever means it names it and is told
