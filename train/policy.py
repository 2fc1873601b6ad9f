"""What the shipped model's decision hangs on beside the score: what no model of these inputs can judge."""

from typing import Any

import numpy as np

from train.tables.rows import Rows

#: The quantiles of the clients learned from beyond which a value is unusual.
OUTSIDE = (0.001, 0.999)
#: Figures of a person have more digits than anybody would make up.
_DIGITS = 2
#: Inputs whose unusual values nobody can be accepted by. A value of the others that is too good to be true
#: does not exist (a score ends at 1, nothing is less overdue than 0), and one that is bad is scored as such.
_WATCHED = ("AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY", "AGE_YEARS", "YEARS_EMPLOYED")
#: None of the clients has fewer inputs: what is missing then was left out.
_KNOWN_AT_LEAST = 7
#: A fifth of the clients have no External score 3, and are no worse for it. Where it is missing, only a risk
#: below this share of the threshold is accepted: so far nobody's risk falls who leaves it out.
_NEEDED, _UNLESS_SHARE = "EXT_SOURCE_3", 0.5
_CHECKS: list[dict[str, Any]] = [
    {
        "feature": "YEARS_EMPLOYED",
        "at_most": {"feature": "AGE_YEARS", "plus": -14.0},
        "then": "refer",
        "name": "employed_as_a_child",
        "text": {
            "en": "In the present job since before the age of 14",
            "fr": "Dans l'emploi actuel depuis avant l'âge de 14 ans",
        },
    },
    {
        "feature": "AMT_ANNUITY",
        "at_most": {"feature": "AMT_CREDIT"},
        "then": "refer",
        "name": "repayment_above_credit",
        "text": {
            "en": "One repayment is larger than the credit",
            "fr": "Un remboursement dépasse le montant du crédit",
        },
    },
    {
        "feature": "AMT_ANNUITY",
        "at_most": {"feature": "AMT_INCOME_TOTAL"},
        "then": "refer",
        "name": "repayment_above_income",
        "text": {
            "en": "One repayment is larger than the income",
            "fr": "Un remboursement dépasse le revenu",
        },
    },
]


def policy(rows: Rows, threshold: float) -> dict[str, Any]:
    """Member `policy` of the bundle; what is usual is told by the rows learned from."""
    limits = {name: _usual(rows, name) for name in _WATCHED}
    return {
        "needed": {
            "known_at_least": _KNOWN_AT_LEAST,
            "always": [_NEEDED],
            "unless_below": round(threshold * _UNLESS_SHARE, 3),
            "then": "incomplete",
        },
        "checks": _CHECKS,
        "unusual": {"limits": limits, "outside": list(OUTSIDE), "inputs": 1, "then": "refer"},
    }


def _usual(rows: Rows, name: str) -> list[float]:
    """The two quantiles of an input, rounded outwards."""
    column = rows.features[:, rows.inputs.schema.names.index(name)]
    low, high = np.nanquantile(column, OUTSIDE).tolist()
    return [_rounded(low, np.floor), _rounded(high, np.ceil)]


def _rounded(value: float, towards: Any) -> float:
    if value == 0.0:
        return 0.0
    decimals = int(_DIGITS - 1 - np.floor(np.log10(abs(value))))
    return float(round(float(towards(value * 10.0**decimals)) / 10.0**decimals, max(0, decimals)))
