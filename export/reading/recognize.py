"""Which family a model file is of, by its first bytes: names of files tell too little.

MLflow writes `model.lgb`, KServe `model.bst`, SageMaker `xgboost-model`, and the
cache of a model hub links without any suffix.
"""

import re
import zipfile
from io import BytesIO
from typing import Literal, TypeAlias

from export.errors import ExportRefused

Family: TypeAlias = Literal["lightgbm", "xgboost", "catboost", "skops", "pickle", "onnx"]

#: How packed pickles begin (gzip, zlib, bzip2, xz, lzma, lz4), and bare ones of protocols 2 to 5.
_PICKLES = (
    *(
        b"\x1f\x8b",
        b"x\x01",
        b"x\x9c",
        b"x\xda",
        b"x\x5e",
        b"BZh",
        b"\xfd7zXZ",
        b"]\x00\x00",
        b"\x04\x22M\x18",
    ),
    *(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5)),
    b"ccopy_reg\n",  # protocol 0, of Python 2
)
#: XGBoost's binary format: 136 bytes of numbers, then the length and the text of the objective.
_OLD_XGBOOST = re.compile(rb"(?:binf|bs64)|(?s:.{136}.\0{7}(?:binary|reg|multi|rank|count|survival):)")
#: XGBoost's `dump_model`, as text and as JSON.
_DUMP = re.compile(rb'booster\[\d+\]|\[\s*\{\s*"nodeid"')
_SUFFIXES: dict[str, Family] = {
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".onnx": "onnx",
    ".skops": "skops",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".joblib": "pickle",
}
#: Members that CatBoost's JSON has.
_CATBOOST = (b'"features_info"', b'"oblivious_trees"')
_FAMILIES = (
    "a model of LightGBM (text), XGBoost (JSON or UBJSON), CatBoost (.cbm or JSON), scikit-learn (skops or "
    "pickle), an ONNX file or a bundle folder"
)


def recognize(content: bytes, name: str) -> Family:
    """The family of a file's bytes; raises `ExportRefused` for those of another kind, with what to do."""
    start = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith((b"tree\n", b"tree\r\n")):
        return "lightgbm"
    if start.startswith(b"CBM1"):
        return "catboost"
    if _OLD_XGBOOST.match(content[:256]):
        raise ExportRefused(
            "expected an XGBoost model in JSON or UBJSON, got its old binary format: load it with an XGBoost "
            'before 3.1 and save it with save_model("m.json")'
        )
    if _DUMP.match(start):
        raise ExportRefused(
            f"expected {_FAMILIES}, got XGBoost's dump_model, which leaves things out: save the model with "
            'save_model("m.json")'
        )
    if start.startswith(b"{"):
        return "catboost" if any(member in content for member in _CATBOOST) else "xgboost"
    if start.startswith(b"PK\x03\x04"):
        return _archive(content)
    if start.startswith(_PICKLES):
        return "pickle"
    suffix = "." + name.lower().rpartition(".")[2]
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if start.startswith(b"\x08"):  # the field `ir_version` of ONNX
        return "onnx"
    raise ExportRefused(
        f"expected {_FAMILIES}, got {name}, whose content is none of these: save the model with its library"
    )


def _archive(content: bytes) -> Family:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        raise ExportRefused(
            "expected a whole .skops file, got an archive that is damaged: save it again"
        ) from None
    if "schema.json" in names:
        return "skops"
    if any(name.endswith("data.pkl") for name in names):
        raise ExportRefused(
            f"expected {_FAMILIES}, got a model of PyTorch: export it with torch.onnx.export and a dynamic "
            "batch axis"
        )
    raise ExportRefused(
        f"expected {_FAMILIES}, got a zip archive of other files: unpack it and name the model"
    )
