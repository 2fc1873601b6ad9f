"""One bundle as a worker serves it: verified, warm, and everything its responses are made from."""

from functools import cached_property

import orjson

from server.explain.explainer import Explainer
from server.log.prediction_log import PredictionLog
from server.metrics.shared import WorkerMetrics
from server.model.bundle import GRAPH_FILE, PARITY_FILE, Bundle
from server.model.schema import Row
from server.scoring.many_rows import OpenBackend, RowsScorer
from server.scoring.one_row import make_scorer


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
        self.explainer = Explainer(bundle)

    async def terms(self, row: Row) -> list[float]:
        """Of one encoded row F contributions and the base, checked against the margin.

        Of several classes, those of the likeliest. Raises what `Explainer` raises.
        """
        margins = self.scorer.predictor.row_margins(row)
        output = margins.index(max(margins))
        terms = (await self.explainer.contributions(row))[output]
        self.explainer.check_sum(terms, margins[output] / self.bundle.link.get("divisor", 1))
        return terms

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
