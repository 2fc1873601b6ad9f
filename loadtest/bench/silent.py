"""A server that counts nothing: what metrics cost is the difference to it.

`python -m loadtest.bench.silent` is `python -m server` without the counting of an
answer. For measurements alone.
"""

from loadtest.bench.uncounted import uncounted
from server.__main__ import main
from server.cli import COULD_NOT_START, run

if __name__ == "__main__":
    with uncounted():
        run(main, COULD_NOT_START)
