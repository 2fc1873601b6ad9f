"""From a file to its conversion: which family it is, read without running anything it says."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.conversion import Conversion
from export.errors import ExportRefused
from export.evidence import Evidence
from export.onnx_options import OnnxOptions
from server.errors import first_line

MAX_SOURCE_BYTES = 1 << 30
_PICKLES = (".pkl", ".pickle", ".joblib")
#: What a .skops may hold beside what skops itself trusts: scikit-learn's compiled classes.
_TRUSTED_PREFIX = "sklearn."


@dataclass(frozen=True)
class LoadOptions:
    """What the user allows and adds: pickles run code, ONNX files lack names, frames lose columns."""

    trust_pickle: bool = False
    classes: tuple[str, ...] = ()
    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    evidence: Evidence = field(default_factory=Evidence)


def load(path: Path, options: LoadOptions) -> Conversion:
    """The conversion of a model file; raises `ExportRefused` with the reason."""
    convert = _CONVERTERS.get(path.suffix.lower())
    if convert is None:
        raise ExportRefused(
            f"expected a model ending in {', '.join(_CONVERTERS)} or a bundle folder, got {path.name}"
        )
    return convert(read_source(path), path.suffix.lower(), options)


def read_source(path: Path) -> bytes:
    """A model file's bytes; refuses symbolic links, what is no file, and what is too large."""
    if path.is_symlink():
        raise ExportRefused(f"expected a file, got the symbolic link {path}: name the file itself")
    try:
        if not path.is_file():
            raise ExportRefused(f"expected a model file or a bundle folder, got none at {path}")
        size = path.stat().st_size
        if size > MAX_SOURCE_BYTES:
            raise ExportRefused(f"expected a model of at most {MAX_SOURCE_BYTES} bytes, got {size}")
        return path.read_bytes()
    except OSError as error:
        raise ExportRefused(f"expected a readable model file at {path}, got: {error.strerror}") from None


def _text(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ExportRefused("expected the text of a LightGBM model, got bytes that are no UTF-8") from None
    if "\0" in text:
        raise ExportRefused("expected the text of a LightGBM model, got a zero byte in it")
    return text


# Each family's libraries are imported where they are needed: they take seconds.


def _from_text(content: bytes, _: str, options: LoadOptions) -> Conversion:
    from export.lightgbm_model import convert_lightgbm

    return convert_lightgbm(_text(content), classes=options.classes, evidence=options.evidence)


def _from_xgboost(content: bytes, suffix: str, options: LoadOptions) -> Conversion:
    from export.xgboost_model import convert_xgboost

    return convert_xgboost(content, "model" + suffix, classes=options.classes)


def _from_onnx(content: bytes, _: str, options: LoadOptions) -> Conversion:
    from export.onnx_model import convert_onnx

    return convert_onnx(content, options.onnx)


def _from_skops(content: bytes, _: str, options: LoadOptions) -> Conversion:
    import skops.io  # type: ignore[import-untyped]  # heavy, and for this family alone

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise ExportRefused("expected a .skops file, got one that is no archive or is damaged") from None
    if size > MAX_SOURCE_BYTES:
        raise ExportRefused(f"expected at most {MAX_SOURCE_BYTES} bytes unpacked, got {size}")
    try:
        unknown = skops.io.get_untrusted_types(data=content)
        if foreign := [name for name in unknown if not name.startswith(_TRUSTED_PREFIX)]:
            raise ExportRefused(f"expected types of scikit-learn and NumPy alone, got {foreign[0]}")
        estimator = skops.io.loads(content, trusted=unknown)
    except ExportRefused:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged archive fails in whatever part is read first
        raise ExportRefused(f"expected a whole .skops file, got a damaged one ({_short(error)})") from None
    from export.sklearn_model import convert_sklearn

    return convert_sklearn(estimator, "source.skops", content, classes=options.classes)


def _from_pickle(content: bytes, suffix: str, options: LoadOptions) -> Conversion:
    if not options.trust_pickle:
        raise ExportRefused(
            "expected a format that cannot run code, got a pickle: "
            "save the model as .txt, .json or .skops, or give --trust-pickle if you made the file yourself"
        )
    import joblib  # type: ignore[import-untyped]  # ships no types

    try:
        model = joblib.load(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001  # unpickling can raise anything
        raise ExportRefused(
            f"expected a whole pickle, got one that does not load ({_short(error)})"
        ) from None
    return from_object(model, "source" + suffix, content, options)


def from_object(model: Any, file: str, content: bytes, options: LoadOptions) -> Conversion:
    """The conversion of an unpickled model: of LightGBM, XGBoost or scikit-learn."""
    classes = options.classes
    library = type(model).__module__.partition(".")[0]
    if library == "lightgbm":
        booster = getattr(model, "booster_", model)
        named = classes or tuple(map(str, getattr(model, "classes_", ())))
        best = int(booster.best_iteration or 0)
        record = {"best_iteration": best} if best > 0 else {}
        text = booster.model_to_string(num_iteration=best if best > 0 else -1)
        from export.lightgbm_model import convert_lightgbm

        return convert_lightgbm(text, classes=named, record=record, evidence=options.evidence)
    if library == "xgboost":
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        from export.xgboost_model import convert_xgboost

        return convert_xgboost(bytes(booster.save_raw("json")), "model.json", classes=classes)
    from export.sklearn_model import convert_sklearn

    return convert_sklearn(model, file, content, classes=classes)


def _short(error: Exception) -> str:
    words = first_line(error)
    return f"{type(error).__name__}: {words}"[:200]


_CONVERTERS: dict[str, Callable[[bytes, str, LoadOptions], Conversion]] = {
    ".txt": _from_text,
    ".json": _from_xgboost,
    ".ubj": _from_xgboost,
    ".onnx": _from_onnx,
    ".skops": _from_skops,
    **dict.fromkeys(_PICKLES, _from_pickle),
}
