"""The page's own words for its scripts, and the scripts and styles as one head."""

import json
from pathlib import Path

from ui.words.text import NBSP, Text

_HERE = Path(__file__).parent

#: What scripts say of their own accord; all other words come with the markup.
SCRIPT_WORDS = {
    "copied": Text("Copied", "Copié"),
    "selected": Text("Selected", "Sélectionné"),
    "was": Text("was {value}", "était {value}"),
    "unknown": Text("unknown", "inconnu"),
    "reading": Text("Reading the file…", "Lecture du fichier…"),
    "scoring": Text("{done} of {all} rows", "{done} lignes sur {all}"),
    "speed": Text("{rate} rows a second", "{rate} lignes par seconde"),
    "line": Text("line {line}", "ligne {line}"),
    "more": Text("{count} more not listed", "{count} autres non affichées"),
    "stopped": Text(
        "Stopped. Rows scored so far are counted and logged; no file was made.",
        "Arrêté. Les lignes déjà calculées sont comptées et journalisées ; aucun fichier n'a été créé.",
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
    "utf8": Text("expected CSV in UTF-8, got other bytes", "attendu : du CSV en UTF-8, reçu : autre chose"),
}


def head() -> str:
    """What stands in the head of the page."""
    words = json.dumps({key: [*text] for key, text in SCRIPT_WORDS.items()}).replace("</", "<\\/")
    language = read("base.js").replace("/*WORDS*/ {}", words)
    return f"<style>{read('page.css')}</style><script>{language}</script>"


def read(name: str) -> str:
    """The text of one of the page's files."""
    return (_HERE / name).read_text()
