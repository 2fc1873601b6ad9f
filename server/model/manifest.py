"""Members of `bundle.json` held to their types, and to what the parity report has found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Object = dict[str, Any]

#: Other rows are off by more than those that were compared: a bound is so many times what was found, and
#: not below what the last bits of sums and exponentials of some thousands make of a probability.
_BOUND_MARGIN, _LEAST_BOUND = 16.0, 1e-12


@dataclass(frozen=True)
class _Example:
    name: str
    title: str
    row: _Object


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


@dataclass(frozen=True)
class _FeatureWords:
    label: str = ""
    help: str = ""
    unit: str = ""
    group: str = ""
    category_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Wording:
    """What the page calls things."""

    title: str = ""
    below: str = ""
    otherwise: str = ""
    probability: str = ""
    case: str = ""
    missed: str = ""
    false_alarm: str = ""
    sender: str = ""
    bureau: str = ""
    refuses: bool = False


@dataclass(frozen=True)
class _Words:
    features: dict[str, _FeatureWords] | None = None
    wording: _Wording | None = None
    examples: dict[str, str] | None = None
    groups: dict[str, str] | None = None


@dataclass(frozen=True)
class _RocPoint:
    false_positive_rate: _Share
    true_positive_rate: _Share


@dataclass(frozen=True)
class _CostPoint:
    threshold: _Share
    cost: float


@dataclass(frozen=True)
class _Curves:
    roc: tuple[_RocPoint, ...] = ()
    cost: tuple[_CostPoint, ...] = ()


@dataclass(frozen=True)
class _Bin:
    probability: _Share
    default_rate: _Share


@dataclass(frozen=True)
class _Calibration:
    bins: Annotated[tuple[_Bin, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class _Costs:
    model: float
    accept_all: float
    refuse_all: float


@dataclass(frozen=True)
class _GroupFigures:
    rows: _Count
    default_rate: _Share
    mean_probability: _Share
    refusal_rate: _Share
    false_positive_rate: _Share


@dataclass(frozen=True)
class _Refused:
    rows: _Count
    defaults: _Count
    false_positive: tuple[_Count, ...]
    true_positive: tuple[_Count, ...]


@dataclass(frozen=True)
class _GroupsByLimit:
    """Of each part of a group how many would be refused at each limit."""

    limits: Annotated[tuple[_Share, ...], msgspec.Meta(min_length=1)]
    groups: dict[str, dict[str, _Refused]]

    def __post_init__(self) -> None:
        for part in (part for parts in self.groups.values() for part in parts.values()):
            if not len(part.false_positive) == len(part.true_positive) == len(self.limits):
                raise ValueError("expected a count for each of limits, got another number of them")


@dataclass(frozen=True)
class _HeldOut:
    """What of the rows that a model was not trained on is drawn: a curve beside the figures it needs."""

    rows: _Count
    auc: float | UnsetType = UNSET
    auc_interval: tuple[float, float] | UnsetType = UNSET
    calibration: _Calibration | UnsetType = UNSET
    cost: _Costs | UnsetType = UNSET
    curves: _Curves = _Curves()
    groups: dict[str, dict[str, _GroupFigures]] = field(default_factory=dict)
    groups_by_limit: _GroupsByLimit | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.curves.roc and UNSET in (self.auc, self.auc_interval):
            raise ValueError("expected auc and auc_interval beside curves.roc, got none")
        if self.curves.cost and self.cost is UNSET:
            raise ValueError("expected cost beside curves.cost, got none")


@dataclass(frozen=True)
class _Evaluation:
    held_out: _HeldOut | UnsetType = UNSET


#: What describes a model and changes no response; each may be absent or null.
_DESCRIPTIONS: dict[str, Any] = {
    "title": str,
    "source": _Object,
    "examples": tuple[_Example, ...],
    "evaluation": _Evaluation,
    "provenance": _Object,
    "wording": _Wording,
    "translations": dict[str, _Words],
    "reasons": dict[str, dict[str, _Said]],
    "groups": list[str],
}


def typed(value: Any, form: Any, where: str) -> Any:
    """The value as the type `form`, tuples from lists; raises `ValueError` that names the place."""
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        said, _, inside = str(error).replace("`", "").partition(" - at $")
        raise ValueError(f"at {where}{inside}: {said[:1].lower()}{said[1:]}") from None


def descriptions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest describes, by its members; raises `ValueError` for one of another type.

    So does a source that no hash covers.
    """
    found = {
        member: typed(manifest[member], form, member)
        for member, form in _DESCRIPTIONS.items()
        if manifest.get(member) is not None
    }
    file = found.get("source", {}).get("file")
    if file is not None and file not in manifest["files"]:
        raise ValueError(f"at source.file: expected one of the files with a hash, got {str(file)[:100]!r}")
    return found


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
