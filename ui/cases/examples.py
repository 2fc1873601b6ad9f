"""The applicants to start from: the bundle's own, else three of its golden rows."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from server.model.predictor import Predictor
from ui.words.text import Text, sentence
from ui.words.wording import french_of


class Example(NamedTuple):
    """A row to start from; `title` says what it stands for."""

    name: str
    title: str
    row: dict[str, Any]
    french: str = ""

    @property
    def heading(self) -> Text:
        """Name and title, said once where the title has the name in it."""
        named = self.name.casefold() in self.title.casefold()
        own = self.title if named else f"{sentence(self.name)} · {self.title}"
        return Text(own, self.french or own)


def examples_of(predictor: Predictor) -> list[Example]:
    """The examples of the predictor's bundle.

    A bundle without any lends golden rows: of a binary classifier those of the
    lowest and the highest probability and the one nearest the threshold.
    """
    bundle = predictor.bundle
    if given := bundle.manifest.get("examples"):
        french = french_of(bundle).get("examples") or {}
        return [Example(e["name"], e["title"], e["row"], french.get(e["name"], "")) for e in given]
    if bundle.task == "binary":
        return _golden_examples(predictor)
    rows = enumerate(islice(bundle.golden_rows(), 3), start=1)
    return [Example(f"example {i}", f"Example {i}", golden.fields, f"Exemple {i}") for i, golden in rows]


def _golden_examples(predictor: Predictor) -> list[Example]:
    limits = predictor.bundle.limits
    scored = list(_scored(predictor))
    lowest = min(scored, key=lambda pair: pair[0])
    nearest = min(scored, key=lambda pair: min(abs(pair[0] - limit) for limit in limits))
    highest = max(scored, key=lambda pair: pair[0])
    return [
        Example("low", "Lowest score", lowest[1], "Score le plus bas"),
        Example("borderline", "Nearest to the limit", nearest[1], "Le plus proche de la limite"),
        Example("high", "Highest score", highest[1], "Score le plus haut"),
    ]


def _scored(predictor: Predictor) -> Iterator[tuple[float, dict[str, Any]]]:
    for golden in predictor.bundle.golden_rows():
        probability, _ = predictor.predict(predictor.bundle.schema.encode(golden.fields))
        yield probability, golden.fields
