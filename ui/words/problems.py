"""What the server refuses of a file, or of what a person says, in French too: its own words are English."""

from string import Formatter

from ui.words.text import NBSP

#: Of the server's sentences, as they are written, the French; what stands in `{name}` is taken over.
_FRENCH = {
    "expected {all} cells, got {count}": "{all} cellules attendues, {count} reçues",
    "expected the column {names}, which every row needs: add it to the file": (
        "colonne attendue, nécessaire à chaque ligne : {names} ; ajoutez-la au fichier"
    ),
    "expected the columns {names}, which every row needs: add them to the file": (
        "colonnes attendues, nécessaires à chaque ligne : {names} ; ajoutez-les au fichier"
    ),
    "expected columns of the model ({names}) in the file, got them all in one: separate them by , "
    "; | or tab": (
        "attendu : des colonnes du modèle ({names}), reçu : une seule ; séparez-les par , ; | ou tabulation"
    ),
    "expected columns of the model ({names}) in the file, got {got}: none of them is one: rename them": (
        "attendu : des colonnes du modèle ({names}), reçu : {got}, dont aucune n'en est une ; renommez-les"
    ),
    "expected the file to begin with the names of its columns, got a line of values: add a line "
    "with their names": (
        "attendu : une première ligne avec les noms des colonnes, reçu : des valeurs ; ajoutez cette ligne"
    ),
    "expected the file to begin with the names of its columns, got them in line {line}: remove the "
    "lines above": (
        "attendu : les noms des colonnes en première ligne, reçus en ligne {line} ; supprimez les "
        "lignes au-dessus"
    ),
    "expected the file to begin with a CSV header, got nothing": (
        "attendu : un fichier qui commence par les noms des colonnes, reçu : rien"
    ),
    "expected a first line with the names of the columns, got an empty one": (
        "attendu : une première ligne avec les noms des colonnes, reçu : une ligne vide"
    ),
    "expected one column for {name} in the file, got {one} and {other}: remove or rename one of them": (
        "attendu : une seule colonne pour {name}, reçu : {one} et {other} ; supprimez-en ou renommez-en une"
    ),
    "expected the column {name} in the file, got {got}: rename it": (
        "attendu : la colonne {name}, reçu : {got} ; renommez-la"
    ),
    "expected text in the file, got bytes of another kind of file": (
        "attendu : du texte, reçu : un autre genre de fichier"
    ),
    "expected at most {most} columns in the file, got more": (
        "attendu : au plus {most} colonnes, reçu : davantage"
    ),
    "expected a header of at most {most} lines in the file, got a longer one: is a quote not closed?": (
        "attendu : un en-tête d'au plus {most} lignes, reçu : un plus long ; un guillemet jamais fermé ?"
    ),
    "expected numbers with one decimal sign, got {one} and {other}: write all of them with a "
    "point, or all with a comma": (
        "attendu : un seul signe décimal, reçu : {one} et {other} ; écrivez-les tous avec un point, "
        "ou tous avec une virgule"
    ),
    "expected numbers that can be read in one way, got {got}, whose {sign} may part thousands or "
    "be the decimal sign: write them without what parts thousands": (
        "attendu : des nombres qui se lisent d'une seule façon, reçu : {got}, où {sign} peut séparer "
        "les milliers ou être le signe décimal ; écrivez-les sans séparateur de milliers"
    ),
    "expected a prediction log to look in, got HOTROW_LOG_MODE=off": (
        "attendu : un journal où chercher, reçu : HOTROW_LOG_MODE=off"
    ),
    "expected a decision of {names}, got another": ("attendu : une décision parmi {names}, reçu : une autre"),
    "expected an Excel workbook (.xlsx) or CSV: it is no .xlsx workbook: save it as .xlsx or CSV": (
        "attendu : un classeur Excel (.xlsx) ou du CSV, reçu : autre chose ; enregistrez-le en .xlsx ou CSV"
    ),
    "expected an Excel workbook (.xlsx) or CSV: it unpacks to {more}: save it as CSV": (
        "attendu : un classeur Excel (.xlsx) plus petit ; enregistrez-le en CSV"
    ),
    "expected an Excel workbook (.xlsx) or CSV: it has more than {more}: save it as CSV": (
        "attendu : un classeur Excel (.xlsx) plus petit ; enregistrez-le en CSV"
    ),
    "expected a reason for deciding otherwise than the model, got none": (
        "attendu : une raison de décider autrement que le modèle, reçu : aucune"
    ),
    "expected a reason or a note, got neither": (
        "attendu : une raison ou une note, reçu : ni l'une ni l'autre"
    ),
    "expected a decision of a model that is served here, got one of {models}": (
        "attendu : une décision d'un modèle servi ici, reçu : une de {models}"
    ),
    "expected a workbook that can be read soon, got one that cannot": (
        "attendu : un classeur qui se lit sans attendre, reçu : un autre ; réessayez"
    ),
    "expected a whole workbook, to be read within 1 GiB of memory and {seconds} seconds, got "
    "another: save it as CSV": (
        "attendu : un classeur entier, lu en 1 Gio de mémoire et {seconds} secondes, reçu : un autre "
        "; enregistrez-le en CSV"
    ),
}


def told(detail: str) -> dict[str, str]:
    """The server's words for a script, `problem`, and in `french` where they are known; else as they are."""
    return {"problem": detail, "french": french(detail)}


def french(detail: str) -> str:
    """The French of the server's words; those that are not known stay as they are."""
    for sentence, words in _FRENCH.items():
        if (values := _values(sentence, detail)) is not None:
            said = {name: _rest(value) for name, value in values.items()}
            return words.replace(" :", f"{NBSP}:").format(**said)
    return detail


def _rest(names: str) -> str:
    """Names of which the last are only counted (`server.errors.listed`), the count in French."""
    named, _, rest = names.rpartition(" and ")
    count, _, word = rest.partition(" ")
    return f"{named} et {count} de plus" if word == "more" and count.isdecimal() else names


def _values(sentence: str, detail: str) -> dict[str, str] | None:
    """What stands in the `{names}` of a sentence, if the words are this one; in time linear in them."""
    values: dict[str, str] = {}
    name, at = None, 0
    for words, following, _, _ in Formatter().parse(sentence):
        place = detail.find(words, at)
        if place < 0 or (name is None and place):
            return None
        if name is not None:
            values[name] = detail[at:place]
        name, at = following, place + len(words)
    if name is not None:
        return values | {name: detail[at:]}
    return values if at == len(detail) else None
