"""How good models were by outcomes: what `python -m monitoring performance --keep` leaves beside the log."""

import logging
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from server.durable import held_file, sync_path, write_synced
from server.errors import first_line

logger = logging.getLogger(__name__)

#: No file of the log, of outcomes or of reviews: those pass it over.
NAME = "performance.json"
#: More than so many bytes are not read, and of more models the last that were measured are kept.
MAX_BYTES, MAX_MODELS = 2**16, 16
#: The figures there are, of whatever task, and what each is; `expected_` ones are promised by scores alone.
FIGURES = {
    "auc": "AUC",
    "rate": "Rate of the outcome",
    "brier": "Brier score",
    "cost": "Mean cost of a decision",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "bias": "Prediction less outcome",
    "r2": "R2",
    "accuracy": "Accuracy",
    "log_loss": "Log loss",
    "macro_auc": "AUC of each class against the rest, mean",
    "expected_auc": "AUC that the scores promise",
    "expected_rate": "Rate of the outcome that the scores promise",
    "expected_cost": "Mean cost of a decision that the scores promise",
}

_Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Verdict = Literal["worse", "as promised", "too few", "no outcomes"]


class MeasuredFigure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure, and between what it lies with 95 % (`expected_` ones 99 %); None where it has no ends."""

    value: _Finite
    low: _Finite | None = None
    high: _Finite | None = None


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The figures of a model, `name@version`: `joined` of its `decisions` have an outcome.

    `promised` are those of training's held-out rows, as far as they are known.
    """

    model: _Name
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    decisions: _Count
    joined: _Count
    verdict: Verdict
    figures: dict[str, MeasuredFigure]
    promised: dict[str, MeasuredFigure]


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    models: Annotated[list[Measured], msgspec.Meta(max_length=MAX_MODELS)]


_DECODER = msgspec.json.Decoder(_Content)


class MeasuredFile:
    """The file of one folder, read anew when it changed; may be asked from several threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._seen: tuple[tuple[int, ...], Sequence[Measured]] = ((), ())

    def models(self) -> Sequence[Measured]:
        """What was measured last of each model; a file that is none is said to be left out."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        seen, models = self._seen
        if state != seen:
            models = self._read()
            self._seen = state, models
        return models

    def _read(self) -> Sequence[Measured]:
        try:
            return read_measured(self._path)
        except (OSError, ValueError) as error:
            logger.warning(
                "%s is left out: expected what `python -m monitoring performance LOG --keep` writes, got: %s",
                self._path,
                error.strerror if isinstance(error, OSError) else first_line(error),
            )
            return ()


def read_measured(path: Path) -> Sequence[Measured]:
    """What a file tells, nothing of an empty one; raises `ValueError` for another's, and `OSError`."""
    with open(path, "rb", opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no regular file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    try:
        models = _DECODER.decode(content).models if content else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Not the decoder's words: they may tell of what the file holds.
        raise ValueError("other JSON, or none") from None
    if not all(FIGURES.keys() >= one.figures.keys() | one.promised.keys() for one in models):
        raise ValueError("a figure of another name")
    if len({one.model for one in models}) < len(models):
        raise ValueError("a model twice")  # of a series that is there twice Prometheus takes no page
    return models


def _open(path: str, flags: int) -> int:
    """A pipe is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def keep_measured(folder: Path, measured: Measured) -> None:
    """Put a model's figures in the place of its last ones, the file whole at every moment; raises `OSError`.

    It is readable for all, as a timer may run as another user than the server. A file that is none
    gives way: what it told can be measured again.
    """
    path = folder / NAME
    with held_file(path):
        others: Sequence[Measured] = ()
        with suppress(ValueError):
            others = [one for one in read_measured(path) if one.model != measured.model]
        kept = sorted([*others, measured], key=lambda one: one.at)[-MAX_MODELS:]
        while len(content := msgspec.json.encode(_Content(1, kept))) > MAX_BYTES:
            del kept[0]
        fresh = path.with_name(f"{NAME}.fresh")
        write_synced(fresh, content)
        fresh.chmod(0o644)
        fresh.replace(path)
        sync_path(folder)
