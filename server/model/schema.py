"""What a row is made of: features in order, and the way from a client's JSON to float64.

The same code encodes a row in training, at export and at serving time, so the
three cannot disagree about what a category or a missing value becomes.
"""

import codecs
import math
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from server.errors import MAX_LISTED_ERRORS, FieldError, MalformedBody, UnacceptableRow, not_acceptable
from server.model.json_text import has_more
from server.model.wrong_value import got, got_no_object, is_missing_word

Kind: TypeAlias = Literal["number", "integer", "flag", "category"]
#: One encoded row: the bytes of F float64 in schema order, NaN where a value is missing.
Row: TypeAlias = bytes
Matrix: TypeAlias = npt.NDArray[np.float64]

#: The largest integer up to which every integer is a float64 (IEEE 754 binary64).
MAX_EXACT_INTEGER = 2**53

#: A row of more values is refused without building them: 350,000 lists, which 1 MiB may hold,
#: take a tenth of a second to make and to take apart. A shorter text cannot have so many.
MAX_VALUES = 2**15

#: Categories that an error names; of 10,000 each of many bad rows would repeat them all.
MAX_CATEGORIES = 50

#: Characters of a client's name for a field that a response repeats.
MAX_NAME = 200

#: Characters of a context field's text.
MAX_CONTEXT = 200
#: What a feature may be marked with; "" says nothing.
MARKS = {
    "personal": ("keep", "drop", "hash", "bucket"),
    "actionable": ("no", "yes", "up", "down"),
    "monotone": ("up", "down"),
    "missing": ("highest", "lowest"),
    "unknown": ("missing", "infrequent"),
}
NO_FEATURE = "expected no such field: it is no feature of this model"
CONTEXT_EXPECTED = f"expected a number, a truth or a text of at most {MAX_CONTEXT} characters"


@dataclass(frozen=True, slots=True)
class Inferred:
    """What a model or its training data looked like: it guides forms, and binds no request."""

    kind: Kind | None = None
    minimum: float | None = None
    maximum: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The member `inferred` of a feature: what is known of it."""
        members = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the model, as the bundle describes it.

    `kind`, `minimum` and `maximum` (both included) are what requests are held to:
    somebody wrote them, or the model is exact for nothing else. What was read off
    a model or its training data stands in `inferred`. `default` is a typical
    value for forms and examples; it never stands in for a value the client did not
    send. `personal` says how the prediction log hides the value: `drop`, `hash` or
    `bucket`. `unknown` says what a text that is none of the categories means: "" refuses it,
    `missing` and `infrequent` take it for a missing value, which the model's own encoder takes
    for one it does not know. `protected`, `actionable` and `monotone` are what a description said,
    `missing` that a missing value gives the `highest` or the `lowest` output of all values,
    `drift_tolerance` the PSI that is no drift of it yet.
    """

    name: str
    kind: Kind = "number"
    label: str = ""
    help: str = ""
    unit: str = ""
    group: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    category_labels: tuple[str, ...] = ()
    default: float | str | None = None
    nullable: bool = True
    inferred: Inferred = Inferred()
    personal: str = ""
    protected: bool = False
    actionable: str = ""
    monotone: str = ""
    missing: str = ""
    unknown: str = ""
    drift_tolerance: float | None = None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Feature":
        """A feature from its entry in `bundle.json`."""
        lists = {"categories", "category_labels"}
        typed: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in fields.items()}
        inferred = typed.pop("inferred", {})
        if inferred is True:  # as bundles of version 0.1 mark a range that binds no request
            inferred = {name: typed.pop(name) for name in ("minimum", "maximum") if name in typed}
        return cls(**typed, inferred=Inferred(**inferred or {}))

    def to_dict(self) -> dict[str, Any]:
        """The entry of `bundle.json`: every field that says something."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["inferred"] = self.inferred.to_dict()
        kept = {k: v for k, v in fields.items() if v is not None and v is not False and v not in ("", (), {})}
        return kept | {"nullable": self.nullable}

    @property
    def range(self) -> tuple[float, float]:
        """The bounds that requests are held to, infinite where there are none."""
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return (low, high)

    @property
    def form_kind(self) -> Kind:
        """What a form offers: the kind that was written, else the one that training had."""
        return self.inferred.kind if self.kind == "number" and self.inferred.kind else self.kind

    @property
    def form_range(self) -> tuple[float | None, float | None]:
        """The range a form shows: each bound as written, else as seen in training, else None."""
        seen = self.inferred
        return (
            seen.minimum if self.minimum is None else self.minimum,
            seen.maximum if self.maximum is None else self.maximum,
        )

    @property
    def example(self) -> float | str | None:
        """A value for examples: the default, or one in the range."""
        if self.default is not None:
            is_whole = self.form_kind in ("flag", "integer")
            return int(self.default) if is_whole else self.default
        if self.kind == "category":
            return self.categories[0]
        if self.nullable:
            return None
        low, high = self.range
        nearest = min(max(0.0, low), high)
        if self.kind != "integer":
            return nearest
        return math.floor(nearest) if nearest < 0 else math.ceil(nearest)

    @property
    def expected(self) -> str:
        """The accepted values in words, for error messages and documentation."""
        if self.kind == "category":
            words = "one of " + ", ".join(f'"{name}"' for name in self.categories[:MAX_CATEGORIES])
            more = len(self.categories) - MAX_CATEGORIES
            words += f" and {more} more" if more > 0 else ""
            words += " or another text" if self.unknown else ""
        elif self.kind == "flag":
            words = "0, 1, true or false"
        else:
            words = ("an integer" if self.kind == "integer" else "a number") + self._range_words()
            words += ", true or false" if self.form_kind == "flag" else ""
        return words + (" or null" if self.nullable else "")

    def _range_words(self) -> str:
        low, high = self.range
        if math.isinf(low) and math.isinf(high):
            return ""
        if math.isinf(high):
            return f" of at least {low:.15g}"
        if math.isinf(low):
            return f" of at most {high:.15g}"
        return f" between {low:.15g} and {high:.15g}"

    def encode(self, value: Any) -> float:
        """The float64 the model sees for one JSON value.

        Raises `FieldError` with what was expected and the *type* of what came;
        the value itself is never repeated.
        """
        if value is None:
            if self.nullable:
                return math.nan
            raise FieldError("", f"expected {self.expected}, got null", "missing")
        if self.kind == "category":
            return self._encode_category(value)
        # bool is an int in Python: a flag takes it, and a number that was one in training.
        kind = type(value)
        if kind is bool and self.takes_truths:
            return float(value)
        if kind is not float and kind is not int:
            raise FieldError("", f"expected {self.expected}, got {self._got(value)}")
        low, high = (0, 1) if self.kind == "flag" else self.range
        if not low <= value <= high or abs(value) == math.inf:
            raise FieldError("", f"expected {self.expected}, got a number outside of it", "range")
        if self.kind != "number" and (value != int(value) or abs(value) > MAX_EXACT_INTEGER):
            raise FieldError("", f"expected {self.expected}, got another number")
        try:
            return float(value)
        except OverflowError:
            raise FieldError("", f"expected {self.expected}, got a larger integer", "range") from None

    def _encode_category(self, value: Any) -> float:
        for spelling in _spellings(value):
            if spelling in self.categories:
                return float(self.categories.index(spelling))
        if self.unknown and type(value) is str:
            return math.nan
        if type(value) is str:
            other = self._got(value) if is_missing_word(value) else "another string"
            raise FieldError("", f"expected {self.expected}, got {other}", "category")
        raise FieldError("", f"expected {self.expected}, got {self._got(value)}")

    def _got(self, value: Any) -> str:
        return got(value, takes_null=self.nullable)

    @property
    def takes_truths(self) -> bool:
        """Whether true or false may stand for a value: of a flag, and of categories that are truths."""
        if self.kind == "category":
            return any(truth in self.categories for truth in (*_spellings(False), *_spellings(True)))
        return self.form_kind == "flag"

    @property
    def numbers(self) -> dict[float, float]:
        """The code of each number that stands for a category in a tensor, which has no texts.

        Of texts that is the code itself; of numbers and truths what stood in the table of training.
        There is none where it could be either, as where only some are numbers: 1 is "1" or the second.
        """
        codes = [float(code) for code in range(len(self.categories))]
        if not any(map(_reads_as_number, self.categories)):
            return dict(zip(codes, codes, strict=True))
        numbers = [number for category in self.categories if (number := _number_of(category)) is not None]
        return dict(zip(numbers, codes, strict=True)) if len(set(numbers)) == len(codes) else {}

    def decode(self, code: float) -> Any:
        """The JSON value that `encode` turns into `code`: the inverse of `encode`."""
        if math.isnan(code):
            return None
        if self.kind == "category":
            return self.categories[int(code)]
        return code if self.kind == "number" else int(code)


def _number_of(category: str) -> float | None:
    """The number or truth whose text a category is, None if it is another text."""
    for number in (False, True, *_read(category)):
        if category in _spellings(number):
            return float(number)
    return None


def _reads_as_number(category: str) -> bool:
    """Whether it is one, or might be meant as one: no table of numbers has "007" or "1e3"."""
    return _number_of(category) is not None or bool(_read(category))


def _read(category: str) -> tuple[float, ...]:
    """The finite number that a text reads as, if it does."""
    try:
        number = float(category)
    except ValueError:
        return ()
    return (number,) if math.isfinite(number) else ()


def _spellings(value: Any) -> tuple[str, ...]:
    """The texts a category of this value may have: a column of numbers or booleans has texts of them."""
    if type(value) is str:
        return (value,)
    if type(value) is bool:
        return (str(value), str(value).lower())
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        whole = (str(int(value)),) if value == int(value) and abs(value) <= MAX_EXACT_INTEGER else ()
        return (*whole, repr(float(value))) if abs(value) <= sys.float_info.max else ()
    return ()


class Schema:
    """The ordered features of one model, and the only way rows are encoded.

    `ignored` are names that rows may have beside the features, whatever their values:
    columns of the training table that the model drops. `context` are such names too, whose
    values are logged: each a number, a truth, null or a text of at most `MAX_CONTEXT`.
    """

    def __init__(
        self, features: Iterable[Feature], ignored: Iterable[str] = (), context: Iterable[str] = ()
    ) -> None:
        self.features = tuple(features)
        self.context = tuple(context)
        self.ignored = (*ignored, *self.context)
        self.names = tuple(feature.name for feature in self.features)
        self._index = {name: i for i, name in enumerate(self.names)}
        if len(self._index) != len(self.names):
            raise ValueError("feature names must be unique")
        if not self._index.keys().isdisjoint(self.ignored):
            raise ValueError("ignored names must be those of no feature")
        self._required = tuple(i for i, f in enumerate(self.features) if not f.nullable)
        self._all_missing = array("d", [math.nan] * len(self.names))
        self._bounds = tuple(map(_number_bounds, self.features))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, name: str) -> Feature:
        return self.features[self._index[name]]

    def encode(self, fields: Mapping[str, Any]) -> Row:
        """The row of one JSON object; absent and null are missing.

        Raises `UnacceptableRow` naming every bad field at once.
        """
        row = self._all_missing[:]
        errors: list[FieldError] = []
        more = 0  # unknown names beyond those that a response lists
        index, features, bounds = self._index, self.features, self._bounds
        for name, value in fields.items():
            i = index.get(name)
            # The common case, a number within its range, needs no call of `encode`.
            if i is not None and (type(value) is float or type(value) is int):
                low, high = bounds[i]
                if low <= value <= high:
                    row[i] = value
                    continue
            if i is None:
                if name in self.ignored:
                    if name in self.context and not is_context(value):
                        errors.append(FieldError(pointer(name), CONTEXT_EXPECTED))
                    continue
                if len(errors) < MAX_LISTED_ERRORS:
                    errors.append(FieldError(pointer(name), NO_FEATURE, "unknown"))
                else:
                    more += 1
                continue
            try:
                row[i] = features[i].encode(value)
            except FieldError as error:
                errors.append(error.at(pointer(name)))
        for i in self._required:
            name = features[i].name
            if name not in fields:
                nothing = f"expected {features[i].expected}, got nothing"
                errors.append(FieldError(pointer(name), nothing, "missing"))
        if errors:
            raise UnacceptableRow(not_acceptable(len(errors) + more, "field"), errors=errors)
        return row.tobytes()

    def encode_columns(self, columns: Mapping[str, Sequence[Any]]) -> Matrix:
        """The rows of a table as an [n, F] float64 matrix, for training and files.

        `columns` maps feature names to equally long sequences of JSON values; a
        feature without a column is missing in every row. Raises
        `UnacceptableRow` whose pointers are `/row/feature`.
        """
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise ValueError("expected columns of one length")
        matrix = np.full((lengths.pop(), len(self)), np.nan)
        errors = []
        for i, feature in enumerate(self.features):
            for n, value in enumerate(columns.get(feature.name, ())):
                try:
                    matrix[n, i] = feature.encode(value)
                except FieldError as error:
                    errors.append(error.at(f"/{n}{pointer(feature.name)}"))
        if errors:
            raise UnacceptableRow(not_acceptable(len(errors), "field"), errors=errors)
        return matrix

    def fields(self, row: Sequence[float]) -> dict[str, Any]:
        """The JSON object of a row, as a client would send it: the inverse of `encode`."""
        return {
            f.name: f.decode(code) for f, code in zip(self.features, row, strict=True) if not math.isnan(code)
        }


def is_context(value: Any) -> bool:
    """Whether a value may stand in a field of context."""
    return (
        value is None
        or type(value) in (bool, int, float)
        or (type(value) is str and len(value) <= MAX_CONTEXT)
    )


def _number_bounds(feature: Feature) -> tuple[float, float]:
    """Finite bounds within which every number is one of the feature; none for other kinds."""
    if feature.kind != "number":
        return (math.inf, -math.inf)
    low, high = feature.range
    return (max(low, -sys.float_info.max), min(high, sys.float_info.max))


def parse_object(body: bytes, max_values: int = MAX_VALUES) -> dict[str, Any]:
    """Parse a request body that must be one JSON object, of no more than `max_values` values.

    orjson refuses NaN, Infinity and numbers beyond float64, as RFC 8259 asks.
    """
    if len(body) > max_values and _has_more_values(body, max_values):
        raise UnacceptableRow(f"expected a JSON object of at most {max_values} values, got more")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise MalformedBody("expected a JSON object, got an empty body") from None
        raise MalformedBody(f"expected a JSON object, got {_no_json(body, error)}") from None
    if type(fields) is not dict:
        raise UnacceptableRow(f"expected a JSON object, got {got_no_object(fields)}")
    return fields


def _has_more_values(body: bytes, limit: int) -> bool:
    """Whether there are more commas, arrays or objects; of what is no JSON orjson finds out unbuilt."""
    if not any(has_more(body, character, limit) for character in (b",", b"[", b"{")):
        return False
    try:
        _skipped.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


#: Reads JSON to its end, and makes nothing of it.
_skipped = msgspec.json.Decoder(msgspec.Raw)


def _no_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    """What came instead of JSON: the mistakes that serialisers make by name, the others by their place."""
    if b"\0" in body[:4]:
        return "text in UTF-16 or UTF-32: send it in UTF-8"
    if body.startswith(codecs.BOM_UTF8):
        return "a byte order mark (BOM) before it: send UTF-8 without one"
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return f"bytes that are not UTF-8 at position {wrong.start + 1}: send it in UTF-8"
    where = f"at column {error.colno}"
    if b"\n" in body.strip():
        where = f"at line {error.lineno}, column {error.colno}"
    for word in ("NaN", "Infinity"):
        if error.doc.startswith(word, error.pos):
            return f"{word} {where}, which JSON does not have: send null for what is missing"
    # The parser's words name the mistake and repeat nothing of the text.
    return f"something that is not JSON {where}: {error.msg}"


def pointer(name: str) -> str:
    """The JSON Pointer (RFC 6901) of a member of the top-level object; of an endless name its beginning."""
    if len(name) > MAX_NAME:
        name = name[:MAX_NAME] + "…"
    return "/" + name.replace("~", "~0").replace("/", "~1")


def name_in(pointer: str) -> str:
    """The member that a JSON Pointer names: its last part."""
    return pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
