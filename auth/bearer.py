"""The credential of a request: one bearer token in its headers, nothing in its URL. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from auth.refusals import refusal

#: Query parameters that people put credentials in. What is in a URL is in logs, histories and referrers.
CREDENTIAL_PARAMETERS: Final = frozenset(
    {
        "access_token", "api_key", "apikey", "auth", "authorization", "bearer", "id_token", "jwt",
        "refresh_token", "ticket", "token",
    }
)  # fmt: skip
#: The one credential a URL may carry, and only where a route asks for it: it works once, for seconds.
TICKET_PARAMETER: Final = "ticket"
MAX_PARAMETERS: Final = 64


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token of the one ``Authorization: Bearer`` header; None without one; else AuthenticationError.

    ``headers`` are ASGI's: names in lower case.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    if len(values) > 1:  # a proxy and this server could each believe another one
        raise refusal("malformed")
    scheme, _, token = values[0].strip().partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token or not token.isascii() or b" " in token or b"," in token:
        raise refusal("malformed")
    return token.decode("ascii")


def refuse_credentials_in_url(query_string: bytes, *, except_for: str | None = None) -> None:
    """Raise AuthenticationError(in_url) when a query parameter is one for credentials, however written."""
    if not query_string:
        return
    for name, _ in _parameters(query_string):
        if name in CREDENTIAL_PARAMETERS and name != except_for:
            raise refusal("in_url")


def ticket_of(query_string: bytes) -> str | None:
    """The ticket in a URL, where a route takes one; None without; AuthenticationError(malformed) for two."""
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
    except ValueError:  # too many of them
        raise refusal("malformed") from None
    return [(name.strip().lower(), value) for name, value in pairs]
