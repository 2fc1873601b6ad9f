"""HTTPS, and mutual TLS: contexts that are exchanged, so that renewing a certificate ends no connection."""

import ssl
from asyncio import BaseTransport
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.errors import SettingsError
from server.settings import Settings


class Tls:
    """The certificate that new connections get; raises `SettingsError` for files that cannot be used.

    `context` stays the same. At the beginning of each handshake OpenSSL asks it which
    one to go on with: the latest that was read.
    """

    def __init__(self, certificate: Path, key: Path | None, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self.context = self._latest = self._load()
        self.context.sni_callback = self._use_latest

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self._certificate, self._key, self._client_ca) if path is not None]

    def read(self) -> None:
        """Read the files again; what was read stays if that raises `SettingsError`."""
        self._latest = self._load()

    def _use_latest(self, connection: ssl.SSLObject, *_: object) -> None:
        connection.context = self._latest

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password callback OpenSSL would ask the terminal.
            context.load_cert_chain(self._certificate, self._key, password=lambda: "")
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:  # it does not say which file
            raise SettingsError(
                f"expected a certificate, its key without a password and certificates of clients in "
                f"{', '.join(map(str, self.paths))}, got: {error}"
            ) from None
        return context


def tls_of(settings: Settings) -> Tls | None:
    """What the settings say, None for plain HTTP; raises `SettingsError`."""
    if settings.tls_cert is not None:
        return Tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    if settings.tls_key is not None or settings.tls_client_ca is not None:
        raise SettingsError(
            "expected HOTROW_TLS_CERT beside HOTROW_TLS_KEY or HOTROW_TLS_CLIENT_CA, got none"
        )
    return None


def client_name(transport: BaseTransport) -> str:
    """Who the certificate of a connection's client is for, "" without one."""
    return name_in(transport.get_extra_info("peercert") or {})


def name_in(certificate: Mapping[str, Any]) -> str:
    """Who a certificate is for, as `ssl.SSLSocket.getpeercert` tells it; "" if it names nobody.

    A URI, by which a mesh names a workload (SPIFFE X.509-SVID, section 2), or else the common
    name, or else a host or an address of mail.
    """
    names = dict(reversed(certificate.get("subjectAltName", ())))  # the first of a kind counts
    names |= {kind: value for part in certificate.get("subject", ()) for kind, value in part}
    return next((str(names[kind]) for kind in ("URI", "commonName", "DNS", "email") if kind in names), "")
