"""Look up a decision by its number: it is computed again, printed, and looked at by a person."""

from ui.words.text import Text, tag

_HEADING = Text("Find a decision", "Retrouver une décision")
_LEAD = Text(
    "By the number of an answer, as it stands on a letter, or by a case number. The decision is read "
    "from the log and computed again: every bit is compared.",
    "Par le numéro d'une réponse, tel qu'il figure sur une lettre, ou par un numéro de dossier. La "
    "décision est lue dans le journal et recalculée : chaque bit est comparé.",
)
_NUMBER = Text("Answer or case number", "Numéro de réponse ou de dossier")
_FIND = Text("Find", "Chercher")


def look_up_html() -> str:
    """The tab; `look_up.js` fills it."""
    return (
        f'<div class="look-up"><section class="sheet">{tag("h2", _HEADING)}{tag("p", _LEAD)}'
        f'<form class="search-form" autocomplete="off"><p>{tag("label", _NUMBER, for_="look-up-number")}'
        '<input id="look-up-number" type="text" maxlength="200" spellcheck="false"></p>'
        f"{tag('button', _FIND, type='submit', class_='primary')}</form>"
        '<p class="problem" role="alert"></p></section><div class="results"></div></div>'
    )
