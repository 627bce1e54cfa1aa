"""Which web pages may connect (RFC 6454): the server's own, those that are named, and no other. Pure.

A browser opens a WebSocket from any page to any server, with the user's cookies and in the user's network;
its Origin header alone tells the pages apart. Programs send none, and have a token to show.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from auth.refusals import refusal
from realtime.errors import ConfigurationError

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HTTP_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme (http or https), a lower-case host and a port."""

    scheme: str
    host: str
    port: int


def parse(text: str) -> Origin | None:
    """The origin that ``text`` spells, as browsers send it; None for ``null`` and all that is no origin."""
    if not text.isascii() or not text.isprintable():
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    has_more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or has_more or text[-1] in "/?#:":
        return None
    if any(character in " *%\\" for character in parts.hostname):
        return None
    return Origin(parts.scheme, parts.hostname, _DEFAULT_PORTS[parts.scheme] if port is None else port)


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """Who may connect besides the server's own pages. Make one with `policy`."""

    allowed: frozenset[Origin]
    any_origin: bool = False

    def check(self, *, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise AuthenticationError(origin) unless the request's page may connect.

        ``scheme`` and ``headers`` are the ASGI scope's. A request without Origin is a program's, and passes.
        """
        pairs = [(name, value) for name, value in headers if name in (b"origin", b"host")]
        origins = [value for name, value in pairs if name == b"origin"]
        hosts = [value for name, value in pairs if name == b"host"]
        if not origins:
            return
        origin = parse(origins[0].decode("latin-1")) if len(origins) == 1 else None
        if origin is None:  # "null" is what sandboxed frames and local files of any author send
            raise refusal("origin")
        if self.any_origin or origin in self.allowed:
            return
        if len(hosts) != 1 or not is_same_origin(origin, scheme=scheme, host=hosts[0].decode("latin-1")):
            raise refusal("origin")


def is_same_origin(origin: Origin, *, scheme: str, host: str) -> bool:
    """Whether ``origin`` is of the server that was asked for as ``host`` (the Host header) over ``scheme``.

    Behind a proxy that ends TLS the server sees http where the browser sees https, so a secure page counts as
    the server's own there; an insecure page never does where the server itself was reached securely.
    """
    if _HTTP_SCHEMES.get(scheme) == "https" and origin.scheme == "http":
        return False
    return parse(f"{origin.scheme}://{host}") == origin


def policy(origins: Collection[str], *, production: bool) -> OriginPolicy:
    """The policy for configured ``origins``; ConfigurationError names each that is not exactly one origin.

    ``*`` lets every page in, and is refused in production.
    """
    problems = [_problem(text, production=production) for text in origins]
    found = [problem for problem in problems if problem is not None]
    if found:
        raise ConfigurationError(found)
    parsed = {origin for origin in map(parse, origins) if origin is not None}
    return OriginPolicy(frozenset(parsed), any_origin="*" in origins)


def _problem(text: str, *, production: bool) -> str | None:
    if text == "*":
        return "GUARDWIRE_ALLOWED_ORIGINS may not hold *: name each origin." if production else None
    origin = parse(text)
    if origin is None:
        return (
            f"GUARDWIRE_ALLOWED_ORIGINS: {text!r} is not an origin; write it as https://host or "
            "https://host:port, without path, pattern or final slash (international names in xn-- form)."
        )
    if production and origin.scheme == "http" and not is_loopback(origin.host):
        return f"GUARDWIRE_ALLOWED_ORIGINS: {text!r} must be https: anyone on the way can write http pages."
    return None


def is_loopback(host: str) -> bool:
    """Whether ``host`` (without port) names this machine.

    A demo that hands out tokens serves such hosts only: another name that resolves here (DNS rebinding)
    would make their page same-origin.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_is_loopback(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the request's one Host header names this machine, whatever the port."""
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    origin = parse(f"http://{hosts[0]}") if len(hosts) == 1 else None
    return origin is not None and is_loopback(origin.host)
