"""Whether the system lets this server open what it needs before anybody connects."""

import resource

from server.errors import SettingsError, number_of
from server.settings import Settings

#: What a worker has open at rest, counted: so many files, pipes and mappings, and some for each worker.
AT_REST, FOR_EACH_WORKER = 27, 3
#: For the first connections, and for a new model's files.
SPARE = 5


def check_descriptors(settings: Settings) -> None:
    """Raise `SettingsError` if the limit of open files is less than a worker has open."""
    needed = AT_REST + FOR_EACH_WORKER * settings.workers + SPARE
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < needed:
        raise SettingsError(
            f"expected a limit of at least {needed} open files (ulimit -n) for "
            f"{number_of(settings.workers, 'worker')}, got {limit}"
        )
