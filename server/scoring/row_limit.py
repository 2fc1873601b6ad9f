"""How many rows one request may have."""

from server.errors import UnacceptableRow
from server.model.bundle import Bundle
from server.settings import Settings

FLOAT64_BYTES = 8

#: In one response: rows times the reasons of each, whose texts the log has, too.
MAX_REASONS = 100_000


def row_limit(bundle: Bundle, settings: Settings) -> int:
    """The rows of one request for a model: as set, or fewer of a wide model.

    What is made of the rows, features and outputs as float64, is no larger than a
    body may be: 30 kB of `{}` would fill the memory of a model of 5,000 features.
    """
    row_bytes = FLOAT64_BYTES * (len(bundle.schema) + bundle.outputs)
    return max(1, min(settings.max_batch_rows, settings.max_batch_bytes // row_bytes))


def check_rows(count: int, limit: int) -> None:
    """Refuse a batch without rows, or with too many; raises `UnacceptableRow`."""
    if count > limit:
        raise UnacceptableRow(f"expected 1 to {limit} rows, got more")
    if not count:
        raise UnacceptableRow(f"expected 1 to {limit} rows, got none")
