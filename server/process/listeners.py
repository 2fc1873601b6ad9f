"""The sockets that take connections: bound early, shared with successors, closed without a reset."""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from server.errors import SettingsError
from server.settings import Settings

BACKLOG = 2048

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
#: A classic BPF program on a TCP segment: drop it if the SYN flag is set.
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte with the flags
        (0x45, 0, 1, 0x02),  # SYN set? go on : skip one
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
    )
)


def bind(settings: Settings, count: int = 1) -> list[socket.socket]:
    """`count` listening sockets at the settings' address; raises `SettingsError` if it is taken.

    Several share the port by `SO_REUSEPORT`: the kernel spreads connections evenly
    over them. A Unix socket is one, from which all workers take.
    """
    if settings.uds is not None:
        return [_unix_listener(settings.uds, settings.uds_mode)]
    try:
        if count == 1:
            return [_listener(settings.host, settings.port)]
        with _turn_at(settings.host, settings.port):
            # Bound without SO_REUSEPORT first: with it, a second server would share
            # the port of the first unnoticed.
            with _listener(settings.host, settings.port) as free:
                port = free.getsockname()[1]
            return [_listener(settings.host, port, share=True) for _ in range(count)]
    except OSError as error:
        raise SettingsError(
            f"expected to listen on {settings.host}:{settings.port}, got: {error.strerror}: "
            "choose another --host or --port"
        ) from None


@contextlib.contextmanager
def _turn_at(host: str, port: int) -> Iterator[None]:
    """Raise `OSError` while another server, between its two steps, has an address bound by none.

    An abstract Unix socket (unix(7)) belongs to the network namespace, as ports do, and
    ends with its process.
    """
    with socket.socket(socket.AF_UNIX) as turn:
        if port:
            turn.bind(f"\0hotrow-binds-{host}-{port}")
        yield


def _listener(host: str, port: int, share: bool = False) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener


def _unix_listener(path: Path, mode: int) -> socket.socket:
    """A listening Unix socket, in place of one that nobody listens at any more; raises `SettingsError`."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        listener.bind(os.fspath(path))
        path.chmod(mode)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"expected to listen on {path}, got: {error.strerror or error}: choose another --uds"
        ) from None
    listener.set_inheritable(True)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(os.fspath(path)) == 0


def address_of(listener: socket.socket, scheme: str = "http") -> str:
    """The URL a listening socket is reached at, of a Unix socket its path."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def refuse_new(listener: socket.socket) -> None:
    """Have the kernel ignore new connections, while those it has taken can still be accepted.

    Closing a listening socket resets the connections that wait in its backlog.
    A client whose SYN is ignored tries again and is refused once the socket is
    closed; it has sent nothing by then. Without effect where the kernel has no
    socket filters.
    """
    program = ctypes.create_string_buffer(_DROP_SYN)
    # struct sock_fprog: the number of instructions, and where they are.
    argument = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def park(listener: socket.socket) -> None:
    """Take no connections, so that the kernel gives them to the port's others; what waits is reset."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RD)


def take_again(listener: socket.socket) -> None:
    """Take connections again after `park`; raises `OSError` without a descriptor for it."""
    # Not `listen`: a socket that was shut down comes back beside the port's others, not among them.
    host, port = listener.getsockname()[:2]
    with _listener(host, port, share=True) as fresh:
        os.dup2(fresh.fileno(), listener.fileno())
