"""Where the server is: one base URL, from which every transport makes its own."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class Address(msgspec.Struct, frozen=True):
    """``prefix`` is the path that the server is mounted under: empty, or ``/…`` without a slash
    at its end.
    """

    secure: bool
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """Host and port, as the ``Host`` header writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def websocket_url(self, **parameters: str | None) -> str:
        """The WebSocket's URL."""
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.path('/ws', **parameters)}"

    def path(self, route: str, **parameters: str | None) -> str:
        """Path and query of ``route`` on this server; parameters that are None are left out."""
        query = "&".join(
            f"{name}={quote(value, safe=',:')}" for name, value in parameters.items() if value is not None
        )
        return f"{self.prefix}{route}{'?' if query else ''}{query}"


def parse(url: str) -> Address:
    """The address in ``url``: ``ws``, ``wss``, ``http`` or ``https``, with or without ``/ws`` at its end.

    Raises ValueError for anything else, and for a URL that carries a query or credentials: tokens belong in a
    header.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("the URL must start with ws://, wss://, http:// or https:// and name a host")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("the URL may carry no query, fragment or credentials; pass the token as token=")
    prefix = parts.path.rstrip("/").removesuffix("/ws")
    port = parts.port or _PORTS[parts.scheme]
    return Address(parts.scheme in ("wss", "https"), parts.hostname, port, prefix)
