"""What the exporter will not convert, and why."""

from server.errors import HotrowError


class ExportRefused(HotrowError):
    """A source that cannot be read, or whose exact equality cannot be proven."""
