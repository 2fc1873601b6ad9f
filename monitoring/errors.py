"""What the monitoring commands refuse."""

from server.errors import HotrowError


class LogError(HotrowError):
    """A log, or a file of rows, that is not there or not one."""
