"""What the workers of one server and its observer share: rings, descriptions, and a sign of life."""

import fcntl
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from server.log.history import History
from server.log.ring import Ring, ring_bytes

_READ_BYTES = 2**20


class Descriptions:
    """JSON objects in memory that every process of a server can add to and read: one a line.

    The first says how the log is kept; the others describe models, once each, and
    instances, which name their model.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._offset = 0
        self._rest = b""

    @classmethod
    def begin(cls, first: Mapping[str, Any]) -> "Descriptions":
        """New ones; others see them through the descriptor."""
        descriptor = os.memfd_create("hotrow-descriptions", os.MFD_CLOEXEC)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
        made = cls(descriptor)
        made._add(first)
        return made

    def add_model(self, description: Mapping[str, Any]) -> str:
        """Describe a model, unless it is; the name of the description."""
        import hashlib  # half a megabyte that the observer does without

        name = hashlib.sha256(orjson.dumps(description)).hexdigest()[:16]
        if not any(known.get("model") == name for known in Descriptions(self.descriptor).new()):
            self._add({"model": name, **description})
        return name

    def add_instance(self, instance: str, pid: int, slot: int, model: str) -> None:
        """Describe an instance: whose ids begin so, and whose model this is."""
        self._add({"instance": instance, "pid": pid, "slot": slot, "of": model})

    def new(self) -> Iterator[dict[str, Any]]:
        """What was added since this was last asked."""
        while chunk := os.pread(self.descriptor, _READ_BYTES, self._offset):
            self._offset += len(chunk)
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from map(orjson.loads, lines)

    def _add(self, description: Mapping[str, Any]) -> None:
        # Appended in one write: two workers that add at once add one after the other.
        os.write(self.descriptor, orjson.dumps(description, option=orjson.OPT_APPEND_NEWLINE))


class Channel:
    """The rings of all slots, the descriptions and the history; made once, before the first fork."""

    def __init__(self, rings: int, memory: int, descriptions: Descriptions, history: int) -> None:
        self._memory, self._history = memory, history
        self.descriptions = descriptions
        for descriptor in self.descriptors:
            weakref.finalize(self, os.close, descriptor)
        self.history = History(history)
        size = os.fstat(memory).st_size // rings
        self.rings = [Ring(mmap.mmap(memory, size, offset=slot * size)) for slot in range(rings)]

    @classmethod
    def make(cls, rings: int, capacity: int, first: Mapping[str, Any]) -> "Channel":
        """A channel of so many rings of `capacity` bytes each, which take memory as they are used."""
        memory = os.memfd_create("hotrow-log", os.MFD_CLOEXEC)
        os.ftruncate(memory, rings * ring_bytes(capacity))
        return cls(rings, memory, Descriptions.begin({**first, "rings": rings}), History.make())

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """What another process opens the channel by."""
        return self._memory, self.descriptions.descriptor, self._history

    @classmethod
    def of(cls, memory: int, descriptions: int, history: int) -> "tuple[Channel, dict[str, Any]]":
        """The channel of these descriptors, and the first description."""
        found = Descriptions(descriptions)
        first = next(found.new())
        return cls(first["rings"], memory, Descriptions(descriptions), history), first
