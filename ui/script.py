"""The page's own words for its scripts, and the scripts and styles as one head."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ui.words.text import NBSP, Text

_HERE = Path(__file__).parent
_COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)

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
    "back": Text(
        "The server is back, and nothing was decided: decide again.",
        "Le serveur est de retour, rien n'a été décidé : décidez à nouveau.",
    ),
    "was": Text("was {value}", "était {value}"),
    "unknown": Text("unknown", "inconnu"),
    "reading": Text("Reading the file…", "Lecture du fichier…"),
    "scoring": Text("{done} of {all} {all:row|rows}", "{done} {done:ligne|lignes} sur {all}"),
    "speed": Text("{rate} {rate:row|rows} a second", "{rate} {rate:ligne|lignes} par seconde"),
    "line": Text("line {line}", "ligne {line}"),
    "stopped": Text(
        "Stopped after {count} {count:row|rows}, counted and logged, and in the file. Go on scores the rest.",
        f"Arrêté. Comptées, journalisées et dans le fichier{NBSP}: {{count}} {{count:ligne|lignes}}. "
        "Continuer calcule la suite.",
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
    "rows": Text("{count} {count:row|rows}", "{count} {count:ligne|lignes}"),
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

#: Scripts that are loaded once there is something to do for them, each with its own words.
LATER_WORDS = {
    "person.js": {
        "written": Text("Written down.", "Consigné."),
        "not_written": Text(
            "The server cannot be reached: nothing was written down.",
            "Le serveur est injoignable : rien n'a été consigné.",
        ),
    },
    "work_list.js": {
        "all_of": Text("All rows ({count})", "Toutes les lignes ({count})"),
        "bad_of": Text("Lines to correct ({count})", "Lignes à corriger ({count})"),
        "group_of": Text("{name} ({count})", "{name} ({count})"),
        "listed": Text("Shown: {shown} of {all}", f"Affichées{NBSP}: {{shown}} sur {{all}}"),
        "open_row": Text("Open on the sheet", "Ouvrir sur la fiche"),
        "look_row": Text("Letter and record", "Lettre et fiche"),
        "again": Text("Score this row again", "Recalculer cette ligne"),
        "whole_line": Text("The whole line", "La ligne entière"),
        "one_row": Text("expected one row, got several", "attendu : une seule ligne, reçu : plusieurs"),
        "to_correct": Text("To correct", "À corriger"),
        "row_of": Text("{action}, line {line}", "{action}, ligne {line}"),
        "still_bad": Text(
            "Line {line} is still not accepted.", "La ligne {line} n'est toujours pas acceptée."
        ),
        "now_good": Text("Line {line}: {name}.", f"Ligne {{line}}{NBSP}: {{name}}."),
    },
    "studio.js": {
        "last_logged": Text(
            "Logged decisions, the last {count}", f"Décisions journalisées{NBSP}: {{count}}, les dernières"
        ),
        "file_of_many": Text("The file under Many: {name}", f"Le fichier sous En nombre{NBSP}: {{name}}"),
        "no_cases": Text(
            "No case yet: decide one, or score a file under Many, as a trial.",
            "Aucun cas encore : décidez-en un, ou calculez un fichier sous En nombre, comme essai.",
        ),
        "limit_range": Text(
            "expected a limit above 0 % and below 100 %", "attendu : une limite entre 0 % et 100 %"
        ),
        "limit_order": Text("expected limits that rise", "attendu : des limites croissantes"),
        "limit_least": Text(
            "expected the first limit to be at least {least}: below it the policy asks for no more inputs",
            "attendu : une première limite d'au moins {least}, sous laquelle la politique n'exige rien",
        ),
        "cost_range": Text("expected costs of 0 or more", "attendu : des coûts d'au moins 0"),
        "cost_of": Text(
            "Expected cost a case: {now} now, {then} then.",
            f"Coût attendu par cas{NBSP}: {{now}} maintenant, {{then}} alors.",
        ),
        "cost_basis": Text(
            "By the model's own probabilities: {missed} for a missed case among the first decision, {alarm} "
            "for a false alarm among the last; what a person decides costs nothing here.",
            f"D'après les probabilités du modèle{NBSP}: {{missed}} pour un cas manqué de la première "
            "décision, {alarm} pour une fausse alerte de la dernière ; ce qu'une personne décide ne coûte "
            "rien ici.",
        ),
        "counted_at": Text(
            "Of the {count} held-out {count:case|cases}, by the score alone, counted at {limits}, the "
            "nearest to what is asked.",
            "Sur les {count} cas mis de côté, par le score seul, comptés à {limits}, au plus près de ce "
            "qui est demandé.",
        ),
        "adverse": Text("below four fifths", "sous quatre cinquièmes"),
        "flips": Text(
            "Decided otherwise: {count}. Listed: {shown}.",
            f"Décidés autrement{NBSP}: {{count}}. Affichés{NBSP}: {{shown}}.",
        ),
    },
}


def first_head(title: Text) -> str:
    """What stands in the document: the title until Gradio has drawn the page, the scripts' language."""
    titles = f"body {{ --title: {_css(title.en)} }} :lang(fr) body {{ --title: {_css(title.fr)} }}"
    script = _worded("base.js", SCRIPT_WORDS)
    # Until it is told of another, a browser asks the root of the host for one.
    icon = '<link rel="icon" href="favicon.ico">'
    return f"{icon}<style>{read('first.css')}{titles}</style><script>{script}</script>"


def head() -> str:
    """What Gradio adds to the head of the page, behind its own styles, when its scripts run."""
    return f"<style>{read('page.css')}</style>"


def later(name: str) -> str | None:
    """A script that the page loads later; None for a name of none."""
    return _worded(name, LATER_WORDS[name]) if name in LATER_WORDS else None


def _worded(name: str, words: Mapping[str, Text]) -> str:
    written = json.dumps({key: [*text] for key, text in words.items()}).replace("</", "<\\/")
    return read(name).replace("/*WORDS*/ {}", written)


def _css(text: str) -> str:
    """A text as a string of CSS, whatever is in it."""
    return '"' + "".join(c if c.isalnum() or c == " " else f"\\{ord(c):x} " for c in text) + '"'


def read(name: str) -> str:
    """The text of one of the page's files, without the comments that stand on lines of their own."""
    return _COMMENT.sub("", (_HERE / name).read_text())
