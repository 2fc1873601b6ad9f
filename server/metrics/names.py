"""The routes, methods, codes and reasons that metrics are labelled with; everything else is `other`."""

from itertools import product
from typing import get_args

from server import errors
from server.errors import Problem, Reason

OTHER = "other"
#: The one outcome of a model that answers with a value (`Bundle.outcomes`).
VALUE = ""
#: Label values come from these sets alone; everything else is `other`.
ROUTES = (
    "/predict",
    "/predict/batch",
    "/explain",
    "/recourse",
    "/model",
    "/models",
    "/models/predict",
    "/models/predict/batch",
    "/models/explain",
    "/models/recourse",
    "/decisions/{id}/override",
    "/outcomes",
    "/livez",
    "/readyz",
    "/metrics",
    "/history",
    "/openapi.json",
    "/docs",
    "/v2",
    "/v2/infer",
    OTHER,
)
#: What a path ends in that rows are sent to, to be decided.
SCORING = ("/predict", "/predict/batch", "/explain")
#: And to be looked at.
ASKED_ROWS = (*SCORING, "/recourse")
#: The ones of `ROUTES` that answer rows: what rules, alerts, dashboard and report look at.
SCORING_ROUTES = (*SCORING, *(f"/models{end}" for end in SCORING), "/v2/infer")
METHODS = ("GET", "POST", "HEAD", OTHER)
_PROBLEMS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)]
CODES = ("200", *sorted({str(problem.status) for problem in _PROBLEMS}), OTHER)
#: What alerts look at, there from the start: of a series that begins with its first count Prometheus
#: sees no rise, and the first burst of errors would be none.
FROM_THE_START = frozenset(
    (route, "POST", code) for route in SCORING_ROUTES for code in ("200", "422", "500", "503")
)
#: The bound of the latency objective: all that a series without a count need tell, a page of empty
#: buckets costs the event loop a millisecond a scrape.
OBJECTIVE_SECONDS = 5e-3
#: What durations are counted by: route, method and code, in the order of their slots.
REQUEST_LABELS = tuple(product(ROUTES, METHODS, CODES))
DROP_REASONS = ("queue_full", "disk", "failed")
SHED_REASONS = ("inflight",)
#: What became of a span: its collector took it or did not; no room in the log's ring, or in the queue behind.
SPAN_RESULTS = ("exported", "failed", "log_full", "queue_full")
RELOAD_RESULTS = ("ok", "failed")
#: Why a field of a row was refused, in the order of their slots.
REFUSED_REASONS: tuple[Reason, ...] = get_args(Reason)
#: Of a row that a challenger was given: decided (or classed) as it was, or not; no row of its schema, or no
#: outcome; not scored for want of time.
CHALLENGER_RESULTS = ("same", "flipped", "rejected", "shed")

#: What the Open Inference Protocol's statistics of a model are made of.
STATISTICS = (
    "last_ms",
    "rows",
    "calls",
    "success",
    "success_ns",
    "fail",
    "fail_ns",
    "queue_ns",
    "input_ns",
    "infer_ns",
    "output_ns",
)


def route_label(path: str) -> str:
    """The one of `ROUTES` that a path is counted under."""
    if path.startswith("/v2"):
        return "/v2/infer" if path.endswith("/infer") else "/v2"
    if path.startswith("/docs/"):
        return "/docs"
    if path.startswith("/decisions/"):
        return "/decisions/{id}/override" if path.endswith("/override") else OTHER
    if path.startswith("/models/"):
        return next((f"/models{end}" for end in ASKED_ROWS if path.endswith(end)), "/models")
    return path if path in ROUTES else OTHER
