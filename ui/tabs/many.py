"""Many cases from a CSV file or a workbook: sent by the page in pieces, each scored and given back.

The server keeps nothing between two pieces: the file is put together in the
browser, and a piece costs the others no more than one small batch.
"""

import asyncio
import csv
import io
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.api.body import media_type, read_body
from server.errors import MalformedBody, UnacceptableRow
from server.explain.reasons import MAX_PRINCIPAL, AskedReasons
from server.model.predictor import Predictor
from server.model.row_names import row_name
from server.model.schema import Schema
from server.scoring.scored import ScoredRows
from server.scoring.served_model import ServedModel
from server.scoring.service import Service
from server.tables.columns import output_columns, prefix_for
from server.tables.csv_dialect import SEPARATORS, Options
from ui.access.login import USER
from ui.cases.decide import origin_members
from ui.cases.examples import examples_of
from ui.cases.table import (
    TableRows,
    UploadedTable,
    columns_of,
    context_of,
    fields_of,
    read_rows,
    read_table,
    written,
)
from ui.drawing.histogram import histogram, looks
from ui.tabs.mapping import ColumnMapping
from ui.tabs.work_list import Groups, RefusedRows, reasons_of, work_list_html
from ui.words.bands import bands_of
from ui.words.labels import Labels
from ui.words.problems import told
from ui.words.text import NBSP, Text, scroll, tag
from ui.words.values import texts_of
from ui.words.wording import Wording
from ui.workbook.bounded import MAX_CSV_BYTES, MAX_WORKBOOK_BYTES, Workbooks

#: Bins of the distribution of scores, over 0 to 1.
BINS = 40
#: What is read of one body: the page sends pieces of some 64 KiB, however large a file is.
MAX_PIECE_BYTES = 2**18
#: Records of a preview, faults that are listed of it, columns of the file's own that the list of rows shows.
PREVIEW_ROWS, LISTED_FAULTS, OWN_COLUMNS = 6, 100, 2
#: What leads from a row of the scored file to its line of the log.
ORIGIN = ("id", "model", "scored_at")
ERROR = "error"
_CSV = "text/csv"
_ACCEPTED = ".csv,.txt,.tsv,.xlsx,text/csv"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

_HEADING = Text("Score a file", "Calculer un fichier")
_LEAD = Text(
    "A CSV file or an Excel workbook with a line for each {case} and the columns of the template, in any "
    "order. An empty cell is unknown. Other columns, such as a number of your own, are carried along.",
    "Un fichier CSV ou un classeur Excel, une ligne par {case}, avec les colonnes du modèle de fichier dans "
    "un ordre quelconque. Une cellule vide est inconnue. D'autres colonnes, comme votre propre numéro, sont "
    "reprises telles quelles.",
)
_TEMPLATE = Text("Download the template", "Télécharger le modèle de fichier")
_CHOOSE = Text("Choose a CSV file or a workbook", "Choisir un fichier CSV ou Excel")
_DROP = Text("or drop it here", "ou déposez-le ici")
_PRIVACY = Text(
    "The file is sent to this server alone, in pieces, and left nowhere. Rows that are scored are counted "
    "and logged like any other decision.",
    "Le fichier n'est envoyé qu'à ce serveur, par morceaux, et n'est gardé nulle part. Les lignes calculées "
    "sont comptées et journalisées comme toute décision.",
)
_SCORE, _STOP = Text("Score all rows", "Calculer toutes les lignes"), Text("Stop", "Arrêter")
_TRIAL = Text(
    "A trial: neither logged nor counted, as for the limit studio of the tab Model",
    "Un essai, ni journalisé ni compté, par exemple pour l'atelier des limites de l'onglet Modèle",
)
_SAVE = Text("Download the scored file", "Télécharger le fichier calculé")
_SAVE_WORKBOOK = Text("As an Excel workbook", "En classeur Excel")
_DISTRIBUTION = Text("How the scores are spread", "Répartition des scores")
_PREVIEW = Text("Preview", "Aperçu")
_COLUMNS = Text(
    "{known} of {all} {all:column|columns} of the model found.",
    "{known} {known:colonne du modèle trouvée|colonnes du modèle trouvées} sur {all}.",
)
_CARRIED = Text("Carried along: {names}.", f"Reprises telles quelles{NBSP}: {{names}}.")
_WATCHED = Text(
    "Logged and never scored: {names}.", f"Journalisées et jamais prises en compte{NBSP}: {{names}}."
)
_ABSENT = Text("Unknown in every row: {names}.", f"Inconnues dans chaque ligne{NBSP}: {{names}}.")
_FINE = Text(
    "{count} {count:row|rows} looked at: all is fine.",
    f"{{count}} {{count:ligne vérifiée|lignes vérifiées}}{NBSP}: tout est correct.",
)
_BAD_CELL = Text("not accepted", "non acceptée")


def many_html(model: ServedModel, most_rows: int) -> str:
    """The tab: a file to choose, and places for what `many.js` shows of it; a piece has `most_rows`."""
    bundle = model.bundle
    groups = Groups(bundle, model.rows.judge)
    words = Wording.of(bundle)
    bands = bands_of(bundle)
    bars = looks(bands, [i / BINS for i in range(BINS + 1)]) if bands else []
    spread = ""
    if bands:
        drawn = histogram(bands, "", _DISTRIBUTION, has_policy=bundle.policy is not None)
        spread = tag("h3", _DISTRIBUTION) + drawn
    return (
        f'<div class="many" data-bars="{escape(json.dumps(bars))}" data-outcomes="{groups.outcomes}" '
        f'data-groups="{escape(json.dumps(groups.words))}" data-most="{most_rows}">'
        f'<section class="sheet">{tag("h2", _HEADING)}{tag("p", _LEAD.put(case=words.case))}'
        f'<div class="drop"><label class="choose"><input type="file" id="file" accept="{_ACCEPTED}">'
        f"{tag('span', _CHOOSE, class_='button')}</label>{tag('span', _DROP, class_='or')}"
        f"{tag('a', _TEMPLATE, href='page/template.csv', download=f'{bundle.name}-template.csv')}</div>"
        f"{tag('p', _PRIVACY, class_='note')}</section>"
        f'<p class="problem" role="alert"></p>'
        f'<section class="sheet preview" hidden>{tag("h2", _PREVIEW)}<p class="file"></p>'
        f'<div class="content"></div><p class="as-trial"><label><input type="checkbox" id="as-trial"> '
        f"{tag('span', _TRIAL)}</label></p>"
        f"{tag('button', _SCORE, type='button', class_='score primary')}</section>"
        f'<section class="sheet progress" hidden><progress max="1" value="0" aria-label="CSV"></progress>'
        f'<p role="status" class="state"></p>{tag("button", _STOP, type="button", class_="stop")}</section>'
        f'<section class="sheet summary" hidden><div class="figures" role="status"></div>'
        f'<div class="spread">{spread}</div>'
        f'<p class="saves">{tag("button", _SAVE, type="button", class_="save primary")}'
        f"{tag('button', _SAVE_WORKBOOK, type='button', class_='save-workbook')}</p></section>"
        f"{work_list_html()}</div>"
    )


def many_routes(service: Service, model: ServedModel) -> list[Route]:
    """`/page/template.csv`, `/page/many` and what is below it, for one model."""
    many, workbooks = Many(model), Workbooks()

    async def template(_: Request) -> Response:
        return Response(template_csv(model.scorer.predictor), media_type=_CSV)

    async def check(request: Request) -> Response:
        return await _answered(request, many.check)

    async def score(request: Request) -> Response:
        return await _answered(request, many.tried if "trial" in request.query_params else many.score)

    async def texts(request: Request) -> Response:
        return await _answered(request, many.texts)

    async def _answered(request: Request, work: Any) -> Response:
        media_type(request, (_CSV,))
        body = await read_body(request, min(MAX_PIECE_BYTES, service.settings.max_body_bytes))
        most = service.settings.max_batch_rows
        renames = _renames(request)
        # A piece that is one long record is looked through several times before a row can be told.
        table = await asyncio.to_thread(
            read_table, body, _first_line(request), most, many.schema, _options(request), renames
        )
        return _json(await work(table, request.scope.get(USER, "")))

    async def unpack(request: Request) -> Response:
        body = await read_body(request, min(MAX_WORKBOOK_BYTES, service.in_flight.max_held_bytes))
        return Response(await workbooks.csv_of(body), media_type=_CSV)

    async def pack(request: Request) -> Response:
        media_type(request, (_CSV,))
        body = await read_body(request, min(MAX_CSV_BYTES, service.in_flight.max_held_bytes))
        options = _options(request)
        made = await workbooks.workbook_of(body, options.separator, options.decimal)
        return Response(made, media_type=_XLSX)

    posts = {"": score, "/check": check, "/texts": texts, "/sheet": unpack, "/workbook": pack}
    return [
        Route("/page/template.csv", template),
        *(Route(f"/page/many{name}", _telling(work), methods=["POST"]) for name, work in posts.items()),
    ]


def _telling(work: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The same, and what is wrong with a file in the answer: the script shows it beside the file."""

    async def answered(request: Request) -> Response:
        try:
            return await work(request)
        except (MalformedBody, UnacceptableRow) as problem:
            return _json(told(problem.detail))

    return answered


def _json(content: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(content), media_type="application/json", headers=headers)


def _first_line(request: Request) -> int:
    first = request.query_params.get("first", "2")
    return int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 2


def _renames(request: Request) -> dict[str, str]:
    """What somebody said that columns mean: features by names of the file."""
    try:
        given = orjson.loads(request.query_params.get("columns", "{}"))
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given.values()):
        raise UnacceptableRow("expected features by the names of columns, got something else")
    return given


def _options(request: Request) -> Options:
    """How the file is written, as its beginning told: a piece alone may not."""
    separator, decimal = request.query_params.get("separator"), request.query_params.get("decimal")
    return Options(
        separator=separator if separator in SEPARATORS else None, decimal="," if decimal == "," else None
    )


def template_csv(predictor: Predictor) -> str:
    """The columns of the model, and its examples as rows to overwrite."""
    names, table = predictor.bundle.schema.names, io.StringIO()
    writer = csv.writer(table)
    writer.writerow(names)
    for example in examples_of(predictor):
        cells = (example.row.get(name) for name in names)
        writer.writerow(int(cell) if isinstance(cell, bool) else cell for cell in cells)
    return table.getvalue()


class Many:
    """Checks and scores pieces of a file for one model; keeps nothing between two of them."""

    def __init__(self, model: ServedModel) -> None:
        self._model, self._rows, self._bundle = model, model.rows, model.bundle
        self.schema, self._labels = self._bundle.schema, Labels.of(self._bundle)
        self._index = {name: i for i, name in enumerate(self.schema.names)}
        self._mapping = ColumnMapping(self.schema, self._labels)
        self._context = self._bundle.context
        self._fields = Schema((*self.schema.features, *self._context))
        self._groups = Groups(self._bundle, self._rows.judge)
        self._refused = RefusedRows(self._fields, self._labels)
        self._asked = AskedReasons(MAX_PRINCIPAL) if model.explainer.is_offered else None

    async def check(self, table: UploadedTable, _: str) -> dict[str, Any]:
        """What the file's beginning looks like: its columns and first rows, as HTML, scored by nobody."""
        mapping = await asyncio.to_thread(self._mapping.html, table)
        try:
            columns = self._check_header(table)
        except UnacceptableRow as problem:
            return {**told(problem.detail), "html": mapping}
        rows = await read_rows(table, self.schema, self._rows.scorer.decode, self._context)
        return {
            "html": self._preview(table, columns, rows) + mapping,
            "faults": self._refused.listed(rows.faults[:LISTED_FAULTS]),
            "separator": table.delimiter,
            "decimal": table.dialect.rules.decimal,
            "own": self._own(table, columns),
            "labels": [[*self._labels.label(feature)] for feature in self.schema.features],
        }

    async def texts(self, table: UploadedTable, _: str) -> dict[str, Any]:
        """The first record as the texts of the form, scored by nobody."""
        return {"texts": texts_of(self._fields, fields_of(table, self.schema, self._context))}

    async def tried(self, table: UploadedTable, user: str) -> dict[str, Any]:
        """The same as `score` of rows that are no decisions: neither logged nor counted, without an id."""
        return await self.score(table, user, is_trial=True)

    async def score(self, table: UploadedTable, user: str, *, is_trial: bool = False) -> dict[str, Any]:
        """The piece's records with the model's answers behind them, and what each is listed under.

        Raises `UnacceptableRow` if a column that every row needs is not there.
        """
        columns = self._check_header(table)
        added = self._added(table.header)
        started_ns = time.perf_counter_ns()
        rows = await read_rows(table, self.schema, self._rows.scorer.decode, self._context)
        counts: list[int] = []
        answers: list[list[str]] = []
        listed: dict[int, dict[str, Any]] = {}
        if rows.texts:
            scored = (await self._rows.score(rows.matrix))._replace(identity=origin_members(user=user))
            if self._asked is not None:
                reasons = await self._model.reasons_of_rows(rows.matrix, scored, self._asked)
                scored = scored._replace(reasons=reasons)
            with nullcontext(scored) if is_trial else self._rows.numbered(scored) as scored:
                answers = self._cells(scored, scored.id, table.dialect.rules.decimal == ",")
                counts = self._counts(scored)
                listed = dict(zip(rows.positions, self._listed(scored, scored.id), strict=True))
            if not is_trial:
                await self._rows.record(rows.texts, rows.matrix, scored, started_ns)
        lines = await written(self._records(table, rows, answers, len(added)), table.delimiter)
        listed |= self._repairs(table, rows, columns)
        return {
            "header": "".join(await written(iter([[*table.header, *added]]), table.delimiter)),
            "rows": [{"text": line, "line": table.lines[i], **listed[i]} for i, line in enumerate(lines)],
            "counts": counts,
        }

    def _check_header(self, table: UploadedTable) -> dict[str, int]:
        """The position of each feature's column; raises `UnacceptableRow` if one is needed and not there."""
        columns = columns_of(table, self.schema)
        absent = [f.name for f in self.schema.features if not f.nullable and f.name not in columns]
        if absent:
            raise UnacceptableRow(
                f"expected the columns {', '.join(absent)}, which every row needs: add them to the file"
            )
        return columns

    def _added(self, header: Sequence[str]) -> list[str]:
        """The names of the added columns, of which the file has none."""
        added = [*output_columns(self._bundle, reasons=int(self._asked is not None)), *ORIGIN, ERROR]
        return [prefix_for(added, header, None) + name for name in added]

    def _records(
        self, table: UploadedTable, rows: TableRows, answers: list[list[str]], added: int
    ) -> Iterator[Sequence[str]]:
        """Every record in order; of a bad one the answer is empty and the error says why."""
        answered = dict(zip(rows.positions, answers, strict=True))
        faults: dict[int, list[str]] = {}
        for line, column, detail, _ in rows.faults:
            faults.setdefault(line, []).append(f"{column}: {detail}" if column else detail)
        empty = [""] * (added - 1)
        width = len(table.header)
        for position, record in enumerate(table.records):
            cells = [*record[:width], *([""] * (width - len(record)))]
            found = "; ".join(faults.get(table.lines[position], []))
            yield [*cells, *answered.get(position, empty), found]

    def _cells(self, scored: ScoredRows, name: str, decimal_comma: bool) -> list[list[str]]:
        """The answer of each row; repr writes the shortest digits that read back to the same float64."""
        names, now = self._bundle.outcomes, datetime.now(UTC).isoformat(timespec="seconds")
        rows = []
        for i, (output, outcome) in enumerate(zip(scored.outputs, scored.outcomes.tolist(), strict=True)):
            values = [repr(value) for value in (output if isinstance(output, list) else [output])]
            if decimal_comma:
                values = [value.replace(".", ",") for value in values]
            said = [names[outcome]] if names[outcome] else []
            if self._rows.judge is not None and scored.verdicts is not None:
                said += self._rows.judge.cells(int(scored.verdicts[i]))
            if scored.reasons:
                said.append("; ".join(reason["text"] for reason in reasons_of(scored, i)))
            rows.append([*values, *said, name and row_name(name, i), self._bundle.label, now])
        return rows

    def _counts(self, scored: ScoredRows) -> list[int]:
        if self._bundle.task != "binary":
            return []
        bins = np.minimum((np.asarray(scored.outputs) * BINS).astype(int), BINS - 1)
        counts: list[int] = np.bincount(bins, minlength=BINS).tolist()
        return counts

    def _listed(self, scored: ScoredRows, name: str) -> Iterator[dict[str, Any]]:
        """Of each scored row its figure, its groups, the inputs that are its reasons, its name in the log."""
        for i, (output, groups) in enumerate(zip(scored.outputs, self._groups.of(scored), strict=True)):
            inputs = [self._index[reason["feature"]] for reason in reasons_of(scored, i)]
            result = max(output) if isinstance(output, list) else output
            yield {"result": result, "groups": groups, "reasons": inputs, "id": name and row_name(name, i)}

    def _repairs(
        self, table: UploadedTable, rows: TableRows, columns: Mapping[str, int]
    ) -> dict[int, dict[str, Any]]:
        """Of each refused row what is to repair, by its position."""
        faults = {line: list(of) for line, of in groupby(rows.faults, lambda fault: fault.row)}
        return {
            i: self._refused.row(faults[line], table.records[i], columns)
            for i, line in enumerate(table.lines)
            if line in faults
        }

    def _own(self, table: UploadedTable, columns: Mapping[str, int]) -> list[int]:
        """The first columns that are carried along: what somebody knows a row by."""
        used = set(columns.values())
        return [i for i, name in enumerate(table.header) if name and i not in used][:OWN_COLUMNS]

    def _preview(self, table: UploadedTable, columns: Mapping[str, int], rows: TableRows) -> str:
        used = {position: name for name, position in columns.items()}
        watched = context_of(table, self.schema, self._context).values()
        carried = [n for i, n in enumerate(table.header) if n and i not in used and i not in watched]
        absent = [name for name in self.schema.names if name not in columns]
        said = [_COLUMNS.put(known=str(len(used)), all=str(len(self.schema)))]
        said += [_WATCHED.put(names=", ".join(table.header[i] for i in watched))] if watched else []
        said += [_CARRIED.put(names=", ".join(carried))] if carried else []
        said += [_ABSENT.put(names=", ".join(absent[:12]))] if absent else []
        said += [_FINE.put(count=str(len(table.records)))] if table.records and not rows.faults else []
        bad = {(fault.row, fault.feature) for fault in rows.faults}
        names = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
        # A record of more cells than the header is refused, and has room for many thousands.
        shown_records = [record[: len(table.header) + 1] for record in table.records[:PREVIEW_ROWS]]
        body = "".join(
            f'<tr><th scope="row">{line}</th>{"".join(_preview_cells(used, record, line, bad))}</tr>'
            for line, record in zip(table.lines, shown_records, strict=False)
        )
        line = tag("th", Text("line", "ligne"), scope="col")
        shown = f"<table><thead><tr>{line}{names}</tr></thead><tbody>{body}</tbody></table>"
        return "".join(tag("p", text) for text in said) + scroll(_PREVIEW, shown)


def _preview_cells(
    used: Mapping[int, str], record: Sequence[str], line: int, bad: set[tuple[int, str]]
) -> Iterator[str]:
    for position, cell in enumerate(record):
        text = escape(cell[:60])
        if position in used and (line, used[position]) in bad:
            yield f'<td class="bad">{text} {tag("span", _BAD_CELL, class_="mark")}</td>'
        else:
            yield f"<td>{text}</td>"
