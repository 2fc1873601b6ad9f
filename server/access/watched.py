"""Files that are read again when they change: a key that is withdrawn, a certificate that is renewed.

Looked at every second, because who changes them (a kubelet, cert-manager, an editor) sends no signal.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from server.errors import HotrowError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class WatchedFiles:
    """Calls `read` when one of some files is another than before; what it raises leaves all as it was.

    Files that could not be read are tried again at every look: for a while there may be no
    descriptor for them, and a key that was withdrawn then is withdrawn all the same.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], None]) -> None:
        self._paths, self._read = paths, read
        self._before = self._refused = self._states()

    def start(self) -> None:
        """Look from now on; on the running event loop."""
        asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_again)

    def read(self) -> None:
        """Read the files again, whether or not they have changed."""
        states = self._states()
        try:
            self._read()
        except (HotrowError, OSError, MemoryError) as error:
            if states != self._refused:  # once, not at every look
                logger.error("%s; what was read before stays.", (str(error) or repr(error)).removesuffix("."))
            self._before, self._refused = [], states
        else:
            self._before = self._refused = states
            logger.info("Read %s again.", ", ".join(map(str, self._paths)))

    def look(self) -> None:
        """Read the files if they are others than those that were read."""
        if self._states() != self._before:
            self.read()

    def _look_again(self) -> None:
        try:
            self.look()
        finally:
            self.start()

    def _states(self) -> list[tuple[int, int, int] | None]:
        return [_state(path) for path in self._paths]


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
