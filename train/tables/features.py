"""The thirteen inputs of the credit model, as a client, the form and the booster see them.

A category is encoded as its position in the list and the booster compares it as
a number, so the lists are ordered: education by level, income type by default
rate (published for the whole table: 0 % of students and business owners, 5.4,
5.8, 7.5 and 9.6 % of the next four, above 35 % of the last two, who are few).
Ranges hold every client of the Kaggle tables with room to spare; their largest
income is 117,000,000.
"""

from dataclasses import replace
from typing import Any

from server.model.schema import Feature, Schema
from train.tables.rows import Group, Inputs

_SCORES = "Scores from outside"
_CREDIT = "The credit"
_PERSON = "The applicant"
_HISTORY = "Credit history"
_MONEY = "currency units"


def _external_score(number: int, default: float) -> Feature:
    return Feature(
        name=f"EXT_SOURCE_{number}",
        label=f"External score {number}",
        help=f"Score {number} bought from an outside source, scaled from 0 (worst) to 1 (best). "
        "Leave it unknown if that source has no score for the applicant.",
        unit="score from 0 to 1",
        group=_SCORES,
        minimum=0.0,
        maximum=1.0,
        default=default,
    )


def _amount(name: str, label: str, note: str, maximum: float, default: float, **more: Any) -> Feature:
    return Feature(
        name=name, label=label, help=note, unit=_MONEY, minimum=0.0, maximum=maximum, default=default, **more
    )


_EDUCATION = {
    "Lower secondary": "Lower secondary school",
    "Secondary / secondary special": "Secondary school or vocational training",
    "Incomplete higher": "Higher education, not finished",
    "Higher education": "Higher education",
    "Academic degree": "Academic degree",
}
_INCOME_TYPE = {
    "Student": "Student",
    "Businessman": "Business owner",
    "Pensioner": "Pensioner",
    "State servant": "State employee",
    "Commercial associate": "Commercial associate",
    "Working": "Employed",
    "Unemployed": "Unemployed",
    "Maternity leave": "On maternity leave",
}
#: Watched, and never an input: what the model decides is looked at by it. "XNA" is
#: Kaggle's word for "not stated", borne by four clients.
GENDER = {"M": "Male", "XNA": "Not stated", "F": "Female"}


def _category(name: str, label: str, note: str, words: dict[str, str], default: str) -> Feature:
    return Feature(
        name=name,
        kind="category",
        label=label,
        help=note,
        group=_PERSON,
        categories=tuple(words),
        category_labels=tuple(words.values()),
        default=default,
    )


#: Order, names and kinds are the contract of the shipped bundle.
SCHEMA = Schema(
    (
        _external_score(1, 0.51),
        _external_score(2, 0.56),
        _external_score(3, 0.54),
        _category(
            "NAME_EDUCATION_TYPE",
            "Education",
            "Highest level the applicant reached, as stated on the application.",
            _EDUCATION,
            "Secondary / secondary special",
        ),
        _category(
            "NAME_INCOME_TYPE",
            "Source of income",
            "What the applicant lives on, as stated on the application.",
            _INCOME_TYPE,
            "Working",
        ),
        Feature(
            name="FLAG_DOCUMENT_3",
            kind="flag",
            label="Document 3 handed in",
            help="Whether document 3 of the lender's list is in the file.",
            group=_CREDIT,
            default=1.0,
        ),
        Feature(
            name="CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean",
            label="Cash withdrawals by credit card",
            help="Cash machine withdrawals a month with the applicant's credit card at this lender, averaged "
            "over the statements. Leave it unknown if there is no such card.",
            unit="withdrawals a month",
            group=_HISTORY,
            minimum=0.0,
            maximum=1000.0,
        ),
        _amount(
            "BUREAU_AMT_CREDIT_SUM_OVERDUE_max",
            "Largest amount overdue now",
            "The largest amount now overdue on any one credit in the credit bureau's report; 0 if none is. "
            "Leave it unknown if the bureau has no report.",
            1e9,
            0.0,
            group=_HISTORY,
        ),
        _amount(
            "AMT_INCOME_TOTAL",
            "Total income",
            "Income of the applicant as stated on the application. The publisher of the data does not say "
            "whether it is of a month or of a year.",
            1e9,
            144_000.0,
            group=_PERSON,
            nullable=False,
        ),
        _amount(
            "AMT_CREDIT",
            "Amount of the credit",
            "The sum lent, from the credit offer.",
            1e8,
            513_000.0,
            group=_CREDIT,
            nullable=False,
        ),
        _amount(
            "AMT_ANNUITY",
            "Regular repayment",
            "The annuity: the instalment paid back each period, from the credit offer.",
            1e7,
            25_000.0,
            group=_CREDIT,
        ),
        Feature(
            name="AGE_YEARS",
            label="Age",
            help="On the day of the application.",
            unit="years",
            group=_PERSON,
            minimum=18.0,
            maximum=120.0,
            default=43.0,
            nullable=False,
        ),
        Feature(
            name="YEARS_EMPLOYED",
            label="Years in the present job",
            help="Up to the day of the application. Leave it unknown if the applicant is not employed.",
            unit="years",
            group=_PERSON,
            minimum=0.0,
            maximum=80.0,
            default=4.5,
        ),
    )
)

#: Directions no applicant should see reversed: a better outside score, a higher
#: level of education, more years of age or in the job never raise the risk; more
#: cash withdrawals, a larger overdue amount or repayment never lower it. Income type
#: and document 3 follow the default rate, which gives a missing one its place.
MONOTONE = {
    "EXT_SOURCE_1": -1,
    "EXT_SOURCE_2": -1,
    "EXT_SOURCE_3": -1,
    "NAME_EDUCATION_TYPE": -1,
    "NAME_INCOME_TYPE": 1,
    "FLAG_DOCUMENT_3": 1,
    "AMT_ANNUITY": 1,
    "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean": 1,
    "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": 1,
    "AGE_YEARS": -1,
    "YEARS_EMPLOYED": -1,
}

#: What is left out is scored as the worst that could stand there, so that nobody gains by it. Not External
#: score 3: a fifth of the clients have none and are no worse for it, so that a decision without it is no
#: matter of the score alone (`train/policy.py`).
MISSING = dict.fromkeys(
    (
        "EXT_SOURCE_1",
        "EXT_SOURCE_2",
        "NAME_EDUCATION_TYPE",
        "NAME_INCOME_TYPE",
        "FLAG_DOCUMENT_3",
        "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean",
        "BUREAU_AMT_CREDIT_SUM_OVERDUE_max",
        "AMT_ANNUITY",
        "YEARS_EMPLOYED",
    ),
    "highest",
)
#: What an applicant can change: ask for less, over a longer time, and pay what is overdue.
ACTIONABLE = {"AMT_CREDIT": "down", "AMT_ANNUITY": "down", "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": "down"}
#: The same schema as it is exported: each direction, and what a missing value gives, is shown of every
#: tree, or nothing is written.
DESCRIBED = Schema(
    replace(
        feature,
        monotone={1: "up", -1: "down"}.get(MONOTONE.get(feature.name, 0), ""),
        missing=MISSING.get(feature.name, ""),
        actionable=ACTIONABLE.get(feature.name, "no"),
    )
    for feature in SCHEMA.features
)
#: What a request may hold beside: logged, so that decisions can be watched, and never scored.
CONTEXT = [
    {
        "name": "CODE_GENDER",
        "kind": "category",
        "label": "Gender",
        "help": "Asked for so that decisions can be watched for fairness. It is never scored.",
        "categories": list(GENDER),
        "category_labels": list(GENDER.values()),
    }
]

#: Lower ends of the age bands, in years.
AGE_BANDS = (0.0, 30.0, 40.0, 50.0, 60.0)
INPUTS = Inputs(
    SCHEMA,
    MONOTONE,
    MISSING,
    groups=(
        Group("gender", "CODE_GENDER", parts=tuple(GENDER.values())),
        Group("age", "AGE_YEARS", AGE_BANDS),
    ),
    max_leaves=16,
)
