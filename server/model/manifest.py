"""Members of `bundle.json` held to their types, and to what the parity report has found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True)
class _Example:
    name: str
    title: str
    row: dict[str, Any]


@dataclass(frozen=True)
class _RowCounts:
    """What of a parity report says how far margins are from the source model's."""

    margin_bits_differ: int = 0
    max_margin_difference: float = 0.0
    differ: int = 0
    max_difference: float = 0.0


@dataclass(frozen=True)
class _Said:
    text: dict[str, str]
    code: str = ""


_Object = dict[str, Any]


@dataclass(frozen=True)
class _Words:
    features: dict[str, _Object] | None = None
    wording: _Object | None = None
    examples: _Object | None = None
    groups: _Object | None = None


#: What describes a model and changes no response; each may be absent or null.
_DESCRIPTIONS: dict[str, Any] = {
    "title": str,
    "source": _Object,
    "examples": list[_Example],
    "evaluation": _Object,
    "provenance": _Object,
    "wording": _Object,
    "translations": dict[str, _Words],
    "reasons": dict[str, dict[str, _Said]],
}


def typed(value: Any, form: Any, where: str) -> Any:
    """The value as the type `form`, tuples from lists; raises `ValueError` that names the place."""
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        said, _, inside = str(error).replace("`", "").partition(" - at $")
        raise ValueError(f"at {where}{inside}: {said[:1].lower()}{said[1:]}") from None


def check_descriptions(manifest: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a description of another type, or a source that no hash covers."""
    for member, form in _DESCRIPTIONS.items():
        if manifest.get(member) is not None:
            typed(manifest[member], form, member)
    file = (manifest.get("source") or {}).get("file")
    if file is not None and file not in manifest["files"]:
        raise ValueError(f"at source.file: expected one of the files with a hash, got {str(file)[:100]!r}")


def check_bound(exact: bool, bound: float, report: Any) -> None:
    """Raise `ValueError` unless the manifest claims of the margins what `parity.json` has found."""
    report = typed(report, dict[str, Any], "parity.json")
    total = typed(report.get("total", {}), _RowCounts, "total of parity.json")
    batches = typed(report.get("batch_invariance", {}), _RowCounts, "batch_invariance of parity.json")
    found_exact = not total.margin_bits_differ and not batches.differ
    found = 0.0 if found_exact else total.max_margin_difference + batches.max_difference
    if (exact, bound) != (found_exact, found):
        raise ValueError(
            f"expected exact {found_exact} and bound {found:g} as in parity.json, got {exact} and {bound:g}"
        )
