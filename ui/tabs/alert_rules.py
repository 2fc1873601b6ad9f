"""The shipped alert rules, each judged by what the server itself knows.

`monitoring/prometheus/alerts.yml` has the rules; a test holds these against it.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from server.metrics.drift import MIN_ROWS
from ui.tabs.day import Minute
from ui.tabs.looks import MetricsSample, Shifted
from ui.words.text import NBSP, Text
from ui.words.wording import percent

_MIB = 2**20
#: A month's budget of 0.1 %, burnt so many times too fast (Site Reliability Workbook, chapter 5).
FAST, SLOWLY = 14.4 * 0.001, 6 * 0.001
#: A share of rejected requests, and how many times that of a day before it must be.
REJECTED, TIMES = 0.05, 5.0
SHED, WAITING_BYTES, SILENT_SECONDS, MEMORY_BYTES = 0.01, 4 * _MIB, 30.0, 400 * _MIB
#: Rows from which on it counts that they repeat.
REPEATING_ROWS = 1000
#: Minutes between a time and the same time of the day before, as far as the history reaches.
_DAY = 24 * 60 - 30

_OF, _UNDER = Text("{few} of {all}", "{few} sur {all}"), Text("under {count}", "moins de {count}")
DASH = Text.same("\N{EN DASH}")
_SLOW = Text("Slower than 5 ms: {over}", f"Plus de 5 ms{NBSP}: {{over}}")
_FAILED = Text("Answered with an error of the server: {over}", f"Erreurs du serveur{NBSP}: {{over}}")
_HOUR = Text("last hour and last 5 minutes", "dernière heure et 5 dernières minutes")
_HOURS = Text("last 6 hours and last 30 minutes", "6 dernières heures et 30 dernières minutes")
_LOOK_AT_CPU = Text(
    "Look at CPU per worker and requests in flight; more workers, or a slower neighbour to move.",
    "Regardez le CPU par processus et les requêtes en cours ; plus de processus, ou un voisin à déplacer.",
)
_LOOK_AT_5XX = Text(
    "503 is overload, draining or a strict log that cannot be written; 500 leaves a traceback on standard "
    "error.",
    "503 : surcharge, arrêt en cours ou journal strict impossible à écrire ; 500 laisse une trace sur la "
    "sortie d'erreur.",
)
_ASK_SENDER = Text(
    "Compare with training (python -m monitoring report); ask who sends the feature.",
    "Comparez à l'entraînement (python -m monitoring report) ; demandez à qui envoie la donnée.",
)


class Seen(NamedTuple):
    """What is judged: a look at the metrics, the minutes of a day (None without a log), and what time it is.

    `now` is the number of the running minute since the epoch.
    """

    look: MetricsSample
    minutes: Sequence[Minute] | None
    now: int


class Judged(NamedTuple):
    """How far a rule is from its limit, and for how many minutes it has held by the figure itself."""

    holds: bool
    figure: Text = DASH
    limit: Text = DASH
    of: str = ""
    held: float = 0.0


class Rule(NamedTuple):
    """One alert of the shipped rules: how urgent it is, what it says, and what to do.

    It fires once it has held for `wait` minutes. Of a rule `of_history` the minutes tell whether it did;
    without them there is nothing to judge it by.
    """

    alert: str
    wakes: bool
    name: Text
    action: Text
    judge: Callable[[Seen], Judged]
    wait: int = 0
    of_history: bool = False


def _over(seen: Seen, first: int, last: int = 0) -> Sequence[Minute]:
    """The minutes from so many ago to so many ago, the running one being the first of these."""
    minutes = seen.minutes or ()
    start, end = (bisect_right(minutes, seen.now - ago, key=lambda m: m.at) for ago in (first, last))
    return minutes[start:end]


def _share(minutes: Sequence[Minute], part: str, whole: str = "scored") -> float | None:
    total = sum(getattr(minute, whole) for minute in minutes)
    return sum(getattr(minute, part) for minute in minutes) / total if total else None


def _judged(figure: float | None, limit: float, words: Callable[[float], Text]) -> Judged:
    if figure is None:
        return Judged(False, DASH, words(limit))
    return Judged(figure > limit, words(figure), words(limit))


def _burn(part: str, long: int, short: int, limit: float) -> Callable[[Seen], Judged]:
    """A budget burns where a share is too high both for long and just now."""

    def judge(seen: Seen) -> Judged:
        shares = [_share(_over(seen, minutes), part) for minutes in (long, short)]
        known = [share for share in shares if share is not None]
        return _judged(min(known) if len(known) == 2 else None, limit, lambda share: percent(share, 2))

    return judge


def _rejects(seen: Seen) -> Judged:
    before = _share(_over(seen, _DAY + 30, _DAY), "rejected") or 0.0
    return _judged(_share(_over(seen, 30), "rejected"), max(REJECTED, TIMES * before), percent)


def _sheds(seen: Seen) -> Judged:
    return _judged(_share(_over(seen, 5), "shed", "requests"), SHED, percent)


def _drops(seen: Seen) -> Judged:
    return _judged(float(sum(minute.dropped for minute in _over(seen, 5))), 0.0, _count)


def _waits(seen: Seen) -> Judged:
    """As the least of two minutes, and of this moment."""
    now = seen.look.single.get("hotrow_log_queue_bytes", 0.0)
    waited = [float(minute.waiting_bytes) for minute in _over(seen, 2)]
    return _judged(min([now, *waited]), WAITING_BYTES, _mebibytes)


def _single(name: str, limit: float) -> Callable[[Seen], Judged]:
    """A time that grows: what lies beyond its limit is for how long it has held."""

    def judge(seen: Seen) -> Judged:
        figure = seen.look.single.get(name)
        return _judged(figure, limit, _seconds)._replace(held=max(0.0, (figure or 0.0) - limit) / 60)

    return judge


def _memory(seen: Seen) -> Judged:
    return _judged(max(seen.look.memory.values(), default=0.0), MEMORY_BYTES, _mebibytes)


def _repeats(seen: Seen) -> Judged:
    rows = seen.look.single.get("hotrow_drift_rows")
    if rows is None:  # no reference
        return Judged(False)
    independent = seen.look.single.get("hotrow_drift_independent_rows", rows)
    limit = _UNDER.put(count=_OF.put(few=_count(MIN_ROWS), all=_count(REPEATING_ROWS)))
    figure = _OF.put(few=_count(independent), all=_count(rows))
    return Judged(rows >= REPEATING_ROWS and independent < MIN_ROWS, figure, limit)


def _strongest(shifts: Callable[[MetricsSample], Sequence[Shifted]]) -> Callable[[Seen], Judged]:
    """The strongest drift of a kind, in parts of its limit."""

    def judge(seen: Seen) -> Judged:
        found = max(shifts(seen.look), key=lambda shifted: shifted.strength, default=None)
        if found is None:
            return Judged(False)
        limit = 0.0 if found.limit == float("inf") else found.limit
        return Judged(found.strength > 1.0, _psi(found.psi), _psi(limit) if limit else DASH, found.feature)

    return judge


def _values(look: MetricsSample) -> list[Shifted]:
    return [shifted for shifted in look.drift if shifted.feature and not shifted.missing]


def _missing(look: MetricsSample) -> list[Shifted]:
    return [shifted for shifted in look.drift if shifted.feature and shifted.missing]


def _score(look: MetricsSample) -> list[Shifted]:
    return [shifted for shifted in look.drift if not shifted.feature]


def _count(figure: float) -> Text:
    return Text.figures(f"{figure:,.0f}")


def _seconds(figure: float) -> Text:
    return Text.figures(f"{figure:.1f}{NBSP}s")


def _mebibytes(figure: float) -> Text:
    size = Text.figures(f"{figure / _MIB:,.1f}")
    return Text(f"{size.en}{NBSP}MiB", f"{size.fr}{NBSP}Mio")


def _psi(figure: float) -> Text:
    return Text.figures(f"PSI {figure:.3f}")


def _burns(budget: str, said: Text, action: Text, part: str) -> tuple[Rule, Rule]:
    """That a month's budget burns fast, and that it burns slowly."""
    fast, slowly = _burn(part, 60, 5, FAST), _burn(part, 360, 30, SLOWLY)
    return (
        Rule(f"{budget}BurnsFast", True, said.put(over=_HOUR), action, fast, wait=2, of_history=True),
        Rule(f"{budget}BurnsSlowly", False, said.put(over=_HOURS), action, slowly, wait=15, of_history=True),
    )


RULES = (
    *_burns("HotrowLatencyBudget", _SLOW, _LOOK_AT_CPU, "slow"),
    *_burns("HotrowErrorBudget", _FAILED, _LOOK_AT_5XX, "failed"),
    Rule(
        "HotrowRejectsMore",
        False,
        Text("Not taken by the model (4xx): last 30 minutes", "Refusées par le modèle (4xx) : 30 minutes"),
        Text(
            "The responses name the fields; ask who sends them what changed.",
            "Les réponses nomment les champs ; demandez à qui les envoie ce qui a changé.",
        ),
        _rejects,
        wait=15,
        of_history=True,
    ),
    Rule(
        "HotrowSheds",
        False,
        Text(
            "Refused to protect the others: last 5 minutes", "Écartées pour protéger les autres : 5 minutes"
        ),
        Text(
            "Add workers or machines, or have clients keep to their rate.",
            "Ajoutez des processus ou des machines, ou faites ralentir les clients.",
        ),
        _sheds,
        wait=10,
        of_history=True,
    ),
    Rule(
        "HotrowFeatureDrifts",
        False,
        Text("A feature drifts", "Une donnée dérive"),
        _ASK_SENDER,
        _strongest(_values),
        wait=15,
    ),
    Rule(
        "HotrowFeatureGoesMissing",
        False,
        Text("A feature is missing more, or less, often", "Une donnée manque plus, ou moins, souvent"),
        _ASK_SENDER,
        _strongest(_missing),
        wait=15,
    ),
    Rule(
        "HotrowUnseenValues",
        False,
        Text("Values that training never saw", "Des valeurs jamais vues à l'entraînement"),
        Text(
            "The model guesses there; train again with such rows or refuse them.",
            "Le modèle y devine ; entraînez-le avec de telles lignes ou refusez-les.",
        ),
        _strongest(lambda look: look.unseen),
        wait=15,
    ),
    Rule(
        "HotrowScoreDrifts",
        False,
        Text("The score drifts", "Le score dérive"),
        Text(
            "The limit was chosen for other scores; see which features moved.",
            "La limite a été choisie pour d'autres scores ; voyez quelles données ont bougé.",
        ),
        _strongest(_score),
        wait=15,
    ),
    Rule(
        "HotrowRowsRepeat",
        False,
        Text("Rows repeat: how many tell something new", "Lignes répétées : combien apportent du nouveau"),
        Text(
            "Drift is not judged by them; ask who sends one request again and again.",
            "La dérive n'est pas jugée par elles ; demandez qui répète la même requête.",
        ),
        _repeats,
        wait=15,
    ),
    Rule(
        "HotrowLogDrops",
        True,
        Text("Lines of the log lost: last 5 minutes", "Lignes du journal perdues : 5 minutes"),
        Text(
            "Make room on the disk, or give HOTROW_LOG_QUEUE_BYTES more.",
            "Faites de la place sur le disque, ou augmentez HOTROW_LOG_QUEUE_BYTES.",
        ),
        _drops,
        of_history=True,
    ),
    Rule(
        "HotrowLogWaits",
        True,
        Text("Lines of the log wait for two minutes", "Lignes du journal en attente depuis deux minutes"),
        Text(
            "The disk is full, slow or gone; lines are dropped at HOTROW_LOG_QUEUE_BYTES.",
            "Le disque est plein, lent ou absent ; au-delà de HOTROW_LOG_QUEUE_BYTES des lignes se perdent.",
        ),
        _waits,
        of_history=True,
    ),
    Rule(
        "HotrowLogStands",
        True,
        Text("The oldest line waits to be written", "La plus ancienne ligne attend d'être écrite"),
        Text(
            "Its disk, or what writes it, stands still; standard error says why.",
            "Son disque, ou ce qui l'écrit, est arrêté ; la sortie d'erreur dit pourquoi.",
        ),
        _single("hotrow_log_oldest_unwritten_seconds", SILENT_SECONDS),
        wait=1,
    ),
    Rule(
        "HotrowObserverDown",
        True,
        Text("What writes the log is silent", "Ce qui écrit le journal se tait"),
        Text(
            "Answers go on and wait in memory; standard error says why.",
            "Les réponses continuent et attendent en mémoire ; la sortie d'erreur dit pourquoi.",
        ),
        _single("hotrow_observer_silent_seconds", SILENT_SECONDS),
        wait=1,
    ),
    Rule(
        "HotrowMemoryHigh",
        False,
        Text("Memory of a worker", "Mémoire d'un processus"),
        Text(
            "Restart the worker and look for what grew.",
            "Redémarrez le processus et cherchez ce qui a grossi.",
        ),
        _memory,
        wait=10,
    ),
)
