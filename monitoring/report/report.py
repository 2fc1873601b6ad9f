"""The report on a log: what it says, what is odd in it, and how far its rows drifted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from monitoring.drift.comparison import DriftReport, LastDay, drift_of_log, last_day
from monitoring.logs.lines import keep_lines
from monitoring.logs.status_codes import Errors, read_errors
from monitoring.logs.table import open_log
from monitoring.logs.verification import LogVerdict, Verification, verify_table
from monitoring.outcomes.challenged import Challenge
from monitoring.outcomes.reported import OutcomeReport
from monitoring.report.anomalies import Anomaly, anomalies
from monitoring.report.arms import Arms
from monitoring.report.figures import Figures, figures
from server.model.bundle import Bundle
from server.model.reference import read_reference


@dataclass(frozen=True)
class Report:
    """Everything the terminal and the page show; `errors` and drift only if there was a source."""

    figures: Figures
    anomalies: list[Anomaly]
    drift: DriftReport | None
    errors: Errors | None
    verification: Verification | None
    bundle: Bundle | None
    arms: Arms = field(default_factory=Arms)
    last_day: LastDay | None = None
    outcomes: OutcomeReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON; None for what there is no source of, or cannot be told."""
        found, lost = self.figures, self.verification
        return {
            "models": found.models,
            "first": f"{found.first.isoformat()}Z",
            "last": f"{found.last.isoformat()}Z",
            "requests": found.requests,
            "rows": found.rows,
            "unreadable": found.unreadable,
            "doubled": found.doubled,
            "astray": found.astray,
            "other_models": dict(found.others),
            "outcomes": dict(found.outcomes),
            "latency_us": found.latency.to_dict(),
            "score": found.score.to_dict(),
            "error_rate": self.errors.rate if self.errors else None,
            "anomalies": [
                {"figure": one.figure, "since": f"{one.since.isoformat()}Z", "why": one.why}
                for one in self.anomalies
            ],
            "log": {"verdict": lost.verdict.value, "lost": lost.lost} if lost else None,
            "drift": self.drift.to_dict() if self.drift else None,
            "last_day": self.last_day.to_dict() if self.last_day else None,
            "performance": self.outcomes.to_dict() if self.outcomes else None,
            "arms": self.arms.to_dict() if self.arms else None,
        }

    @property
    def has_findings(self) -> bool:
        """Whether a column drifted, lines are missing, or outcomes are worse than promised."""
        missing = self.verification is not None and self.verification.verdict is LogVerdict.MISSING
        drifted = (self.drift and self.drift.found) or (self.last_day and self.last_day.drift.found)
        return missing or bool(drifted) or bool(self.outcomes and self.outcomes.worse)


def make_report(
    paths: Sequence[Path],
    bundle: Bundle | None,
    metrics: str | None = None,
    label: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    challenged: Sequence[Challenge] = (),
) -> Report:
    """Read some logs; drift needs a bundle with a reference, errors a `/metrics` page (URL or file).

    The lines of `label` (`name@version`) count, without it those of the bundle, without
    that those of the only model; losses are looked for in all. A log holds answers
    of status 200 alone, so the error rate is not in it. `challenged` are the bundle's
    challengers, as `challenges` has them. Raises `LogError`.
    """
    errors = read_errors(metrics) if metrics else None  # before the lines, which may take long
    with open_log(paths, bundle.schema if bundle else None) as log:
        (numbered,) = log.row("select count(seq) from requests")
        verification = verify_table(log.connection, log.files) if numbered else None
        keep_lines(log, bundle, label, since, until)
        decides = bundle if bundle and bundle.task == "binary" else None
        found = figures(log, decides.outcomes, decides.decision.otherwise) if decides else figures(log)
        drift, newest = None, None
        if bundle and read_reference(bundle):
            drift, newest = drift_of_log(log, bundle), last_day(log, bundle)
        models = log.models
    return Report(
        figures=found,
        anomalies=anomalies(found),
        drift=drift,
        errors=errors,
        verification=verification,
        bundle=bundle,
        arms=Arms.of(models, bundle.label, challenged) if bundle else Arms(),
        last_day=newest,
    )
