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
    """The challengers of one server, by the folder of the model that each one challenges.

    `counts` are the slots of the first worker's region in the shared metrics.
    """

    def __init__(self, config: Mapping[str, Any], metrics: int, counts: "memoryview[float]") -> None:
        self._config, self._metrics, self._counts = config, metrics, counts
        self._by_folder: dict[str, Challenger] = {}
        self._ending: list[Challenger] = []

    def of(self, model: Mapping[str, Any]) -> "Challenger | None":
        """The challenger of a described model, started if it is new: then the one before is ended."""
        plan, folder = model["challenger"], model["folder"]
        known = self._by_folder.get(folder)
        if known is not None and known.plan != plan:
            self._ending.append(self._by_folder.pop(folder))
            known.end()
        if plan is not None and folder not in self._by_folder:
            try:
                self._by_folder[folder] = self._started(plan)
            except OSError as error:  # no memory, no descriptor: the log goes on without
                logger.error("The challenger %s cannot be started: %r", plan["label"], error)
        return self._by_folder.get(folder)

    def _started(self, plan: Mapping[str, Any]) -> "Challenger":
        from server.log.challenger import Challenger  # a megabyte that most observers do without

        name = f"challenger-{self._config['server']}-{plan['label']}.ndjson".replace(os.sep, "_")
        file = f"{self._config['directory']}/{name}"
        size = self._config["retention"]["file_bytes"]
        return Challenger(plan, self._metrics, self._counts, file, size)

    def look_after(self) -> None:
        for challenger in self._by_folder.values():
            challenger.look_after()
        self._ending = [challenger for challenger in self._ending if not challenger.has_ended()]

    def finish(self) -> None:
        """End them all and wait for it, when the observer does."""
        for challenger in self._by_folder.values():
            challenger.end()
        self._ending += self._by_folder.values()
        self._by_folder.clear()
        while any(not challenger.has_ended() for challenger in self._ending):
            time.sleep(_PAUSE_SECONDS)
