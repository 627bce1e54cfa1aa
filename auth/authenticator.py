"""From a request to the Identity behind it: one bearer token in its headers, and nothing in its URL.

HTTP requests and WebSocket handshakes go through the same `Authenticator` and the same `Verifier`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from auth.identity import Identity
from auth.refusals import refusal
from auth.tickets import Tickets
from auth.tokens import Verifier

#: Query parameters that people put credentials in. URLs end up in logs, browser histories and Referer headers.
CREDENTIAL_PARAMETERS: Final = frozenset(
    {
        "access_token", "api_key", "apikey", "auth", "authorization", "bearer", "id_token", "jwt",
        "refresh_token", "ticket", "token",
    }
)  # fmt: skip
#: The one credential that a URL may carry, on routes that ask for it: a ticket works once, and for seconds.
TICKET_PARAMETER: Final = "ticket"
MAX_PARAMETERS: Final = 64


class Authenticator:
    """Reads the credential of a request and verifies it; raises AuthenticationError and nothing else."""

    def __init__(self, *, verifier: Verifier, tickets: Tickets | None = None) -> None:
        self._verifier = verifier
        self._tickets = tickets

    async def from_headers(self, scope: Scope) -> Identity | None:
        """The identity of the bearer token, or None when the request carries no credential at all."""
        token = _token(scope)
        return None if token is None else self._verifier.cached(token) or await self._verifier.verify(token)

    async def require(self, scope: Scope) -> Identity:
        """Like `from_headers`, but raises AuthenticationError(missing) where that returns None."""
        token = _token(scope)
        if token is None:
            raise refusal("missing")
        return self._verifier.cached(token) or await self._verifier.verify(token)

    async def from_headers_or_ticket(self, scope: Scope) -> Identity:
        """Like `require`, and also accepts a one-time ``?ticket=``, because browsers cannot set the header."""
        refuse_credentials_in_url(scope["query_string"], except_for=TICKET_PARAMETER)
        ticket = ticket_of(scope["query_string"])
        token = bearer_token(scope["headers"])
        if (ticket is None) == (token is None):
            raise refusal("missing" if token is None else "malformed")
        if token is not None:
            return await self._verifier.verify(token)
        if self._tickets is None or ticket is None:
            raise refusal("bad_ticket")
        return await self._tickets.redeem(ticket)


def _token(scope: Scope) -> str | None:
    refuse_credentials_in_url(scope["query_string"])
    return bearer_token(scope["headers"])


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token of the one ``Authorization: Bearer`` header; None without one; else AuthenticationError.

    ``headers`` are ASGI's: names in lower case.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    if len(values) > 1:  # a proxy might have checked another of them than we would
        raise refusal("malformed")
    scheme, _, token = values[0].strip().partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token or not token.isascii() or b" " in token or b"," in token:
        raise refusal("malformed")
    return token.decode("ascii")


def refuse_credentials_in_url(query_string: bytes, *, except_for: str | None = None) -> None:
    """Raise AuthenticationError(in_url) when a query parameter is in `CREDENTIAL_PARAMETERS`, in any case."""
    if not query_string:
        return
    for name, _ in _parameters(query_string):
        if name in CREDENTIAL_PARAMETERS and name != except_for:
            raise refusal("in_url")


def ticket_of(query_string: bytes) -> str | None:
    """The ticket in a URL; None without one; raises AuthenticationError(malformed) for two."""
    tickets = [value for name, value in _parameters(query_string) if name == TICKET_PARAMETER]
    if len(tickets) > 1:
        raise refusal("malformed")
    return tickets[0] if tickets else None


def _parameters(query_string: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(
            query_string.decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=MAX_PARAMETERS,
            errors="replace",
        )
    except ValueError:  # more than MAX_PARAMETERS
        raise refusal("malformed") from None
    return [(name.strip().lower(), value) for name, value in pairs]
