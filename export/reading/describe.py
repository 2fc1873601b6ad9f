"""What somebody wrote of the features: a description file, checked member by member.

What the file says wins, the data fills what it leaves open, and the model's own
thresholds fill the rest. What was read off data or a model stands in `inferred`:
it guides a form and binds no request.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import orjson

from export.errors import ExportRefused
from export.forest.evidence import underscored
from export.reading.forms import NUMBER, TEXT, TEXTS, TRUTH, EntryMember, choice, fits
from server.errors import listed
from server.log.mask import RULES
from server.model.schema import Feature, Inferred, Kind

_KINDS = get_args(Kind)
_LISTS = ("categories", "category_labels")
#: Null takes these away; of other members it says nothing.
_MAY_BE_NONE = {"minimum", "maximum", "default"}
#: A reason by when it is given: a known value raises the output or lowers it, or a missing one raises it.
_WAYS = ("up", "down", "missing")
_REASON_TEXT = {
    "type": "object",
    "properties": {
        "code": TEXT,
        "text": {
            "type": "object",
            "propertyNames": {"type": "string", "pattern": "^[a-z]{2}(-[A-Za-z]+)?$"},
            "additionalProperties": TEXT,
            "minProperties": 1,
        },
    },
    "required": ["text"],
    "additionalProperties": False,
}


def template(features: Sequence[Feature]) -> bytes:
    """A schema file to edit: everything the model and the data tell."""
    # What is absent from an entry changes nothing: a default that is none must say so.
    document = {
        "features": [
            feature.to_dict() | {"default": feature.default, "inferred": feature.inferred.to_dict()}
            for feature in features
        ]
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def names_in(path: Path | None) -> tuple[str, ...]:
    """The feature names of a schema file in its order, none without a file."""
    return tuple(entry["name"] for entry in entries(path)) if path else ()


def entries(path: Path) -> list[dict[str, Any]]:
    """The features of a description, or of a list of names, one a line."""
    features = document_of(path).get("features") or []
    return _checked(features, path)


def document_of(path: Path) -> dict[str, Any]:
    """A description in YAML (`.yaml`, `.yml`) or JSON, or a list of features or names; not checked yet."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ExportRefused(
            f"expected a readable description at {path}, got: {error.strerror}; name another file"
        ) from None
    except UnicodeDecodeError:
        raise ExportRefused(f"expected {path} to be UTF-8 text, got other bytes: save it so") from None
    if path.suffix.lower() in (".yaml", ".yml"):
        document = _yaml(text, path)
    elif text.lstrip()[:1] in ("{", "["):
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ExportRefused(f"expected {path} to be JSON, got: {error}") from None
    else:
        document = [name.strip() for name in text.splitlines() if name.strip()]
    if isinstance(document, list):
        return {"features": document}
    if not isinstance(document, dict):
        raise ExportRefused(
            f"expected an object with a list of features in {path}, got another form: `--description` "
            "prints one"
        )
    if not isinstance(document.get("features", []), list):
        raise ExportRefused(
            f"expected a list of features in {path}, got another form: `--description` prints one"
        )
    return document


def _yaml(text: str, path: Path) -> Any:
    """YAML 1.2, in which `no` is a word; dates and such stay what they are and are refused by type."""
    from ruamel.yaml import YAML  # not needed for JSON
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ExportRefused(
            f"expected {path} to be YAML, got: {' '.join(str(error).split())[:200]}"
        ) from None


def _checked(items: Sequence[Any], path: Path) -> list[dict[str, Any]]:
    found = [entry({"name": item} if isinstance(item, str) else item) for item in items]
    names = [item["name"] for item in found]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise ExportRefused(f"expected each feature once in {path}, got {twice} twice")
    return found


def entry(item: Any) -> dict[str, Any]:
    """One feature as somebody wrote it, every member of its type; raises `ExportRefused`."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ExportRefused(
            'expected each feature of the description to be an object with a name, got another: {"name": …}'
        )
    of = f"the feature {item['name']}"
    check_members(item, MEMBERS, of)
    for key, value in item.items():
        member = MEMBERS[key]
        if value is not None and not fits(value, member.form):
            raise ExportRefused(f"expected {member.wanted} as {key} of {of}, got {repr(value)[:60]}")
    written = {key: value for key, value in item.items() if value is not None or key in _MAY_BE_NONE}
    if written.get("inferred") is True:  # as schemas of version 0.1 mark a range
        seen = {key: written.pop(key) for key in ("minimum", "maximum") if key in written}
        written["inferred"] = seen
    _check_together(written, of)
    return written


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, as a question; empty if none is like it."""
    near = get_close_matches(name, list(known), 1, 0.5)
    return f"did you mean {near[0]}?" if near else ""


def check_members(written: Mapping[str, Any], known: Mapping[str, Any], of: str) -> None:
    """Raise `ExportRefused`, with the nearest name, for a member that is not known."""
    for key in written:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"its members are {', '.join(known)}"
            raise ExportRefused(f"expected a member of {of} that is known, got {key}: {hint}")


def _check_together(written: Mapping[str, Any], of: str) -> None:
    low, high = written.get("minimum"), written.get("maximum")
    if low is not None and high is not None and low > high:
        raise ExportRefused(
            f"expected the minimum of {of} to be at most its maximum, got {low:g} and {high:g}"
        )
    categories, labels = (written.get(key) for key in _LISTS)
    if categories and len(set(categories)) != len(categories):
        raise ExportRefused(f"expected different categories of {of}, got one twice")
    if categories and labels and len(labels) != len(categories):
        raise ExportRefused(f"expected {len(categories)} category_labels of {of}, got {len(labels)}")


#: The members of a feature.
MEMBERS: dict[str, EntryMember] = {
    "name": EntryMember("a text", TEXT),
    "kind": EntryMember(f"one of {', '.join(_KINDS)}", choice(*_KINDS)),
    "label": EntryMember("a text", TEXT),
    "help": EntryMember("a text", TEXT),
    "unit": EntryMember("a text", TEXT),
    "group": EntryMember("a text", TEXT),
    "minimum": EntryMember("a finite number", NUMBER),
    "maximum": EntryMember("a finite number", NUMBER),
    "categories": EntryMember("a list of texts in the order of their codes", TEXTS),
    "category_labels": EntryMember("a list of texts, one a category", TEXTS),
    "default": EntryMember("a number, or a category's text", {"type": ["number", "string"]}),
    "nullable": EntryMember("true or false", TRUTH),
    "unknown": EntryMember(
        "one of refuse, missing, infrequent: what a text that is no category means",
        choice("refuse", "missing", "infrequent"),
    ),
    "inferred": EntryMember(
        "an object of kind, minimum and maximum",
        {
            "type": ["object", "boolean"],
            "properties": {"kind": choice(*_KINDS), "minimum": NUMBER, "maximum": NUMBER},
            "additionalProperties": False,
        },
    ),
    "protected": EntryMember("true or false: a characteristic that a decision may not rest on", TRUTH),
    "actionable": EntryMember(
        "one of no, yes, up, down: what an applicant can change", choice("no", "yes", "up", "down")
    ),
    "monotone": EntryMember("one of up, down: how the output must follow the value", choice("up", "down")),
    "missing": EntryMember(
        "one of highest, lowest: what a missing value gives, of all values", choice("highest", "lowest")
    ),
    "drift_tolerance": EntryMember(
        "a number from 0: the PSI that is no drift yet, 0.1 without it", {"type": "number", "minimum": 0}
    ),
    "personal": EntryMember(f"one of {', '.join(RULES)}", choice(*RULES)),
    "reason": EntryMember(
        "an object of up, down and missing, each with a code and texts by language",
        {
            "type": "object",
            "properties": dict.fromkeys(_WAYS, _REASON_TEXT),
            "minProperties": 1,
            "additionalProperties": False,
        },
    ),
}
#: What a description says of a feature that the bundle keeps elsewhere than in its features.
_NOT_OF_FEATURE = ("reason",)
assert set(MEMBERS) == {field.name for field in fields(Feature)} | set(_NOT_OF_FEATURE)


def apply_entries(
    features: Sequence[Feature], written: Sequence[Mapping[str, Any]], *, keep_names: bool = False
) -> list[Feature]:
    """The features with what was written of them; an absent entry changes nothing.

    A name that differs by `_` for a blank alone, which LightGBM puts there, becomes the feature's,
    unless its name is kept.
    """
    names, said = [feature.name for feature in features], dict[str, Mapping[str, Any]]()
    find = finder(names)
    for item in written:
        name = find(item["name"])
        if name is None or name in said:
            hint = did_you_mean(item["name"], names) or f"they are {listed(names)}"
            raise ExportRefused(
                f"expected features of the model in the description, got {item['name']}: {hint}"
            )
        said[name] = {**item, "name": name} if keep_names else item
    return [_applied(feature, said.get(feature.name, {})) for feature in features]


def finder(names: Sequence[str]) -> Callable[[str], str | None]:
    """What gives the one of the names that is this, or differs by `_` for a blank alone; None if none is."""
    own, blanks = set(names), {underscored(name): name for name in reversed(names)}
    return lambda name: name if name in own else blanks.get(underscored(name))


def apply_schema(features: Sequence[Feature], path: Path) -> list[Feature]:
    """The features, by their own names, with what a schema file says of them."""
    return apply_entries(features, entries(path), keep_names=True)


def _applied(feature: Feature, written: Mapping[str, Any]) -> Feature:
    changes: dict[str, Any] = {
        key: tuple(value) if key in _LISTS else value
        for key, value in written.items()
        if key not in _NOT_OF_FEATURE
    }
    if changes.get("unknown") == "refuse":
        changes["unknown"] = ""
    seen = replace(feature.inferred, kind=None) if "kind" in written else feature.inferred
    if "inferred" in changes:
        seen = Inferred(**changes.pop("inferred") or {})
    described = replace(feature, **changes, inferred=seen)
    if described.unknown and described.kind != "category":
        raise ExportRefused(
            f"expected {feature.name} to be a category where unknown texts are let through, got a "
            f"{described.kind}: take `unknown` out"
        )
    if described.kind != "category":
        return described
    if not described.categories:
        raise ExportRefused(
            f"expected the categories of {feature.name} in the description, got none: list them as "
            "`categories`"
        )
    return replace(described, inferred=Inferred())
