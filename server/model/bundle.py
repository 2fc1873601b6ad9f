"""One folder, one model: written complete or not at all, verified before it is used."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from server.errors import BundleError
from server.model.files import FORMAT, MANIFEST_FILE, read_manifest, verified
from server.model.schema import Feature, Schema

GRAPH_FILE = "model.onnx"
SOURCE_FILE = "model.txt"
CERTIFICATE_FILE = "parity.json"
GOLDEN_FILE = "golden.jsonl"
REFERENCE_FILE = "reference.json"
CARD_FILE = "MODEL_CARD.md"
TASKS = ("binary", "regression", "ranking", "multiclass")
#: What a folder must hold to be served; the source is named by the manifest.
REQUIRED_FILES = (GRAPH_FILE, CERTIFICATE_FILE, GOLDEN_FILE)
#: What is served is what was verified, whatever becomes of the folder later: these
#: files' bytes stay in memory, and the workers share them by the fork.
KEPT_FILES = (*REQUIRED_FILES, REFERENCE_FILE)


class GoldenRow(NamedTuple):
    """A row as a client would send it, and the source model's margins for it: one, or one a class."""

    fields: dict[str, Any]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class Decision:
    """Which answer follows from a probability.

    `below` is decided for a probability under `threshold`, `otherwise` for all
    others. Costs are relative: one missed positive, one false alarm.
    """

    threshold: float = 0.5
    below: str = "negative"
    otherwise: str = "positive"
    cost_false_negative: float = 1.0
    cost_false_positive: float = 1.0


@dataclass(frozen=True)
class Bundle:
    """A model folder whose hashes were checked, with its manifest in memory.

    `task` is `binary`, `regression`, `ranking` or `multiclass`. `classes` names
    the classes of the last, in the order of the margins. `bound` is how far a
    margin may be from the source model's: 0 for an exact bundle. `digest` is the
    SHA-256 of the manifest, which stands for all files by their hashes.
    """

    directory: Path
    name: str
    version: str
    task: str
    schema: Schema
    decision: Decision
    link: dict[str, Any]
    exact: bool
    bound: float
    classes: tuple[str, ...]
    manifest: dict[str, Any] = field(repr=False)
    digest: str = ""
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> "Bundle":
        """Read a bundle and compare every file with the manifest's SHA-256.

        Raises `BundleError` with one sentence if anything is missing, unreadable
        or different from what the manifest promises.
        """
        directory = Path(directory)
        manifest, digest = read_manifest(directory)
        contents = verified(directory, manifest, required=REQUIRED_FILES, kept=KEPT_FILES)
        try:
            return cls.from_manifest(directory, manifest, digest, contents)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"expected a complete {MANIFEST_FILE} in {directory}, "
                f"got one that cannot be used ({error!r}): "
                "write the bundle again with `python -m train` or `python -m export`"
            ) from None

    @classmethod
    def from_manifest(
        cls,
        directory: Path,
        manifest: Mapping[str, Any],
        digest: str = "",
        contents: Mapping[str, bytes] | None = None,
    ) -> "Bundle":
        """The bundle a manifest describes; files that `contents` lacks are not looked at."""
        return cls(
            directory=directory,
            name=_word(manifest, "name"),
            version=_word(manifest, "version"),
            task=manifest["task"],
            schema=Schema(Feature.from_dict(f) for f in manifest["features"]),
            decision=Decision(**manifest.get("decision", {})),
            link=manifest["link"],
            exact=manifest["exact"],
            bound=0.0 if manifest["exact"] else manifest["bound"],
            classes=_classes(manifest),
            manifest=dict(manifest),
            digest=digest,
            contents=contents or {},
        )

    @property
    def label(self) -> str:
        """`name@version`, as it stands in answers, metrics and the log."""
        return f"{self.name}@{self.version}"

    @property
    def outputs(self) -> int:
        """The number of margins of a row."""
        return len(self.classes) or 1

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What a prediction is counted as: decisions, classes, or the one empty name of a value."""
        if self.task == "binary":
            return (self.decision.below, self.decision.otherwise)
        return self.classes or ("",)

    @property
    def graph_path(self) -> Path:
        """The ONNX file that is served."""
        return self.directory / GRAPH_FILE

    def golden_rows(self) -> Iterator[GoldenRow]:
        """The golden rows in file order."""
        for line in self.read(GOLDEN_FILE).splitlines():
            golden = orjson.loads(line)
            margins = golden["margin"]
            texts = margins if isinstance(margins, list) else [margins]
            yield GoldenRow(golden["row"], tuple(map(float.fromhex, texts)))

    def read(self, file: str) -> bytes:
        """The content of one of the bundle's files: of `KEPT_FILES` the bytes that were verified."""
        content = self.contents.get(file)
        return (self.directory / file).read_bytes() if content is None else content

    def read_json(self, file: str) -> Any:
        """The content of one of the bundle's JSON files."""
        return orjson.loads(self.read(file))


def write_bundle(
    directory: str | os.PathLike[str], manifest: Mapping[str, Any], files: Mapping[str, bytes]
) -> Bundle:
    """Write a bundle so that the folder is complete or absent, and load it.

    The files are written beside `directory` and renamed into place; an existing
    bundle is replaced only once the new one is whole. `manifest` lacks `format`
    and `files`, which are added here. Raises `BundleError` when `directory`
    holds something that is no bundle.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()) and not (directory / MANIFEST_FILE).exists():
        raise BundleError(f"expected {directory} to be new, empty or a bundle, got a folder with other files")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    whole = {"format": FORMAT, **manifest, "files": hashes}
    with _replaced(directory) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / MANIFEST_FILE).write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")
    return Bundle.load(directory)


def golden_lines(rows: list[GoldenRow]) -> bytes:
    """The content of `golden.jsonl`."""
    lines = ({"row": row.fields, "margin": _hexadecimal(row.margins)} for row in rows)
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def _hexadecimal(margins: tuple[float, ...]) -> str | list[str]:
    return margins[0].hex() if len(margins) == 1 else [margin.hex() for margin in margins]


def _word(manifest: Mapping[str, Any], member: str) -> str:
    """A name or version: it stands in paths, labels and file names."""
    word = manifest[member]
    if not isinstance(word, str) or not word.isprintable() or not word or set(word) & set("/\\@"):
        raise ValueError(f"the {member} {word!r} is not a text without a slash or an @")
    return word


def _classes(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    task, classes = manifest["task"], tuple(manifest.get("classes", ()))
    if task not in TASKS:
        raise ValueError(f"the task {task!r} is not one of {', '.join(TASKS)}")
    if (task == "multiclass") != (len(classes) > 1):
        raise ValueError("a multiclass model names its classes, another none")
    return classes


@contextmanager
def _replaced(directory: Path) -> Iterator[Path]:
    directory.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        folder.chmod(0o755)  # mkdtemp makes 0700, which another user cannot serve
        yield folder
        old = folder.with_name(folder.name + ".old")
        if directory.exists():
            directory.rename(old)
        folder.rename(directory)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
