"""The server at work, from its own metrics: rates, latencies, workers, scores, drift, log and model."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

from prometheus_client.core import Metric

from server.metrics.measured import Measured
from server.model.bundle import PARITY_FILE, Bundle
from server.scoring.service import Service
from ui.drawing.histogram import bars_html, histogram
from ui.drawing.plots import trend
from ui.tabs.alert_rules import Seen
from ui.tabs.alerts import HEADING as HEADING_OF_ALERTS
from ui.tabs.alerts import Alerts
from ui.tabs.arms import HEADING, arms_html
from ui.tabs.day import Day
from ui.tabs.drift import HEADING as HEADING_OF_DRIFT
from ui.tabs.drift import Drift
from ui.tabs.looks import MetricsSample, grown, quantile
from ui.tabs.outcomes import HEADING as HEADING_OF_OUTCOMES
from ui.tabs.outcomes import outcomes_html
from ui.words.bands import bands_of
from ui.words.labels import Labels
from ui.words.proof import parity_sentence
from ui.words.text import NBSP, Text, sheet, table, tag
from ui.words.values import format_number
from ui.words.wording import Wording, percent

#: Two minutes at one look every two seconds; figures are of the last ten seconds.
_KEPT, _RECENT_SECONDS = 61, 10.0
#: Without a look for so long the tab was closed: what was before is no trend.
_GAP_SECONDS = 15.0
#: Looks of several open pages within this time are one.
_SHARED_SECONDS = 1.0

_NOTHING = Text.same("\N{EN DASH}")
_TILES = {
    "rate": Text("requests a second", "requêtes par seconde"),
    "p50": Text("half of /predict within", "la moitié de /predict en moins de"),
    "p95": Text("95 % within", "95 % en moins de"),
    "p99": Text("99 % within", "99 % en moins de"),
    "refused": Text("refused", "refusés"),
    "failed": Text("requests answered with an error", "requêtes en erreur"),
}
_RATE = Text("Requests a second, last two minutes", "Requêtes par seconde, deux dernières minutes")
_LATENCY = Text(
    "p50 (solid) and p99 (dashed) of /predict, last two minutes",
    "p50 (trait plein) et p99 (tirets) de /predict, deux dernières minutes",
)
_AGO = Text("two minutes ago", "il y a deux minutes")
_NONE_YET = Text("none yet", "aucune encore")
_SCORES = Text("Scores and limits", "Scores et limites")
_OF_TWO_MINUTES = Text(
    "of the last two minutes: {count} {count:row|rows}",
    f"des deux dernières minutes{NBSP}: {{count}} {{count:ligne|lignes}}",
)
_SINCE_START = Text(
    "since the start: {count} {count:row|rows}",
    f"depuis le démarrage{NBSP}: {{count}} {{count:ligne|lignes}}",
)
_BIN = Text("{count} between {low} and {high}", "{count} entre {low} et {high}")
_ROUTES = Text(
    "Answered since the start, by path and code", "Réponses depuis le démarrage, par chemin et code"
)
_ROUTE, _ALL = Text("path", "chemin"), Text("all", "toutes")
_OTHER = Text("the page, metrics, anything else", "la page, les métriques, tout le reste")
_WORKERS = Text("Workers", "Processus")
_WORKER = Text("Worker {number}", "Processus {number}")
_CPU, _RAM = Text("CPU", "CPU"), Text("memory", "mémoire")
_RESTARTS = Text("restarts: {count}", f"redémarrages{NBSP}: {{count}}")
_LOG = Text("Prediction log", "Journal des prédictions")
_LOG_OFF = Text("Off: no line is written.", "Désactivé : aucune ligne n'est écrite.")
_LOG_ON = Text(
    "Mode {mode}. {waiting} waiting to be written. {lost}",
    "Mode {mode}. {waiting} en attente d'écriture. {lost}",
)
_NO_LOSS = Text("No line was lost.", "Aucune ligne n'a été perdue.")
_LOSS = Text(
    "{count} {count:line was|lines were} lost.",
    "{count} {count:ligne a été perdue|lignes ont été perdues}.",
)
_DECIDED = Text("decisions: {word}", f"décisions{NBSP}: {{word}}")
_PEOPLE = Text("A person in the loop", "Une personne dans la boucle")
_OVERRIDDEN = Text(
    "Decisions since the start: {decisions}. Looked at by a person: {looked_at}. Decided otherwise: "
    "{otherwise} ({share}).",
    f"Décisions depuis le démarrage{NBSP}: {{decisions}}. Examinées par une personne{NBSP}: {{looked_at}}. "
    f"Décidées autrement{NBSP}: {{otherwise}} ({{share}}).",
)
_NO_DECISION = Text("No decision since the start.", "Aucune décision depuis le démarrage.")
_MODEL = Text("Model", "Modèle")
_MODEL_LINE = Text("{label}, graph {hash}", "{label}, graphe {hash}")


class Operations:
    """What the tab shows; looks at the metrics only when it is asked to.

    `count_reviews` tells how many decisions a person looked at, and decided otherwise.
    """

    def __init__(
        self, service: Service, bundle: Bundle, count_reviews: Callable[[], tuple[int, int]]
    ) -> None:
        self._service, self._count_reviews = service, count_reviews
        self._overrides = (0, 0)
        self._measured: Measured | None = None
        self._bundle, self._words, self._labels = bundle, Wording.of(bundle), Labels.of(bundle)
        self._alerts = Alerts({f.name: self._labels.label(f) for f in bundle.schema.features})
        self._bands = bands_of(bundle)
        self._drift = Drift(bundle)
        self._parity = parity_sentence(bundle.read_json(PARITY_FILE), bundle.task)
        self._looks: deque[MetricsSample] = deque(maxlen=_KEPT)
        self._looking = asyncio.Lock()
        log = service.log
        self._day = Day(log.history, bundle.label) if log is not None else None

    async def look(self) -> str:
        """The tab's content now."""
        async with self._looking:  # of two pages that ask at once, one looks
            await self._collect()
        return self._drawn()

    async def held(self) -> dict[str, Sequence[int]]:
        """What each input held in the minutes that are over, as `Day.held` has it, of all that are known."""
        async with self._looking:
            if self._day is not None:
                await asyncio.to_thread(self._day.renew)
        told = {name: self._held(name) for name in self._bundle.schema.names}
        return {name: counts for name, counts in told.items() if counts}

    async def _collect(self) -> None:
        now = time.monotonic()
        last = self._looks[-1].at if self._looks else -_GAP_SECONDS
        if now - last >= _SHARED_SECONDS:
            if now - last > _GAP_SECONDS:
                self._looks.clear()
            # A page of metrics is some ms of Python: in a thread it holds up no request.
            families = await asyncio.to_thread(self._read)
            self._looks.append(MetricsSample.of(families, now, self._bundle.label))

    def _read(self) -> list[Metric]:
        if self._day is not None:
            self._day.renew()
        self._overrides = self._count_reviews()
        measured = (one for one in self._service.collector.measured() if one.model == self._bundle.label)
        self._measured = next(measured, None)
        return list(self._service.collector.collect())

    def _recent(self) -> tuple[MetricsSample, MetricsSample]:
        newest = self._looks[-1]
        recent = [look for look in self._looks if newest.at - look.at <= _RECENT_SECONDS]
        return recent[0], newest

    def _drawn(self) -> str:
        seen = Seen(self._looks[-1], self._day.until_now() if self._day else None, int(time.time() // 60))
        cards = (
            sheet(HEADING_OF_ALERTS, self._alerts.html(seen), "whole"),
            sheet(_RATE, self._rates(), "wide"),
            sheet(_LATENCY, self._latencies(), "wide"),
            *([self._day.html(self._labels, self._bundle.schema)] if self._day is not None else []),
            *([self._scores()] if self._bundle.task == "binary" else []),
            sheet(HEADING_OF_DRIFT, self._drift.html(self._looks[-1], self._held)),
            sheet(_ROUTES, self._routes(), "whole"),
            self._workers(),
            *([sheet(HEADING, arms, "third")] if (arms := arms_html(self._looks[-1])) else []),
            sheet(HEADING_OF_OUTCOMES, outcomes_html(self._measured), "whole"),
            sheet(_PEOPLE, self._people(), "third"),
            sheet(_LOG, self._log(), "third"),
            sheet(_MODEL, self._model(), "third"),
        )
        return f'<div class="operations">{self._tiles()}<div class="cards">{"".join(cards)}</div></div>'

    def _held(self, name: str) -> Sequence[int]:
        return self._day.held(name) if self._day is not None else []

    def _tiles(self) -> str:
        before, after = self._recent()
        seconds = after.at - before.at
        latencies = grown(before.durations, after.durations)
        values = {
            "rate": _rate(after.requests - before.requests, seconds),
            **{f"p{p}": _time(quantile(latencies, p / 100)) for p in (50, 95, 99)},
            "refused": _NOTHING,
            "failed": _share(after.failed - before.failed, after.requests - before.requests),
        }
        if self._bundle.task != "binary":
            del values["refused"]
        else:
            decided = {
                name: after.decisions[name] - before.decisions.get(name, 0.0) for name in after.decisions
            }
            values["refused"] = _share(
                decided.get(self._bundle.decision.otherwise, 0.0), sum(decided.values())
            )
        names = _TILES | {"refused": _DECIDED.put(word=self._words.otherwise.within())}
        tiles = "".join(
            f"<p>{tag('strong', value)}{tag('span', names[name])}</p>" for name, value in values.items()
        )
        return f'<div class="tiles">{tiles}</div>'

    def _pairs(self) -> list[tuple[MetricsSample, MetricsSample]]:
        return list(pairwise(self._looks))

    def _rates(self) -> str:
        values = [(b.requests - a.requests) / max(b.at - a.at, 1e-9) for a, b in self._pairs()]
        return trend([("first", values)], _RATE, _KEPT - 1, _AGO, _most(values, ""))

    def _latencies(self) -> str:
        histograms = [grown(a.durations, b.durations) for a, b in self._pairs()]
        lines = [
            (style, [(quantile(h, share) or 0.0) * 1000 for h in histograms])
            for style, share in (("first", 0.5), ("second", 0.99))
        ]
        most = _most([v for _, values in lines for v in values], f"{NBSP}ms")
        return trend(lines, _LATENCY, _KEPT - 1, _AGO, most)

    def _scores(self) -> str:
        newest = self._looks[-1]
        counted = grown(self._looks[0].scores, newest.scores)
        recent = sum(count for _, count in counted) > 0
        if not recent:
            counted = grown({}, newest.scores)
        counted = [(bound, count) for bound, count in counted if bound <= 1.0]
        counts = [count for _, count in counted]
        lows = [0.0, *(bound for bound, _ in counted)]
        titles = [
            _BIN.put(count=_figure(count), low=percent(low, 0), high=percent(bound, 0))
            for low, (bound, count) in zip(lows, counted, strict=False)
        ]
        said = (_OF_TWO_MINUTES if recent else _SINCE_START).put(count=_figure(sum(counts)))
        drawn = bars_html(counts, self._bands, lows, titles)
        note = tag("p", said.sentence(), class_="note")
        has_policy = self._bundle.policy is not None
        return sheet(_SCORES, histogram(self._bands, drawn, _SCORES, has_policy=has_policy) + note)

    def _routes(self) -> str:
        """How many requests of each path were answered with each code."""
        answered = self._looks[-1].answered
        codes = sorted({code for _, code in answered})
        routes = sorted({route for route, _ in answered}, key=lambda route: (route == "other", route))
        rows = ""
        for route in routes:
            counts = [answered.get((route, code), 0.0) for code in codes]
            figures = [_figure(count) if count else _NOTHING for count in (sum(counts), *counts)]
            name = _OTHER if route == "other" else Text.same(route)
            rows += f"<tr>{tag('th', name, scope='row')}{''.join(tag('td', f) for f in figures)}</tr>"
        return table(_ROUTES, (_ROUTE, _ALL, *(Text.same(code) for code in codes)), rows)

    def _workers(self) -> str:
        before, after = self._recent()
        seconds = after.at - before.at
        entries = "".join(
            f"<li>{tag('span', _WORKER.put(number=str(int(worker) + 1)))}"
            f"{tag('strong', _share(after.cpu[worker] - before.cpu.get(worker, 0.0), seconds))}"
            f"{tag('small', _CPU)}"
            f"{tag('strong', _bytes(after.memory.get(worker, 0.0)))}{tag('small', _RAM)}</li>"
            for worker in after.cpu
        )
        restarts = _RESTARTS.put(count=_figure(after.single.get("hotrow_worker_restarts_total", 0.0)))
        return sheet(
            _WORKERS,
            f'<ul class="workers">{entries}</ul>{tag("p", restarts.sentence(), class_="note")}',
            "third",
        )

    def _people(self) -> str:
        """How often somebody looked at a decision, and decided otherwise than the model."""
        looked_at, otherwise = self._overrides
        decisions = sum(self._looks[-1].decisions.values())
        said = _OVERRIDDEN.put(
            decisions=_figure(decisions),
            looked_at=_figure(looked_at),
            otherwise=_figure(otherwise),
            share=_share(otherwise, decisions),
        )
        return tag("p", said if decisions else _NO_DECISION)

    def _log(self) -> str:
        log, single = self._service.log, self._looks[-1].single
        if log is None:
            return tag("p", _LOG_OFF)
        dropped = single.get("hotrow_log_dropped_total", 0.0)
        lost = _LOSS.put(count=_figure(dropped)) if dropped else _NO_LOSS
        waiting = _bytes(single.get("hotrow_log_queue_bytes", 0.0))
        return tag("p", _LOG_ON.put(mode=self._service.settings.log_mode, waiting=waiting, lost=lost))

    def _model(self) -> str:
        graph = self._bundle.manifest["files"]["model.onnx"][:12]
        line = _MODEL_LINE.put(label=self._bundle.label, hash=graph)
        return tag("p", line) + tag("p", self._parity, class_="note")


def _rate(count: float, seconds: float) -> Text:
    if seconds <= 0.0:
        return _NOTHING
    rate = count / seconds
    return Text.figures(f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}")


def _time(seconds: float | None) -> Text:
    if seconds is None:
        return _NOTHING
    milliseconds = seconds * 1000
    return Text.figures(
        f"{milliseconds:.2f}{NBSP}ms" if milliseconds < 10 else f"{milliseconds:,.0f}{NBSP}ms"
    )


def _share(part: float, whole: float) -> Text:
    return percent(max(0.0, part / whole)) if whole > 0.0 else _NOTHING


def _bytes(size: float) -> Text:
    for unit, words in ((2**20, Text("MiB", "Mio")), (2**10, Text("KiB", "Kio"))):
        if size >= unit:
            figure = Text.figures(f"{size / unit:,.0f}")
            return Text(f"{figure.en}{NBSP}{words.en}", f"{figure.fr}{NBSP}{words.fr}")
    return Text(f"{{size}}{NBSP}{{size:byte|bytes}}", f"{{size}}{NBSP}{{size:octet|octets}}").put(
        size=f"{size:.0f}"
    )


def _figure(count: float) -> Text:
    return Text.figures(format_number(round(count)))


def _most(values: Sequence[float], unit: str) -> Text:
    """The scale of a trend: its largest value."""
    most = max(values, default=0.0)
    if not most:
        return _NONE_YET
    figure = Text.figures(f"{most:,.0f}" if most >= 10 else f"{most:.2f}")
    return Text("at most {figure}{unit}", "au plus {figure}{unit}").put(figure=figure, unit=unit)
