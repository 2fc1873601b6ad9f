"""Members of `bundle.json` held to their types, and to what the parity report has found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

#: Other rows are off by more than those that were compared: a bound is so many times what was found, and
#: not below what the last bits of sums and exponentials of some thousands make of a probability.
_BOUND_MARGIN, _LEAST_BOUND = 16.0, 1e-12


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


def bound_of(found: float) -> float:
    """How far margins may be off, of rows that were not compared too, where so much was found."""
    return max(_LEAST_BOUND, _BOUND_MARGIN * found)


def check_bound(exact: bool, bound: float, report: Any) -> None:
    """Raise `ValueError` unless the manifest claims of the margins what follows from `parity.json`.

    Earlier bundles state what was found itself.
    """
    report = typed(report, dict[str, Any], "parity.json")
    total = typed(report.get("total", {}), _RowCounts, "total of parity.json")
    batches = typed(report.get("batch_invariance", {}), _RowCounts, "batch_invariance of parity.json")
    found_exact = not total.margin_bits_differ and not batches.differ
    found = 0.0 if found_exact else total.max_margin_difference + batches.max_difference
    most = 0.0 if found_exact else bound_of(found)
    if exact != found_exact or not found <= bound <= most:
        raise ValueError(
            f"expected exact {found_exact} and a bound of {most:g}, as follows from parity.json, got {exact} "
            f"and {bound:g}"
        )
