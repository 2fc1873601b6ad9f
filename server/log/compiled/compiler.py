"""Makes the machine code of lines: `python -m server.log.compiled.compiler`.

A process of its own, since the observer does without a compiler. What it has made, and compared with
what `LineMaker` makes, it writes to its output and into the user's cache; else it says why there is none
and ends with 1.
"""

import mmap
import os
import random
import sys
import time
from collections.abc import Iterator

from server.compiled.forest import NotCompilable
from server.compiled.kept import read_sealed, sealed, write_sealed
from server.log.compiled.block import block_function
from server.log.compiled.code import LineCode, code_path
from server.log.line import LineMaker
from server.log.ring import Ring, ring_bytes
from server.metrics.process_usage import ProcessUsage

#: Records whose lines are compared, and the characters of what they hold.
COMPARED, _CHARACTERS = 2000, b'abc{}":[0123456789,\n\r \xc3\xa9'
_RING_BYTES = 2**18


def line_code() -> bytes:
    """The machine code, compared; raises `NotCompilable`, `ImportError` and `OSError`."""
    from server.compiled.machine import machine_code

    made = machine_code(block_function())
    if not makes_the_same(LineCode(made), random.Random(0), COMPARED):
        raise NotCompilable("its lines are not equal to the byte")
    return made


def makes_the_same(code: LineCode, source: random.Random, count: int) -> bool:
    """Whether the code makes the lines and rows of so many records that `LineMaker` and `Ring.take` do."""
    ring = Ring(mmap.mmap(-1, ring_bytes(_RING_BYTES)))
    maker, put = LineMaker(ProcessUsage(os.getpid())), ring.writer()
    began, compared = time.perf_counter_ns(), 0
    while compared < count:
        for record in _records(source, began):
            if not put(1, *record):
                break
        while ring.unread_bytes:
            read = ring.read
            if (waiting := ring.waiting(_RING_BYTES)) is not None:
                block = code.block(waiting, maker.frame(waiting.began))
                read, compared = block.read, compared + block.made
            taken = ring.take(max(1, read - ring.read))  # where the code stopped Python goes on
            if taken.read == read:
                responses = [response for group in taken.groups for response in group.responses]
                rows = b"".join(row for group in taken.groups for row in group.rows)
                if block != (maker.lines(responses), len(responses), rows, read):
                    return False
            ring.done(taken.read, 0)
    return True


def _records(
    source: random.Random, began: int
) -> Iterator[tuple[int, int, int, float, float, bytes, bytes, bytes]]:
    """What `Ring.put` takes, without end, most of it plain, of requests that began about that time."""
    while True:
        begins = began + source.randrange(10**6)
        took = source.choice((source.randrange(10**4), source.randrange(10**6), source.randrange(10**11)))
        number = source.choice((source.randrange(10), source.randrange(10**6), source.randrange(2**63)))
        margin = source.choice((source.gauss(0, 2), source.gauss(0, 1) * 10.0 ** source.randrange(-320, 308)))
        row = source.randbytes(8 * source.choice((0, 1, 14)))
        content = b"{%b}" % _text(source, 300)
        yield begins, begins + took, number, margin, source.random(), row, content, _text(source, 900)


def _text(source: random.Random, longest: int) -> bytes:
    return bytes(source.choices(_CHARACTERS, k=source.randrange(longest)))


def main() -> int:
    """Make the code, or find it."""
    try:
        made = read_sealed(code_path())
        if made is None:
            made = line_code()
            write_sealed(code_path(), made)
    except (ImportError, NotCompilable, OSError) as error:
        print(error)
        return 1
    sys.stdout.buffer.write(sealed(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
