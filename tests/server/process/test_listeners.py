"""Where a server listens: at an address that is its own."""

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from server.errors import SettingsError
from server.process.listeners import bind
from server.settings import Settings


def test_of_two_servers_that_bind_a_port_at_once_one_does() -> None:
    """Its sockets share the port, which may happen to no other server's."""
    host, both = "127.77.0.1", threading.Barrier(2)

    def bound(port: int) -> list[socket.socket]:
        both.wait()
        try:
            return bind(Settings(host=host, port=port), count=2)
        except SettingsError:  # the address is in use
            return []

    with ThreadPoolExecutor(2) as servers:
        for _ in range(100):
            with socket.create_server((host, 0)) as free:
                port = free.getsockname()[1]
            listeners = list(servers.map(bound, [port, port]))
            assert sorted(map(len, listeners)) == [0, 2]
            for listener in itertools.chain(*listeners):
                listener.close()
