"""The web pages that may connect (RFC 6454): the server's own, and those that the operator names. Pure.

A browser opens a WebSocket from any page to any server, with the user's cookies and from within the user's network.
The Origin header is the only sign of which page it was. Programs send no Origin header, and need a token anyway.
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
#: Schemes of URLs that are no origins of pages, or that pages of any author have. Other schemes are those of apps and
#: of browser extensions (capacitor://localhost), whose origins have no port.
_NO_PAGES: Final = frozenset({"about", "blob", "data", "file", "ftp", "javascript", "ws", "wss"})
_NO_PORT: Final = 0
_HTTP_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme, a lower-case host and a port; 0 where a scheme of an app names none."""

    scheme: str
    host: str
    port: int


def parse(text: str) -> Origin | None:
    """The origin in ``text``, as browsers write it; None for ``null`` and every other text."""
    if not text.isascii() or not text.isprintable():
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    has_more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    if not parts.scheme or parts.scheme in _NO_PAGES or not parts.hostname or has_more or text[-1] in "/?#:":
        return None
    if any(character in " *%\\" for character in parts.hostname):
        return None
    usual = _DEFAULT_PORTS.get(parts.scheme, _NO_PORT)
    return Origin(parts.scheme, parts.hostname, usual if port is None else port)


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """The origins that may connect besides the server's own pages; `policy` makes it from the settings."""

    allowed: frozenset[Origin]
    any_origin: bool = False

    def check(self, *, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise AuthenticationError(origin) unless the request's page may connect.

        ``scheme`` and ``headers`` are those of the ASGI scope. A request without Origin comes from a program
        and passes.
        """
        pairs = [(name, value) for name, value in headers if name in (b"origin", b"host")]
        origins = [value for name, value in pairs if name == b"origin"]
        hosts = [value for name, value in pairs if name == b"host"]
        if not origins:
            return
        origin = parse(origins[0].decode("latin-1")) if len(origins) == 1 else None
        if origin is None:  # browsers send "null" for sandboxed frames and local files of any author
            raise refusal("origin")
        if self.any_origin or origin in self.allowed:
            return
        if len(hosts) != 1 or not is_same_origin(origin, scheme=scheme, host=hosts[0].decode("latin-1")):
            raise refusal("origin")


def is_same_origin(origin: Origin, *, scheme: str, host: str) -> bool:
    """Whether ``origin`` names the server at ``host`` (the Host header), reached over ``scheme``.

    Behind a proxy that ends TLS, the server sees http where the browser sees https. An https page therefore
    counts as the server's own there. An http page never does when the server itself was reached by https.
    """
    if origin.scheme not in _DEFAULT_PORTS or (
        _HTTP_SCHEMES.get(scheme) == "https" and origin.scheme == "http"
    ):
        return False
    return parse(f"{origin.scheme}://{host}") == origin


def policy(origins: Collection[str], *, production: bool) -> OriginPolicy:
    """The policy for the configured ``origins``; ``*`` allows every page, and is refused in production.

    Raises ConfigurationError with a sentence for each text that is not exactly one origin.
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
            f"GUARDWIRE_ALLOWED_ORIGINS: {text!r} is not an origin; write it as https://host, https://host:port, or"
            " scheme://host for an app, without path, pattern or final slash (international names in xn-- form)."
        )
    if production and origin.scheme == "http" and not is_loopback(origin.host):
        return f"GUARDWIRE_ALLOWED_ORIGINS: {text!r} must be https, because anyone on the way can change an http page."
    return None


def is_loopback(host: str) -> bool:
    """Whether ``host`` (without port) names this machine.

    The demo gives its token to pages of such hosts only. With DNS rebinding, another name could resolve to this
    machine, and a page of that name would be same-origin.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_is_loopback(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the request has one Host header, and it names this machine, with any port."""
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    origin = parse(f"http://{hosts[0]}") if len(hosts) == 1 else None
    return origin is not None and is_loopback(origin.host)
