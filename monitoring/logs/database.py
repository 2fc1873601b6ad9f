"""DuckDB as we use it: in files of its own, so that what is larger than memory is no matter."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

MEMORY_LIMIT = "1GB"


@contextmanager
def open_database() -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """An empty database and the folder of its files, which both last as long as the context."""
    with tempfile.TemporaryDirectory(prefix="hotrow-monitoring-") as folder:
        connection = duckdb.connect(f"{folder}/log.duckdb")
        try:
            connection.execute(f"set memory_limit='{MEMORY_LIMIT}'")
            connection.execute(f"set temp_directory='{folder}/spill'")
            connection.execute("set timezone='UTC'")
            connection.execute("set preserve_insertion_order=false")
            connection.execute("set enable_progress_bar=false")
            yield connection, folder
        finally:
            connection.close()


def literal(text: str) -> str:
    """A text in a query."""
    return "'" + text.replace("'", "''") + "'"
