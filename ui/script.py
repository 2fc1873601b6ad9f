"""The page's own words for its scripts, and the scripts and styles as one head."""

import json
from pathlib import Path

from ui.words.text import NBSP, Text

_HERE = Path(__file__).parent

#: What scripts say of their own accord; all other words come with the markup.
SCRIPT_WORDS = {
    "copied": Text("Copied", "Copié"),
    "selected": Text("Selected", "Sélectionné"),
    "changed": Text(
        "The form has changed since: decide again.", "Le formulaire a changé depuis : décidez à nouveau."
    ),
    "not_sent": Text(
        "The server cannot be reached: nothing was decided. What you typed is still here.",
        "Le serveur est injoignable : rien n'a été décidé. Votre saisie est toujours là.",
    ),
    "written": Text("Written down.", "Consigné."),
    "was": Text("was {value}", "était {value}"),
    "unknown": Text("unknown", "inconnu"),
    "reading": Text("Reading the file…", "Lecture du fichier…"),
    "scoring": Text("{done} of {all} rows", "{done} lignes sur {all}"),
    "speed": Text("{rate} rows a second", "{rate} lignes par seconde"),
    "line": Text("line {line}", "ligne {line}"),
    "more": Text("{count} more not listed", "{count} autres non affichées"),
    "stopped": Text(
        "Stopped after {count} rows, which are counted and logged: the file has these. Go on scores the "
        "rest.",
        "Arrêté après {count} lignes, qui sont comptées et journalisées : le fichier les contient. Continuer "
        "calcule la suite.",
    ),
    "go_on": Text("Go on", "Continuer"),
    "score_all": Text("Score all rows", "Calculer toutes les lignes"),
    "no_rows": Text("The file has no rows to score.", "Le fichier n'a aucune ligne à calculer."),
    "too_large": Text(
        "The file is too large for the page: python -m server.batch takes files of any size.",
        "Le fichier est trop grand pour la page : python -m server.batch prend des fichiers de toute taille.",
    ),
    "kept": Text("Case {number}", "Cas {number}"),
    "all_rows": Text("rows", "lignes"),
    "bad_rows": Text("lines to correct", "lignes à corriger"),
    "rows": Text("{count} rows", "{count} lignes"),
    "between": Text(
        "{share} of the rows between {low} and {high}", "{share} des lignes entre {low} et {high}"
    ),
    "percent": Text(f"{{value}}{NBSP}%", f"{{value}}{NBSP}%"),
    "no_quote": Text(
        "expected records that end, got one that does not: is a quote never closed?",
        "attendu : des lignes qui finissent, reçu : une sans fin ; un guillemet jamais fermé ?",
    ),
    "utf8": Text(
        "expected CSV or an .xlsx workbook, got other bytes",
        "attendu : du CSV ou un classeur .xlsx, reçu : autre chose",
    ),
}


def head() -> str:
    """What stands in the head of the page."""
    words = json.dumps({key: [*text] for key, text in SCRIPT_WORDS.items()}).replace("</", "<\\/")
    language = read("base.js").replace("/*WORDS*/ {}", words)
    icon = '<link rel="icon" href="favicon.ico">'
    return f"{icon}<style>{read('page.css')}</style><script>{language}</script>"


def read(name: str) -> str:
    """The text of one of the page's files."""
    return (_HERE / name).read_text()
