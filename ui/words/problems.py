"""What the server refuses of a file, or of what a person says, in French too: its own words are English."""

import re

from ui.words.text import NBSP

_WHERE = r"the file"
#: Of the server's sentences a pattern, and its French, in which `{name}` is a group of it.
_FRENCH = {
    r"expected (?P<all>\d+) cells, got (?P<count>\d+)": "{all} cellules attendues, {count} reçues",
    r"expected the columns? (?P<names>.+), which every row needs: add (?:it|them) to the file": (
        "colonnes attendues, nécessaires à chaque ligne : {names} ; ajoutez-les au fichier"
    ),
    rf"expected columns of the model \((?P<names>.+)\) in {_WHERE}, got them all in one: separate them by "
    r", ; \| or tab": (
        "attendu : des colonnes du modèle ({names}), reçu : une seule ; séparez-les par , ; | ou tabulation"
    ),
    rf"expected columns of the model \((?P<names>.+)\) in {_WHERE}, got (?P<got>.+): none of them is one: "
    "rename them": (
        "attendu : des colonnes du modèle ({names}), reçu : {got}, dont aucune n'en est une ; renommez-les"
    ),
    rf"expected {_WHERE} to begin with the names of its columns, got a line of values: add a line with their "
    "names": (
        "attendu : une première ligne avec les noms des colonnes, reçu : des valeurs ; ajoutez cette ligne"
    ),
    rf"expected {_WHERE} to begin with the names of its columns, got them in line (?P<line>\d+): remove the "
    "lines above": "attendu : les noms des colonnes en première ligne, reçus en ligne {line} ; supprimez "
    "les lignes au-dessus",
    rf"expected {_WHERE} to begin with a CSV header, got nothing": (
        "attendu : un fichier qui commence par les noms des colonnes, reçu : rien"
    ),
    "expected a first line with the names of the columns, got an empty one": (
        "attendu : une première ligne avec les noms des colonnes, reçu : une ligne vide"
    ),
    rf"expected one column for (?P<name>.+) in {_WHERE}, got (?P<one>.+) and (?P<other>.+): remove or rename "
    "one of them": (
        "attendu : une seule colonne pour {name}, reçu : {one} et {other} ; supprimez-en ou renommez-en une"
    ),
    rf"expected the column (?P<name>.+) in {_WHERE}, got (?P<got>.+): rename it": (
        "attendu : la colonne {name}, reçu : {got} ; renommez-la"
    ),
    rf"expected text in {_WHERE}, got bytes of another kind of file": (
        "attendu : du texte, reçu : un autre genre de fichier"
    ),
    rf"expected at most (?P<most>\d+) columns in {_WHERE}, got more": (
        "attendu : au plus {most} colonnes, reçu : davantage"
    ),
    rf"expected a header of at most (?P<most>\d+) lines in {_WHERE}, got a longer one: is a quote "
    r"not closed\?": (
        "attendu : un en-tête d'au plus {most} lignes, reçu : un plus long ; un guillemet jamais fermé ?"
    ),
    "expected numbers with one decimal sign, got (?P<one>.+) and (?P<other>.+): write all of them with a "
    "point, or all with a comma": (
        "attendu : un seul signe décimal, reçu : {one} et {other} ; écrivez-les tous avec un point, ou tous "
        "avec une virgule"
    ),
    "expected numbers that can be read in one way, got (?P<got>.+), whose (?P<sign>.+) may part thousands or "
    "be the decimal sign: write them without what parts thousands": (
        "attendu : des nombres qui se lisent d'une seule façon, reçu : {got}, où {sign} peut séparer les "
        "milliers ou être le signe décimal ; écrivez-les sans séparateur de milliers"
    ),
    "expected a prediction log to look in, got HOTROW_LOG_MODE=off": (
        "attendu : un journal où chercher, reçu : HOTROW_LOG_MODE=off"
    ),
    "expected a decision of (?P<names>.+), got another": (
        "attendu : une décision parmi {names}, reçu : une autre"
    ),
    r"expected an Excel workbook \(\.xlsx\) or CSV: it is no \.xlsx workbook: save it as \.xlsx or CSV": (
        "attendu : un classeur Excel (.xlsx) ou du CSV, reçu : autre chose ; enregistrez-le en .xlsx ou CSV"
    ),
    r"expected an Excel workbook \(\.xlsx\) or CSV: it (?:unpacks to|has more than) .+: save it as "
    "CSV": "attendu : un classeur Excel (.xlsx) plus petit ; enregistrez-le en CSV",
    "expected a reason for deciding otherwise than the model, got none": (
        "attendu : une raison de décider autrement que le modèle, reçu : aucune"
    ),
    "expected a decision of a model that is served here, got one of (?P<models>.+)": (
        "attendu : une décision d'un modèle servi ici, reçu : une de {models}"
    ),
    "expected a workbook that can be read soon, got one that cannot": (
        "attendu : un classeur qui se lit sans attendre, reçu : un autre ; réessayez"
    ),
    r"expected a whole workbook, to be read within 1 GiB of memory and (?P<seconds>\d+) seconds, got "
    "another: save it as CSV": (
        "attendu : un classeur entier, lu en 1 Gio de mémoire et {seconds} secondes, reçu : un autre ; "
        "enregistrez-le en CSV"
    ),
}


def told(detail: str) -> dict[str, str]:
    """The server's words for a script, `problem`, and in `french` where they are known; else as they are."""
    return {"problem": detail, "french": french(detail)}


def french(detail: str) -> str:
    """The French of the server's words; those that are not known stay as they are."""
    for pattern, words in _FRENCH.items():
        if found := re.fullmatch(pattern, detail):
            return words.replace(" :", f"{NBSP}:").format(**found.groupdict())
    return detail
