"""New models for a worker that has no parent: tried elsewhere, then swapped between two requests."""

import asyncio
import gc
import logging

from server.child import said_by
from server.model.bundle import Bundle
from server.process.verdict import (
    CHECK_SECONDS,
    check_command,
    checked_bundles,
    read_verdict,
    say_failed,
)
from server.scoring.bundles import names
from server.scoring.served_model import ServedModel
from server.scoring.service import Service, compiling, register_models
from server.settings import Settings

logger = logging.getLogger(__name__)


class Reloader:
    """Reads the settings' model folders again when asked to; for the event loop's thread.

    Whatever goes wrong, the models that are served stay. Asked while it is at work,
    it does it once more afterwards, so the last to be published is served.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def request(self) -> None:
        """Read the folders again; returns at once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        else:
            self._again = True

    async def _work(self) -> None:
        shared = self._service.metrics.shared
        shared.set_reloading(True)
        try:
            while True:
                self._again = False
                try:
                    await self._reload()
                # Whatever a model folder can bring about, the models that are served must stay.
                except Exception as error:  # noqa: BLE001  # see above
                    shared.count_reload("failed")
                    say_failed(str(error), error, self._service.bundles)
                else:
                    shared.count_reload("ok")
                    logger.info("Serving %s from now on.", names(self._service.bundles))
                if not self._again:
                    return
        finally:
            self._task = None
            shared.set_reloading(False)

    async def _reload(self) -> None:
        service = self._service
        digests = await _check(service.settings)
        bundles = await asyncio.to_thread(checked_bundles, service.settings, digests)
        register_models(service.settings, bundles, service.metrics.shared)
        models = await asyncio.to_thread(self._serve, bundles)
        service.use(models)
        # The old models are garbage, the new ones stay: so the next reload finds them.
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def _serve(self, bundles: list[Bundle]) -> tuple[ServedModel, ...]:
        service = self._service
        compiler = compiling(service.settings)
        return tuple(ServedModel(bundle, service.metrics, service.log, compiler) for bundle in bundles)


async def _check(settings: Settings) -> list[str]:
    return read_verdict((await said_by(check_command(settings), CHECK_SECONDS)).output)
