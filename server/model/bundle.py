"""One folder, one model: written complete or not at all, verified before it is used."""

import hashlib
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
import orjson

from server.durable import sync_path, sync_tree
from server.errors import BundleError, FieldError, UnacceptableRow, first_line
from server.model.exchange import sibling
from server.model.files import FORMAT, MANIFEST_FILE, read_manifest, verified
from server.model.json_text import object_or_empty
from server.model.manifest import check_bound, descriptions, typed
from server.model.policy import Policy
from server.model.schema import MARKS, Feature, Schema

GRAPH_FILE = "model.onnx"
SOURCE_FILE = "model.txt"
PARITY_FILE = "parity.json"
GOLDEN_FILE = "golden.jsonl"
REFERENCE_FILE = "reference.json"
CARD_FILE = "MODEL_CARD.md"
CONTRIBUTIONS_FILE = "contributions.npz"
TASKS = ("binary", "regression", "ranking", "multiclass")
#: What a response, and a golden row, calls the model's output and its outcome.
ANSWER_MEMBERS = {
    "binary": ("probability", "decision"),
    "regression": ("prediction", ""),
    "ranking": ("prediction", ""),
    "multiclass": ("probabilities", "prediction"),
}
#: What a folder must hold to be served; the source is named by the manifest.
REQUIRED_FILES = (GRAPH_FILE, PARITY_FILE, GOLDEN_FILE)
#: What is served is what was verified, whatever becomes of the folder later: these
#: files' bytes stay in memory, and the workers share them by the fork.
KEPT_FILES = (*REQUIRED_FILES, REFERENCE_FILE, CONTRIBUTIONS_FILE)


class GoldenRow(NamedTuple):
    """A row as a client would send it, and what the source model says of it.

    `margins` and `outputs` (after the link) are one, or one a class; `outcome` is
    the decision, the likeliest class, or "" of a predicted value.
    """

    fields: dict[str, Any]
    margins: tuple[float, ...]
    outputs: tuple[float, ...]
    outcome: str


Precision: TypeAlias = Literal["float64", "float32"]
Probability: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Cost: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0, le=sys.float_info.max)]
#: A decision or class stands in responses, in labels of metrics and in the log: printable, and not endless.
OutcomeName: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]


@dataclass(frozen=True)
class Decision:
    """Which answer follows from a probability.

    `below` is decided for a probability under `threshold`, `otherwise` for all
    others. Costs are relative: one missed positive, one false alarm.
    """

    threshold: Probability = 0.5
    below: OutcomeName = "negative"
    otherwise: OutcomeName = "positive"
    cost_false_negative: Cost = 1.0
    cost_false_positive: Cost = 1.0

    def __post_init__(self) -> None:
        if self.below == self.otherwise:
            raise ValueError(f"expected two decisions, got {self.below!r} twice")

    @property
    def costs(self) -> tuple[float, float]:
        """What a missed outcome and a false alarm cost, 1 for one of which the bundle says 0."""
        return self.cost_false_negative or 1.0, self.cost_false_positive or 1.0


@dataclass(frozen=True)
class Bundle:
    """A model folder whose hashes were checked, with its manifest in memory.

    `precision` is that of the link: `float64` or `float32`. `task` is `binary`,
    `regression`, `ranking` or `multiclass`. `classes` names the classes of the
    last, in the order of the margins. `bound` is how far a margin may be from the
    source model's: 0 for an exact bundle. `row_by_row` tells that a score hangs on the rows
    beside it, so that each is to be scored alone. `digest` is the SHA-256 of the manifest,
    which stands for all files by their hashes. `context` are fields that a row may have,
    which are logged and never scored. `policy` is what a decision hangs on
    beside the score, None of most.
    """

    directory: Path
    name: str
    version: str
    task: str
    schema: Schema
    decision: Decision
    link: dict[str, Any]
    exact: bool
    precision: str
    bound: float
    row_by_row: bool
    classes: tuple[str, ...]
    manifest: dict[str, Any] = field(repr=False)
    digest: str = ""
    policy: Policy | None = None
    context: tuple[Feature, ...] = ()
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
            bundle = cls.from_manifest(directory, manifest, digest, contents)
            check_descriptions(bundle, manifest)
            check_bound(bundle.exact, bundle.bound, bundle.read_json(PARITY_FILE))
            return bundle
        except (KeyError, TypeError, ValueError) as error:
            said = f"no member {error}" if isinstance(error, KeyError) else error
            raise BundleError(
                f"expected a complete {MANIFEST_FILE} in {directory}, got one that cannot be used ({said}): "
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
        exact: bool = typed(manifest["exact"], bool, "exact")
        features = tuple(map(_feature, typed(manifest["features"], list[dict[str, Any]], "features")))
        context = tuple(map(_feature, typed(manifest.get("context") or (), list[dict[str, Any]], "context")))
        if both := {field.name for field in context} & {feature.name for feature in features}:
            raise ValueError(f"at context: expected fields that are no features, got {min(both)}")
        ignored = typed(manifest.get("ignored", ()), tuple[str, ...], "ignored")
        schema = Schema(features, ignored, (field.name for field in context))
        decision = _decision(manifest.get("decision", {}))
        return cls(
            directory=directory,
            name=_word(manifest, "name"),
            version=_word(manifest, "version"),
            task=manifest["task"],
            schema=schema,
            context=context,
            decision=decision,
            policy=_policy(manifest, schema, decision),
            link=typed(manifest["link"], dict[str, Any], "link"),
            exact=exact,
            precision=typed(manifest.get("precision", "float64"), Precision, "precision"),
            bound=0.0 if exact else typed(manifest["bound"], Cost, "bound"),
            row_by_row=typed(manifest.get("row_by_row", False), bool, "row_by_row"),
            classes=_classes(manifest),
            manifest={member: value for member, value in manifest.items() if value is not None},
            digest=digest,
            contents=contents or {},
        )

    @property
    def label(self) -> str:
        """`name@version`, as it stands in responses, metrics and the log."""
        return f"{self.name}@{self.version}"

    @property
    def outputs(self) -> int:
        """The number of margins of a row."""
        return len(self.classes) or 1

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What a prediction is counted as: decisions, classes, or the one empty name of a value."""
        if self.policy is not None:
            return self.policy.decisions(self.decision.below, self.decision.otherwise)
        if self.task == "binary":
            return (self.decision.below, self.decision.otherwise)
        return self.classes or ("",)

    @property
    def limits(self) -> list[float]:
        """The probabilities at which the score's decision changes, rising; none of another task."""
        if self.task != "binary":
            return []
        return (self.policy or Policy()).limits(self.decision.threshold)

    @property
    def graph_path(self) -> Path:
        """The ONNX file that is served."""
        return self.directory / GRAPH_FILE

    def golden_rows(self) -> Iterator[GoldenRow]:
        """The golden rows in file order; raises `BundleError` for a line that is none."""
        output, outcome = ANSWER_MEMBERS[self.task]
        for number, golden in enumerate(self._golden_lines(), start=1):
            try:
                values = _floats(golden["margin"]), _floats(golden[output])
                yield GoldenRow(golden["row"], *values, golden[outcome] if outcome else "")
            except (KeyError, TypeError, ValueError) as error:
                members = ", ".join(filter(None, ("row", "margin", output, outcome)))
                raise BundleError(
                    f"expected {members} in line {number} of {self.directory / GOLDEN_FILE}, "
                    f"got another line ({error!r}): export the bundle again"
                ) from None

    def golden_fields(self) -> list[dict[str, Any]]:
        """The golden rows as clients send them, whatever else the lines hold."""
        return [line["row"] for line in self._golden_lines() if isinstance(line.get("row"), dict)]

    def _golden_lines(self) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(self.read(GOLDEN_FILE).splitlines(), start=1):
            golden = object_or_empty(line)
            if not golden:
                raise BundleError(
                    f"expected a JSON object in line {number} of {self.directory / GOLDEN_FILE}, "
                    "got another line: export the bundle again"
                )
            yield golden

    def read(self, file: str) -> bytes:
        """The content of one of the bundle's files: of `KEPT_FILES` the bytes that were verified."""
        content = self.contents.get(file)
        return (self.directory / file).read_bytes() if content is None else content

    def read_json(self, file: str) -> Any:
        """The content of one of the bundle's JSON files."""
        try:
            return orjson.loads(self.read(file))
        except orjson.JSONDecodeError as error:
            raise BundleError(
                f"expected {self.directory / file} to be JSON, got: {first_line(error)}: export it again"
            ) from None


def write_bundle(
    directory: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    files: Mapping[str, bytes],
    *,
    replace: bool = True,
) -> Bundle:
    """Write a bundle so that the folder is complete or absent, and load it.

    The files are written beside `directory` and renamed into place; an existing
    bundle is replaced only once the new one is whole. `manifest` lacks `format`
    and `files`, which are added here. Raises `BundleError` when `directory`
    holds something that is no bundle, or, without `replace`, other content under
    the same name and version.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()) and not (directory / MANIFEST_FILE).exists():
        raise BundleError(f"expected {directory} to be new, empty or a bundle, got a folder with other files")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    whole = {"format": FORMAT, **manifest, "files": hashes}
    written = orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n"
    if not replace:
        _check_label(directory, whole, hashlib.sha256(written).hexdigest())
    with _replaced(directory) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / MANIFEST_FILE).write_bytes(written)
    return Bundle.load(directory)


def _check_label(directory: Path, manifest: Mapping[str, Any], digest: str) -> None:
    """Raise `BundleError` where the folder, or its way back, has this name and version with other content."""
    for folder in (directory, sibling(directory, "previous")):
        try:
            old, known = read_manifest(folder)
        except BundleError:  # none, or a damaged one: then anything is better
            continue
        if known != digest and all(old.get(member) == manifest[member] for member in ("name", "version")):
            raise BundleError(
                f"expected a version of {manifest['name']} of its own, got other content under "
                f"{manifest['name']}@{manifest['version']}, which stands at {folder}: give another "
                "--version, or --replace if nobody was answered by it"
            )


def golden_lines(task: str, rows: Iterable[GoldenRow]) -> bytes:
    """The content of `golden.jsonl`: members as in a response of this task, numbers as hexadecimal text."""
    return b"".join(orjson.dumps(_golden(task, row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _golden(task: str, row: GoldenRow) -> dict[str, Any]:
    output, outcome = ANSWER_MEMBERS[task]
    line = {"row": row.fields, "margin": _hexadecimal(row.margins), output: _hexadecimal(row.outputs)}
    return line | {outcome: row.outcome} if outcome else line


def _hexadecimal(values: tuple[float, ...]) -> str | list[str]:
    return values[0].hex() if len(values) == 1 else [value.hex() for value in values]


def _floats(texts: str | list[str]) -> tuple[float, ...]:
    return tuple(map(float.fromhex, texts if isinstance(texts, list) else [texts]))


def _members(value: Any, form: type[Any], where: str) -> dict[str, Any]:
    """The members of an object, of which none is unknown to the dataclass `form`."""
    known = {field.name for field in fields(form)}
    members: dict[str, Any] = typed(value, dict[str, Any], where)
    if unknown := set(members) - known:
        raise ValueError(f"at {where}: expected members {', '.join(sorted(known))}, got {min(unknown)}")
    return members


def _decision(value: Any) -> Decision:
    decision: Decision = typed(_members(value, Decision, "decision"), Decision, "decision")
    return decision


def _policy(manifest: Mapping[str, Any], schema: Schema, decision: Decision) -> Policy | None:
    if "policy" not in manifest:
        return None
    policy: Policy = typed(manifest["policy"], Policy, "policy")
    numbers = {feature.name for feature in schema.features if feature.kind != "category"}
    problem = policy.problem(
        set(schema.names), numbers, decision.threshold, decision.below, decision.otherwise
    )
    if manifest["task"] != "binary":
        problem = f"expected the task binary of a model with a policy, got {manifest['task']}"
    if problem:
        raise ValueError(f"at policy: {problem}")
    return policy


def _feature(entry: dict[str, Any]) -> Feature:
    where = f"feature {str(entry.get('name'))[:_NAME_LENGTH]!r}"
    made = Feature.from_dict(_members(entry, Feature, where))
    feature: Feature = typed(msgspec.to_builtins(made), Feature, where)
    problem = _problem(feature)
    if problem:
        raise ValueError(f"at {where}: {problem}")
    return feature


def _problem(feature: Feature) -> str:
    """What makes a feature unusable although each of its members has its type; "" if nothing does."""
    count = len(feature.categories)
    if not feature.name:
        return "expected a name, got none"
    if (feature.kind == "category") != bool(count):
        return f"expected categories of a category alone, got {count} of a {feature.kind}"
    if len(set(feature.categories)) != count or len(feature.category_labels) not in (0, count):
        return "expected each category once, and a label for each or none"
    for member, words in MARKS.items():
        if (word := getattr(feature, member)) and word not in words:
            return f"expected {member} to be one of {', '.join(words)}, got {word!r:.60}"
    if feature.unknown and not count:
        return f"expected unknown categories of a category alone, got some of a {feature.kind}"
    ends = [end for end in (feature.minimum, feature.maximum) if end is not None]
    if not all(map(math.isfinite, ends)) or ends != sorted(ends):
        return "expected a minimum that is at most the maximum"
    return _problem_of_example(feature)


def _problem_of_example(feature: Feature) -> str:
    """What makes the default, or without one the range, no value of the feature; "" if nothing does."""
    try:
        if (example := feature.example) is not None:
            feature.encode(example)
    except (FieldError, ValueError):
        what = "a range with a value in it" if feature.default is None else "a default"
        return f"expected {what} that is {feature.expected}, got another"
    return ""


def check_descriptions(bundle: Bundle, manifest: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a description of another type, or one that does not fit the features."""
    described = descriptions(manifest)
    counts = {feature.name: len(feature.categories) for feature in (*bundle.schema.features, *bundle.context)}
    for language, words in described.get("translations", {}).items():
        for name, own in (words.features or {}).items():
            if own.category_labels and len(own.category_labels) != counts.get(name, len(own.category_labels)):
                raise ValueError(
                    f"at translations.{language:.20}.features.{name:.100}: expected a label for each category"
                )
    for example in described.get("examples", ()):
        try:
            bundle.schema.encode(example.row)
        except UnacceptableRow as refusal:
            words = "; ".join(f"{error.pointer}: {error.detail}" for error in refusal.errors)
            raise ValueError(f"at examples: {example.name:.100} is no row of the features, {words}") from None


#: Names stand in paths, in labels and in names of files.
_NAME_LENGTH = 128


def _word(manifest: Mapping[str, Any], member: str) -> str:
    """A name or version."""
    word = manifest[member]
    if (
        not isinstance(word, str)
        or not word.isprintable()
        or not 0 < len(word) <= _NAME_LENGTH
        or set(word) & set("/\\@")
        or word in (".", "..")
    ):
        shown = repr(word)[: _NAME_LENGTH + 2]
        raise ValueError(
            f"the {member} {shown} is no text of 1 to {_NAME_LENGTH} characters without a slash or an @"
        )
    return word


def _classes(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    task = manifest["task"]
    classes: tuple[str, ...] = typed(manifest.get("classes", ()), tuple[OutcomeName, ...], "classes")
    if task not in TASKS:
        raise ValueError(f"the task {task!r} is not one of {', '.join(TASKS)}")
    if (task == "multiclass") != (len(classes) > 1) or len(set(classes)) != len(classes):
        raise ValueError("a multiclass model names its classes, each once, another none")
    return classes


@contextmanager
def _replaced(directory: Path) -> Iterator[Path]:
    directory.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    with ExitStack() as unfinished:
        unfinished.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # mkdtemp makes 0700, which another user cannot serve
        yield folder
        sync_tree(folder)
        old = folder.with_name(folder.name + ".old")
        if directory.exists():
            directory.rename(old)
        folder.rename(directory)
        sync_path(directory.parent)
        unfinished.pop_all()
        shutil.rmtree(old, ignore_errors=True)
