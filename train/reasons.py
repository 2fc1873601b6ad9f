"""What an applicant is told of a feature that counts against her: a code, and a sentence in two languages.

A sentence holds for every value that raises the risk: "not high enough" of a score, whose
middle values may do so too, and "counted against" of what the model may judge either way.
"""

from typing import Any

_Said = dict[str, Any]


def _said(code: str, english: str, french: str) -> _Said:
    return {"code": code, "text": {"en": english, "fr": french}}


def _against(code: str, english: str, french: str) -> _Said:
    return _said(code, f"{english} counted against the application", f"{french} contre la demande")


def _score(number: int) -> dict[str, _Said]:
    return {
        "up": _said(
            f"B{number}",
            f"External score {number} is not high enough",
            f"Le score externe {number} n'est pas assez élevé",
        ),
        "missing": _said(
            f"B{number}0", f"No external score {number} is known", f"Aucun score externe {number} n'est connu"
        ),
    }


#: Member `reasons` of the bundle's manifest.
REASONS: dict[str, dict[str, _Said]] = {
    **{f"EXT_SOURCE_{number}": _score(number) for number in (1, 2, 3)},
    "NAME_EDUCATION_TYPE": {
        "up": _against("A1", "The level of education", "Le niveau d'études a compté"),
        "missing": _said("A10", "The level of education is not known", "Le niveau d'études n'est pas connu"),
    },
    "NAME_INCOME_TYPE": {
        "up": _against("A2", "The source of income", "La source de revenu a compté"),
        "missing": _said("A20", "The source of income is not known", "La source de revenu n'est pas connue"),
    },
    "FLAG_DOCUMENT_3": {
        "up": _against("C1", "The documents on file", "Les documents au dossier ont compté"),
        "missing": _said(
            "C10",
            "It is not known which documents are on file",
            "Les documents au dossier ne sont pas connus",
        ),
    },
    "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean": {
        "up": _against(
            "H1",
            "Cash withdrawals with the credit card",
            "Les retraits d'espèces par carte de crédit ont compté",
        ),
        "missing": _said(
            "H10", "No use of a credit card is known", "Aucun usage d'une carte de crédit n'est connu"
        ),
    },
    "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": {
        "up": _against("H2", "The amount overdue on a credit", "Le montant en retard sur un crédit a compté"),
        "missing": _said(
            "H20",
            "No report of the credit bureau is known",
            "Aucun rapport de la centrale des crédits n'est connu",
        ),
    },
    "AMT_INCOME_TOTAL": {
        "up": _against("A3", "The amount of the income", "Le montant du revenu a compté"),
        "missing": _said("A30", "The income is not known", "Le revenu n'est pas connu"),
    },
    "AMT_CREDIT": {
        "up": _against("C2", "The amount of the credit", "Le montant du crédit a compté"),
        "missing": _said(
            "C20", "The amount of the credit is not known", "Le montant du crédit n'est pas connu"
        ),
    },
    "AMT_ANNUITY": {
        "up": _said(
            "C3", "The regular repayment is not low enough", "Le remboursement régulier n'est pas assez bas"
        ),
        "missing": _said("C30", "The repayments are not known", "Les remboursements ne sont pas connus"),
    },
    "AGE_YEARS": {
        "up": _against("A4", "The age", "L'âge a compté"),
        "missing": _said("A40", "The age is not known", "L'âge n'est pas connu"),
    },
    "YEARS_EMPLOYED": {
        "up": _said(
            "A5",
            "Time in the present job is not long enough",
            "L'ancienneté dans l'emploi n'est pas assez longue",
        ),
        "missing": _said("A50", "No present job is known", "Aucun emploi actuel n'est connu"),
    },
}
