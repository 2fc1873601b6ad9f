"""The challengers of one server; the observer is light as long as there are none."""

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.log.challenger import Challenger

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.02


class Challengers:
    """The challengers of one server, by the folder of the model that each one challenges, and its name.

    Each has a queue and a process of its own, so one that is slow or gone is shed alone.
    `counts` are the slots of the first worker's region in the shared metrics.
    """

    def __init__(self, config: Mapping[str, Any], metrics: int, counts: "memoryview[float]") -> None:
        self._config, self._metrics, self._counts = config, metrics, counts
        self._known: dict[tuple[str, str], Challenger] = {}
        self._ending: list[Challenger] = []

    def of(self, model: Mapping[str, Any]) -> "list[Challenger]":
        """The challengers of a described model, those started that are new, and those ended that are gone."""
        folder, plans = model["folder"], model["challengers"]
        for key in [key for key in self._known if key[0] == folder]:
            if self._known[key].plan not in plans:
                gone = self._known.pop(key)
                gone.end()
                self._ending.append(gone)
        for plan in plans:
            if (folder, plan["label"]) not in self._known:
                try:
                    self._known[folder, plan["label"]] = self._started(plan)
                except OSError as error:  # no memory, no descriptor: the log goes on without
                    logger.error("The challenger %s cannot be started: %r", plan["label"], error)
        return [one for key, one in self._known.items() if key[0] == folder]

    def _started(self, plan: Mapping[str, Any]) -> "Challenger":
        from server.log.challenger import Challenger  # a megabyte that most observers do without

        of = f"{plan['label']}-beside-{plan['champion']}"  # one may challenge several versions
        name = f"challenger-{self._config['server']}-{of}.ndjson".replace(os.sep, "_")
        file = f"{self._config['directory']}/{name}"
        size = self._config["retention"]["file_bytes"]
        return Challenger(plan, self._metrics, self._counts, file, size)

    def look_after(self) -> None:
        for challenger in self._known.values():
            challenger.look_after()
        self._ending = [challenger for challenger in self._ending if not challenger.has_ended()]

    def finish(self) -> None:
        """End them all and wait for it, when the observer does."""
        for challenger in self._known.values():
            challenger.end()
        self._ending += self._known.values()
        self._known.clear()
        while any(not challenger.has_ended() for challenger in self._ending):
            time.sleep(_PAUSE_SECONDS)
