"""The French of the credit bundle: what the page says of its features, examples and groups."""

from typing import Any

_SCORES = "Scores extérieurs"
_CREDIT = "Le crédit"
_PERSON = "Le demandeur"
_HISTORY = "Historique de crédit"
_MONEY = "unités monétaires"


def _external_score(number: int) -> dict[str, Any]:
    return {
        "label": f"Score externe {number}",
        "help": f"Score {number} acheté à une source extérieure, de 0 (le pire) à 1 (le meilleur). "
        "Laissez-le inconnu si cette source n'a pas de score pour le demandeur.",
        "unit": "score de 0 à 1",
        "group": _SCORES,
    }


_FEATURES: dict[str, dict[str, Any]] = {
    "EXT_SOURCE_1": _external_score(1),
    "EXT_SOURCE_2": _external_score(2),
    "EXT_SOURCE_3": _external_score(3),
    "NAME_EDUCATION_TYPE": {
        "label": "Niveau d'études",
        "help": "Le plus haut niveau atteint, tel que déclaré dans la demande.",
        "group": _PERSON,
        "category_labels": [
            "Collège",
            "Lycée ou formation professionnelle",
            "Études supérieures inachevées",
            "Études supérieures",
            "Titre universitaire",
        ],
    },
    "NAME_INCOME_TYPE": {
        "label": "Source de revenu",
        "help": "Ce dont vit le demandeur, tel que déclaré dans la demande.",
        "group": _PERSON,
        "category_labels": [
            "Étudiant",
            "Chef d'entreprise",
            "Retraité",
            "Agent de l'État",
            "Associé commercial",
            "Salarié",
            "Sans emploi",
            "En congé de maternité",
        ],
    },
    "FLAG_DOCUMENT_3": {
        "label": "Document 3 remis",
        "help": "Si le document 3 de la liste du prêteur est au dossier.",
        "group": _CREDIT,
    },
    "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean": {
        "label": "Retraits d'espèces par carte",
        "help": "Retraits mensuels au distributeur avec la carte de crédit du demandeur chez ce prêteur, "
        "en moyenne sur les relevés. Laissez inconnu s'il n'a pas cette carte.",
        "unit": "retraits par mois",
        "group": _HISTORY,
    },
    "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": {
        "label": "Plus gros impayé actuel",
        "help": "Le plus gros montant en retard sur un crédit dans le rapport de la centrale des crédits ; "
        "0 s'il n'y en a pas. Laissez inconnu si elle n'a pas de rapport.",
        "unit": _MONEY,
        "group": _HISTORY,
    },
    "AMT_INCOME_TOTAL": {
        "label": "Revenu total",
        "help": "Revenu du demandeur tel que déclaré dans la demande. L'éditeur des données ne dit pas "
        "s'il est mensuel ou annuel.",
        "unit": _MONEY,
        "group": _PERSON,
    },
    "AMT_CREDIT": {
        "label": "Montant du crédit",
        "help": "La somme prêtée, d'après l'offre de crédit.",
        "unit": _MONEY,
        "group": _CREDIT,
    },
    "AMT_ANNUITY": {
        "label": "Remboursement régulier",
        "help": "L'annuité : l'échéance remboursée à chaque période, d'après l'offre de crédit.",
        "unit": _MONEY,
        "group": _CREDIT,
    },
    "AGE_YEARS": {
        "label": "Âge",
        "help": "Au jour de la demande.",
        "unit": "ans",
        "group": _PERSON,
    },
    "YEARS_EMPLOYED": {
        "label": "Ancienneté dans l'emploi",
        "help": "Au jour de la demande. Laissez inconnu si le demandeur n'a pas d'emploi.",
        "unit": "ans",
        "group": _PERSON,
    },
    "CODE_GENDER": {
        "label": "Sexe",
        "help": "Demandé pour veiller à l'équité des décisions ; n'entre jamais dans le calcul.",
        "category_labels": ["Homme", "Non précisé", "Femme"],
    },
}

#: Member `translations` of the bundle's manifest. A bundle without it speaks its own words alone.
TRANSLATIONS: dict[str, Any] = {
    "fr": {
        "features": _FEATURES,
        "wording": {
            "title": "Demande de crédit",
            "probability": "risque de défaut",
            "case": "demandeur",
            "missed": "un défaut manqué",
            "false_alarm": "un bon client refusé",
            "below": "Acceptée",
            "otherwise": "Refusée",
        },
        "examples": {
            "safe": "Sûr · Bien sous la limite",
            "borderline": "Limite · Juste sous la limite",
            "risky": "Risqué · Bien au-dessus de la limite",
        },
        "groups": {
            "gender": "sexe",
            "age": "âge",
            "Male": "Homme",
            "Female": "Femme",
            "Not stated": "Non précisé",
            "under 30": "moins de 30 ans",
            "30 to under 40": "30 à 39 ans",
            "40 to under 50": "40 à 49 ans",
            "50 to under 60": "50 à 59 ans",
            "60 and over": "60 ans et plus",
        },
    }
}
