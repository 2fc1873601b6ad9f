"""What the exporter will not convert, and why."""

from server.errors import HotrowError


class ExportRefused(HotrowError):
    """A source that cannot be read, or whose exact equality cannot be proven."""


def one_of_targets(wanted: int | None, count: int) -> int:
    """The target that is chosen of a model of several; raises `ExportRefused` if none of them is."""
    if wanted is None or not 0 <= wanted < count:
        raise ExportRefused(
            f"expected one target, got {count}: choose one by its number with --output (0 to {count - 1}); "
            "each is a bundle of its own, and one server answers for all"
        )
    return wanted
