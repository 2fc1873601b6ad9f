"""What goes on in a thread while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Do some work beside the block; the event it is given is set at the block's end, which waits for it."""
    ended = threading.Event()
    working = threading.Thread(target=work, args=(ended,))
    working.start()
    try:
        yield
    finally:
        ended.set()
        working.join()
