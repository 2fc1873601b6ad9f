"""From a file to its conversion: which family it is, read without running anything it says."""

import base64
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

from export.errors import ExportRefused
from export.forest.conversion import ABOVE_HALF, Conversion
from export.forest.evidence import Evidence
from export.forest.fitted import is_fitted
from export.onnx.options import OnnxOptions
from export.reader import TRUSTED, member_of
from export.reading.recognize import Family, recognize
from server.errors import first_line
from server.model.files import MANIFEST_FILE

#: Of a booster that stopped early: the rounds up to the best one, or all of them.
Rounds: TypeAlias = Literal["best", "all"]
MAX_SOURCE_BYTES = 1 << 30
_BOOSTERS = ("lightgbm", "xgboost", "catboost")


@dataclass(frozen=True)
class LoadOptions:
    """What the user allows and adds: pickles run code, ONNX files lack names, frames lose columns."""

    trust_pickle: bool = False
    classes: tuple[str, ...] = ()
    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    evidence: Evidence = field(default_factory=Evidence)
    rounds: Rounds = "best"
    missing: float | None = None
    python: Path | None = None


def load(path: Path, options: LoadOptions) -> Conversion:
    """The conversion of a model file; raises `ExportRefused` with the reason."""
    content = read_source(path)
    family = recognize(content, path.name)
    if options.python is not None:
        return _by_interpreter(options.python, path, family, options)
    return _CONVERTERS[family](content, options)


#: What MLflow and others call the one model of a folder.
_IN_FOLDERS = ("model.lgb", "model.xgb", "model.ubj", "model.json", "model.bst", "model.txt", "model.onnx",
               "model.skops", "model.pkl", "model.joblib", "xgboost-model")  # fmt: skip


def model_file(path: Path) -> Path:
    """The model file of a folder as MLflow or KServe write it; a file or a bundle stays as it is."""
    if not path.is_dir() or (path / MANIFEST_FILE).exists():
        return path
    found = [path / name for name in _IN_FOLDERS if (path / name).is_file()]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ExportRefused(
            f"expected a bundle, or a folder with one model called {', '.join(_IN_FOLDERS[:4])} or alike, "
            f"in {path}, got {names}: name the model file itself"
        )
    return found[0]


def read_source(path: Path) -> bytes:
    """A model file's bytes; refuses what is no file, and what is too large."""
    if "://" in str(path) or re.match(r"[a-z0-9]+:/", str(path)):
        raise ExportRefused(f"expected a file on this machine, got the address {path}: download it first")
    try:
        if not path.is_file():
            raise ExportRefused(
                f"expected a model file or a bundle folder, got none at {path}: name one that exists"
            )
        size = path.stat().st_size
        if size > MAX_SOURCE_BYTES:
            raise ExportRefused(
                f"expected a model of at most {MAX_SOURCE_BYTES} bytes, got {size}: train fewer trees, or "
                "smaller ones"
            )
        return path.read_bytes()
    except OSError as error:
        raise ExportRefused(
            f"expected a readable model file at {path}, got: {error.strerror}; let this user read it"
        ) from None


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")  # the sizes of trees count plain line ends
    except UnicodeDecodeError:
        raise ExportRefused(
            "expected the text of a LightGBM model, got bytes that are no UTF-8: save it again"
        ) from None
    if "\0" in text:
        raise ExportRefused("expected the text of a LightGBM model, got a zero byte in it: save it again")
    return text


# Each family's libraries are imported where they are needed: they take seconds.


def _from_text(content: bytes, options: LoadOptions) -> Conversion:
    from export.lightgbm.model import convert_lightgbm

    return convert_lightgbm(_text(content), classes=options.classes, evidence=options.evidence)


def _from_xgboost(
    content: bytes, options: LoadOptions, labels: Sequence[str] = (), missing: float | None = None
) -> Conversion:
    from export.xgboost.model import convert_xgboost

    return convert_xgboost(
        content,
        classes=options.classes,
        labels=labels,
        rounds=options.rounds,
        missing=options.missing if missing is None else missing,
        target=_target(options),
    )


def _target(options: LoadOptions) -> int | None:
    """The number of the target that --output names, of a model of several."""
    output = options.onnx.output
    if output is None:
        return None
    if not output.isdecimal():
        raise ExportRefused(
            f"expected the number of a target as --output, counted from 0, got {output[:60]!r}: say 0, 1, …"
        )
    return int(output)


def _from_catboost(content: bytes, options: LoadOptions) -> Conversion:
    if find_spec("catboost") is None:
        raise ExportRefused(
            "expected CatBoost to be installed for its own models, got none: `uv pip install catboost` into "
            'this environment, or save the model with save_model("m.onnx", format="onnx")'
        )
    from export.catboost.model import convert_catboost

    return convert_catboost(
        content,
        classes=options.classes,
        is_json=not content.startswith(b"CBM1"),
        evidence=options.evidence,
    )


def _from_onnx(content: bytes, options: LoadOptions) -> Conversion:
    from export.onnx.model import convert_onnx

    return convert_onnx(content, options.onnx, evidence=options.evidence)


def _from_skops(content: bytes, options: LoadOptions) -> Conversion:
    import skops.io  # type: ignore[import-untyped]  # heavy, and for this family alone

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise ExportRefused(
            "expected a .skops file, got one that is no archive or is damaged: save it again"
        ) from None
    if size > MAX_SOURCE_BYTES:
        raise ExportRefused(
            f"expected at most {MAX_SOURCE_BYTES} bytes unpacked, got {size}: train fewer trees, or "
            "smaller ones"
        )
    with _loading(
        f"expected a whole .skops file of scikit-learn {version('scikit-learn')}, got one that does not load",
        "save it again with this version",
    ):
        unknown = skops.io.get_untrusted_types(data=content)
        if foreign := [name for name in unknown if not name.startswith(TRUSTED)]:
            raise ExportRefused(
                f"expected types of scikit-learn, LightGBM, XGBoost and NumPy alone, got {foreign[0]} of "
                f"{foreign[0].partition('.')[0]}: save a model of CatBoost with save_model, or the whole as "
                ".joblib with --trust-pickle"
            )
        with same_version(), _no_newer_boosters(content):
            estimator = skops.io.loads(content, trusted=unknown)
    return from_object(estimator, "source.skops", content, options)


def _from_pickle(content: bytes, options: LoadOptions) -> Conversion:
    if not options.trust_pickle:
        raise ExportRefused(
            "expected a format that cannot run code, got a pickle: "
            "save the model as .txt, .json or .skops, or give --trust-pickle if you made the file yourself"
        )
    import joblib  # type: ignore[import-untyped]  # ships no types

    with (
        _loading(
            "expected a pickle that loads here, got one that does not",
            "it is damaged, needs a library that is not here, or was saved with another version than "
            f"{_versions()}: give the Python of its own environment (--python .venv/bin/python)",
        ),
        same_version(),
        _no_newer_boosters(content),
    ):
        model = joblib.load(io.BytesIO(content))
    return from_object(model, "source.joblib", content, options)


def _by_interpreter(python: Path, path: Path, family: Family, options: LoadOptions) -> Conversion:
    """The conversion of a pickle or .skops that the interpreter of its own environment reads."""
    if family not in ("pickle", "skops"):
        raise ExportRefused(
            f"expected a pickle or a .skops for --python to read, got a file of {family}: leave --python out"
        )
    if family == "pickle" and not options.trust_pickle:
        raise ExportRefused(
            "expected a pickle that you made yourself, as loading one runs its code, there too: "
            "say --trust-pickle"
        )
    from export.interpreter.model import convert_elsewhere

    return convert_elsewhere(python, path, options.rounds, lambda member: _handed_over(member, options))


def _handed_over(member: Mapping[str, Any], options: LoadOptions) -> Conversion:
    """The conversion of a booster as its library wrote it in another environment."""
    labels = tuple(map(str, member["classes"]))
    made = _of_booster(member, labels, options)
    return made if member["kind"] == "catboost" else _of_wrapper(made, labels)


def _of_booster(member: Mapping[str, Any], labels: tuple[str, ...], options: LoadOptions) -> Conversion:
    """The conversion of a booster as its own library saves it (`member_of`)."""
    if member["kind"] == "lightgbm":
        from export.lightgbm.model import convert_lightgbm

        best = {"best_iteration": member["best"], "rounds_trained": member["rounds"]}
        record = best if member["best"] > 0 else {}
        return convert_lightgbm(
            member["text"], classes=options.classes, labels=labels, record=record, evidence=options.evidence
        )
    content = base64.b64decode(member["content"])
    if member["kind"] == "catboost":
        return _from_catboost(content, options)
    return _from_xgboost(content, options, labels, member["missing"])


def _of_wrapper(made: Conversion, labels: Sequence[str]) -> Conversion:
    """A booster out of a classifier, which gives the first of two equally likely classes."""
    return replace(made, threshold=ABOVE_HALF) if made.task == "binary" and len(labels) == 2 else made


@contextmanager
def _loading(expected: str, mend: str) -> Iterator[None]:
    """Turn whatever goes wrong into a refusal: what is damaged fails in whatever part is read first."""
    try:
        yield
    except ExportRefused:
        raise
    except Exception as error:  # noqa: BLE001  # see above
        raise ExportRefused(f"{expected} ({_short(error)}): {mend}") from None


@contextmanager
def same_version() -> Iterator[None]:
    """Raise `ExportRefused` where scikit-learn only warns that another version saved an estimator."""
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if isinstance(warning.message, InconsistentVersionWarning):
            told = warning.message
            raise ExportRefused(
                f"expected a model saved with scikit-learn {told.current_sklearn_version}, got "
                f"{told.estimator_name} saved with {told.original_sklearn_version}, which may predict "
                "otherwise here: give the Python it was trained with (--python .venv/bin/python), save it "
                "again with this version, or as ONNX where it was trained"
            )


@contextmanager
def _no_newer_boosters(content: bytes) -> Iterator[None]:
    """Raise `ExportRefused` for a booster of a newer XGBoost, which loads of it what it knows.

    The version stands in the bytes that a booster is restored of, and nowhere afterwards.
    """
    is_compressed = not content.startswith(b"\x80")
    if not (is_compressed or b"xgboost" in content) or find_spec("xgboost") is None:
        yield
        return
    from xgboost import Booster

    from export.xgboost.model import refuse_newer

    def restored(booster: Any, state: dict[str, Any]) -> None:
        refuse_newer(bytes(state.get("handle") or b""))
        restore(booster, state)

    restore = Booster.__setstate__
    Booster.__setstate__ = restored  # type: ignore[assignment, method-assign]  # until the pickle is loaded
    try:
        yield
    finally:
        Booster.__setstate__ = restore  # type: ignore[method-assign]  # as it was


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "lightgbm", "numpy"))


def from_object(model: Any, file: str, content: bytes, options: LoadOptions) -> Conversion:
    """The conversion of an unpickled model: of LightGBM, XGBoost or scikit-learn."""
    from export.sklearn.wrappers import one_target, threshold_of, unwrapped

    _check_model(model)
    model, target = one_target(model, _target(options))
    labels = tuple(map(str, getattr(model, "classes_", ())))
    whole = model
    model, threshold = unwrapped(whole)
    found = _from_model(model, file, content, options, labels)
    if len(labels) > 1 and found.task in ("binary", "multiclass"):
        found = _deciding(found, whole, threshold_of(model) if threshold is None else threshold, options)
    return found if target is None else replace(found, record={**found.record, "output": str(target)})


def _deciding(found: Conversion, whole: Any, threshold: float, options: LoadOptions) -> Conversion:
    """The conversion with the classes that the whole model's own `predict` gives, to compare with."""
    from export.sklearn.source import predicted_classes

    if found.decided is not None and threshold == ABOVE_HALF:
        return found  # CatBoost's, whose own threshold is in its file
    if found.task == "binary":
        found = replace(found, threshold=threshold)
    # XGBoost takes no codes from its wrapper; and a wrapper predicts with the best rounds.
    if (found.family == "xgboost" and found.codes) or options.rounds != "best":
        return found
    return replace(found, decided=partial(predicted_classes, whole, found.source))


def _from_model(
    model: Any, file: str, content: bytes, options: LoadOptions, labels: tuple[str, ...]
) -> Conversion:
    if type(model).__module__.partition(".")[0] in _BOOSTERS:
        return _of_booster(member_of(model, options.rounds), labels, options)
    from export.sklearn.model import convert_sklearn

    return convert_sklearn(model, file, content, classes=options.classes, evidence=options.evidence)


def _check_model(model: Any) -> None:
    """Raise `ExportRefused` for what holds a model, or none, instead of being one."""
    kind = type(model).__name__
    if isinstance(model, dict | list | tuple):
        parts = model.values() if isinstance(model, dict) else model
        inside = next((type(part).__name__ for part in parts if hasattr(part, "predict")), "no model")
        raise ExportRefused(f"expected a model, got a {kind} that holds {inside}: save the model alone")
    if kind == "CVBooster":
        raise ExportRefused("expected one model, got a CVBooster of several: save one of its boosters")
    if hasattr(model, "fit") and not is_fitted(model):
        raise ExportRefused(f"expected a fitted model, got {kind} before its fit: call fit, then save it")


def _short(error: Exception) -> str:
    words = first_line(error)
    return f"{type(error).__name__}: {words}"[:200]


_CONVERTERS: dict[Family, Callable[[bytes, LoadOptions], Conversion]] = {
    "lightgbm": _from_text,
    "xgboost": _from_xgboost,
    "catboost": _from_catboost,
    "onnx": _from_onnx,
    "skops": _from_skops,
    "pickle": _from_pickle,
}
