"""One bundle as a worker serves it: verified, warm, and everything its responses are made from."""

import asyncio
from collections.abc import Callable
from functools import cached_property

import orjson

from server.explain.explainer import Explainer
from server.explain.reasons import MAX_PRINCIPAL, AskedReasons, ReasonTexts
from server.explain.recourse import Recourse
from server.log.prediction_log import PredictionLog
from server.metrics.shared import WorkerMetrics
from server.model.bundle import GRAPH_FILE, PARITY_FILE, Bundle
from server.model.schema import Matrix, Row
from server.scoring.many_rows import SLICE_ROWS, OpenBackend, RowsScorer
from server.scoring.one_row import Extras, Respond, Send, make_scorer
from server.scoring.scored import ScoredRows

#: Rows whose reasons are worded before the event loop turns (0.5 ms).
_TURN_ROWS = 100


class ServedModel:
    """The scorers of one bundle in one worker, with its documents.

    Raises `BundleError` when a golden row is off by a bit, and `SettingsError`
    when the log's rules do not fit the bundle. A reload makes new ones and leaves
    the old ones to the requests that have them.
    """

    def __init__(
        self,
        bundle: Bundle,
        metrics: WorkerMetrics,
        log: PredictionLog | None,
        open_backend: OpenBackend | None = None,
    ) -> None:
        self.bundle = bundle
        count = metrics.scored(bundle.label, bundle.outcomes, bundle.task)
        self.scorer = make_scorer(bundle, count, log.register if log is not None else None)
        self.scorer.predictor.check_golden_rows()
        self.rows = RowsScorer(self.scorer, metrics, open_backend)
        self.explainer = Explainer(bundle, self.scorer.predictor)
        self.reason_texts = ReasonTexts(bundle)
        self.recourse = Recourse(bundle, self.scorer.predictor, self.explainer)

    def reasons_of(self, asked: AskedReasons) -> Callable[[Row], bytes]:
        """A function from an encoded row, the one scored last, to the JSON list of its reasons.

        Raises `NotOffered`.
        """
        self.explainer.check_offered()
        texts, terms, width = self.reason_texts, self.explainer.terms_given, len(self.bundle.schema)
        margins = self.scorer.predictor.last_margins

        def reasons(row: Row) -> bytes:
            values = memoryview(row).cast("d").tolist()
            own_terms = terms(row, margins())[:width]
            return orjson.dumps(texts.principal(values, own_terms, asked.most, asked.language))

        return reasons

    def responders(self) -> dict[str, Respond]:
        """What answers one row, by the query behind its path: none, and the usual ways to ask for reasons.

        Other queries, spellings and orders are read by the ASGI path.
        """
        found: dict[str, Respond] = {"": self.scorer.respond}
        if not self.explainer.is_offered:
            return found
        for most in range(1, min(MAX_PRINCIPAL, len(self.bundle.schema)) + 1):
            found[f"?reasons={most}"] = self._respond_with(AskedReasons(most))
            for language in self.reason_texts.languages:
                asked = AskedReasons(most, language)
                found[f"?reasons={most}&language={language}"] = self._respond_with(asked)
        return found

    def _respond_with(self, asked: AskedReasons) -> Respond:
        scorer, extras = self.scorer, Extras(reasons=self.reasons_of(asked), always=asked.always)

        def respond(
            body: bytes, send: Send, started_ns: int, _: Extras | None = None, identity: bytes = b""
        ) -> None:
            scorer.respond(body, send, started_ns, extras, identity)

        return respond

    async def reasons_of_rows(self, rows: Matrix, scored: ScoredRows, asked: AskedReasons) -> list[bytes]:
        """The JSON list of the reasons for each of n scored rows, float64 [n, F], `[]` of a favourable one.

        Only rows whose reasons are due are explained. The event loop turns meanwhile. Raises as
        `Explainer.terms_of`.
        """
        self.explainer.check_offered()
        decisions = (scored.outcomes if scored.verdicts is None else scored.verdicts).tolist()
        kinds = {d for d in set(decisions) if asked.always or self.scorer.is_adverse(d)}
        due = [i for i, decision in enumerate(decisions) if decision in kinds]
        width, found = len(self.bundle.schema), [b"[]"] * len(rows)
        for start in range(0, len(due), SLICE_ROWS):
            places = due[start : start + SLICE_ROWS]
            some = rows[places]
            terms = await self.rows.apart(self.explainer.terms_of, some, scored.margins[places])
            each = zip(places, some.tolist(), terms.tolist(), strict=True)
            for done, (i, values, added) in enumerate(each):
                reasons = self.reason_texts.principal(values, added[:width], asked.most, asked.language)
                # What orjson gives keeps the 4 KiB it was written to; a copy has its own size.
                found[i] = bytes(memoryview(orjson.dumps(reasons)))
                if done % _TURN_ROWS == 0:
                    await asyncio.sleep(0)
        return found

    @property
    def info(self) -> dict[str, str]:
        """The labels of `hotrow_model_info`."""
        bundle = self.bundle
        return {
            "name": bundle.name,
            "version": bundle.version,
            "sha256": bundle.manifest["files"][GRAPH_FILE],
        }

    @property
    def entry(self) -> dict[str, str]:
        """The model in `GET /models`; `digest` stands for every file of its folder."""
        return self.info | {"task": self.bundle.task, "digest": self.bundle.digest}

    @cached_property
    def document(self) -> bytes:
        """What `GET /model` answers: the manifest and the report."""
        return orjson.dumps(self.bundle.manifest | {"parity": self.bundle.read_json(PARITY_FILE)})
