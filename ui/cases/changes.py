"""What whoever a case is about could change, as `POST /recourse` answers it, in both languages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.errors import NotOffered
from server.explain.recourse import recourse_response
from server.model.schema import Row
from server.scoring.served_model import ServedModel
from ui.words.text import Text, joined
from ui.words.wording import Wording, decided, second_language


class WordedProposal(NamedTuple):
    """Changes made together: in words, the new values by feature name, and the probability with them."""

    words: Text
    values: Mapping[str, Any]
    probability: float


class WordedChanges(NamedTuple):
    """A sentence on what was found, the proposals, and the inputs that the policy asks for first."""

    said: Text
    proposals: Sequence[WordedProposal]
    missing: Sequence[str]


class ChangeFinder:
    """Finds them for one model, if its bundle decides and says of any input that it can be changed."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._languages = ("en", second_language(model.reason_texts.languages))

    @property
    def is_offered(self) -> bool:
        """Whether there is anything to find."""
        try:
            self._model.recourse.check_offered()
        except NotOffered:
            return False
        return True

    @property
    def tried(self) -> Text:
        """The inputs that can be changed, by their labels."""
        places = self._model.recourse.actionable
        return joined(
            [Text(*(self._model.reason_texts.label(i, n) for n in self._languages)) for i in places]
        )

    async def find(self, row: Row) -> WordedChanges:
        """The changes for one encoded row; found beside the event loop."""
        model, bundle = self._model, self._model.bundle
        found = await model.rows.apart(model.recourse.find, row)
        good = decided(bundle, Wording.of(bundle))[bundle.outcomes[0]]
        english, french = (
            recourse_response(found, row, bundle, model.reason_texts, language, word)
            for language, word in zip(self._languages, good, strict=True)
        )
        pairs = zip(english["proposals"], french["proposals"], strict=True)
        return WordedChanges(
            Text(english["text"], french["text"]), [_proposal(*pair) for pair in pairs], english["missing"]
        )


def _proposal(english: Mapping[str, Any], french: Mapping[str, Any]) -> WordedProposal:
    changes = english["changes"]
    words = [Text(a["text"], b["text"]) for a, b in zip(changes, french["changes"], strict=True)]
    values = {change["feature"]: change["to"] for change in changes}
    return WordedProposal(joined(words, "; "), values, english["probability"])
