"""The names under which the page answers, so that no other site can read it by pointing its own name here."""

from server.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def own_hosts(settings: Settings) -> tuple[str, ...]:
    """As set; else the names of the loopback address where only that is listened to, else none: any."""
    if settings.allowed_hosts:
        return settings.allowed_hosts
    listens_to_itself = settings.host in ("localhost", "::1") or settings.host.startswith("127.")
    return (*LOOPBACK, settings.host) if listens_to_itself else ()
