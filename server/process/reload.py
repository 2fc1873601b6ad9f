"""New models for a worker that has no parent: tried elsewhere, then swapped between two requests."""

import asyncio
import gc
import logging

from server.errors import BundleError, HotrowError
from server.model.bundle import Bundle
from server.process.model_check import CHECK_SECONDS, check_command, read_verdict
from server.scoring.served_model import ServedModel
from server.scoring.service import Service, open_bundles, register_models
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
        register_models(bundles, service.metrics.shared)
        models = await asyncio.to_thread(self._serve, bundles)
        old = service.models
        service.use(models)
        for model in old:
            await model.explainer.retire()
        # The old models are garbage, the new ones stay: so the next reload finds them.
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def _serve(self, bundles: list[Bundle]) -> tuple[ServedModel, ...]:
        service = self._service
        return tuple(ServedModel(bundle, service.metrics, service.log) for bundle in bundles)


async def _check(settings: Settings) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        *check_command(settings), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return read_verdict(output)


def checked_bundles(settings: Settings, digests: list[str]) -> list[Bundle]:
    """The bundles that were checked; raises `BundleError` if a folder has changed since."""
    bundles = open_bundles(settings)
    if [bundle.digest for bundle in bundles] != digests:
        raise BundleError("expected the model folders as they were checked, got others: reload once more")
    return bundles


def names(bundles: list[Bundle]) -> str:
    """The models in an operator's message."""
    return ", ".join(bundle.label for bundle in bundles)


def say_failed(why: str, error: Exception | None, bundles: list[Bundle]) -> None:
    """Tell operators of a reload that failed: in a sentence, or with the traceback of what nobody foresaw."""
    foreseen = error is None or isinstance(error, HotrowError | OSError)
    trace = None if foreseen else error
    logger.error("%s; %s goes on being served.", why or repr(error), names(bundles), exc_info=trace)
