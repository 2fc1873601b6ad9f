"""Columns of a file that are no input of the model by their names: what each of them may mean."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import product

from server.model.schema import Feature, Schema
from server.tables.columns import FeatureNames
from ui.cases.table import UploadedTable
from ui.words.labels import Labels
from ui.words.text import Text, attribute, tag

#: Columns that are asked about, and inputs that each may be: bounds on the markup and the work.
MOST_COLUMNS, MOST_INPUTS = 30, 60
#: How alike names must be for a proposal (difflib's ratio).
_ALIKE = 0.6
_HEADING = Text("Columns that are no input by their names", "Colonnes qui ne sont aucune entrée par leur nom")
_LEAD = Text(
    "Say what they mean. What is proposed is alike by name alone: look at it.",
    "Dites ce qu'elles signifient. Ce qui est proposé se ressemble par le nom seul : vérifiez-le.",
)
_CARRIED = Text("none: carried along", "aucune : reprise telle quelle")
_NEEDED = Text("{label} (needed)", "{label} (nécessaire)")
_USE = Text("Use these columns", "Utiliser ces colonnes")


class ColumnMapping:
    """Asks what columns mean; `renames` of a table are what was answered before."""

    def __init__(self, schema: Schema, labels: Labels) -> None:
        self._schema, self._labels = schema, labels

    def html(self, table: UploadedTable) -> str:
        """A list for each column that is no input, or is one because somebody said so; "" without any."""
        named = FeatureNames(self._schema)
        others = [name for name in dict.fromkeys(table.header) if name and named(name) is None]
        columns = [name for name in others if name not in self._schema.context]
        known = {named(name) for name in table.header}
        absent = [feature for feature in self._schema.features if feature.name not in known]
        inputs = sorted(absent, key=lambda feature: feature.nullable)[:MOST_INPUTS]
        if not columns or not inputs:
            return ""
        columns = columns[:MOST_COLUMNS]
        chosen = table.renames or self._proposed(columns, inputs)
        lists = "".join(self._list(i, name, inputs, chosen.get(name, "")) for i, name in enumerate(columns))
        return (
            f'<div class="mapping">{tag("h3", _HEADING)}{tag("p", _LEAD)}'
            f'<div class="choices-of">{lists}</div>'
            f"{tag('button', _USE, type='button', class_='map')}</div>"
        )

    def _list(self, number: int, column: str, inputs: Sequence[Feature], chosen: str) -> str:
        options = [tag("option", _CARRIED, value="")]
        for feature in inputs:
            label = self._labels.label(feature)
            words = label if feature.nullable else _NEEDED.put(label=label)
            selected = {"selected": ""} if feature.name == chosen else {}
            options.append(tag("option", words, value=feature.name, **selected))
        name = f"column-{number}"
        return (
            f'<p><label for="{name}">{escape(column[:60])}</label><select id="{name}" '
            f"{attribute('data-column', Text.same(column))}>{''.join(options)}</select></p>"
        )

    def _proposed(self, columns: Sequence[str], inputs: Sequence[Feature]) -> Mapping[str, str]:
        """The most alike input of each column, none for two."""
        forms = {f.name: [x for n in {f.name, *self._labels.label(f)} for x in _forms(n)] for f in inputs}
        pairs = sorted(
            ((alike, column, name) for column in columns for name, alike in _alike(column, forms)),
            reverse=True,
        )
        found: dict[str, str] = {}
        for _, column, name in pairs:
            if column not in found and name not in found.values():
                found[column] = name
        return found


def _alike(column: str, inputs: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, float]]:
    """The inputs whose names, in any of their forms, are like that of a column, and how much."""
    matchers = [difflib.SequenceMatcher(b=form) for form in _forms(column)]  # what is costly is of `b`
    for name, forms in inputs.items():
        best = 0.0
        for matcher, form in product(matchers, forms):
            matcher.set_seq1(form)
            if matcher.real_quick_ratio() >= _ALIKE <= matcher.quick_ratio():
                best = max(best, matcher.ratio())
        if best >= _ALIKE:
            yield name, best


def _forms(name: str) -> set[str]:
    """The letters of a name, its words as they stand and sorted, as "credit amount" is "amount of credit"."""
    words = re.findall(r"[^\W_]+", name[:60].casefold())
    return {"".join(words), "".join(sorted(words))}
