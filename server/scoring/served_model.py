"""One bundle as a worker serves it: verified, warm, and everything its answers are made from."""

from functools import cached_property

import orjson

from server.explain.explainer import Explainer
from server.log.prediction_log import PredictionLog
from server.metrics.shared import WorkerMetrics
from server.model.bundle import GRAPH_FILE, PARITY_FILE, Bundle
from server.scoring.many_rows import RowsScorer
from server.scoring.one_row import make_scorer


class ServedModel:
    """The scorers of one bundle in one worker, with its documents.

    Raises `BundleError` when a golden row is off by a bit, and `SettingsError`
    when the log's rules do not fit the bundle. A reload makes new ones and leaves
    the old ones to the requests that have them.
    """

    def __init__(self, bundle: Bundle, metrics: WorkerMetrics, log: PredictionLog | None) -> None:
        self.bundle = bundle
        self.scorer = make_scorer(bundle, metrics, log)
        self.scorer.predictor.check_golden_rows()
        self.rows = RowsScorer(self.scorer, metrics)
        self.explainer = Explainer(bundle)

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
        """What `GET /model` answers: the manifest and the certificate."""
        return orjson.dumps(self.bundle.manifest | {"parity": self.bundle.read_json(PARITY_FILE)})
