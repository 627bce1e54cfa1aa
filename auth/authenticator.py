"""From a request to the Identity behind it, by one verifier for HTTP and WebSocket handshakes alike."""

from __future__ import annotations

from starlette.types import Scope

from auth.bearer import TICKET_PARAMETER, bearer_token, refuse_credentials_in_url, ticket_of
from auth.identity import Identity
from auth.refusals import refusal
from auth.tickets import Tickets
from auth.tokens import Verifier


class Authenticator:
    """Reads a request's credential and has it verified; raises AuthenticationError and nothing else."""

    def __init__(self, *, verifier: Verifier, tickets: Tickets | None = None) -> None:
        self._verifier = verifier
        self._tickets = tickets

    async def from_headers(self, scope: Scope) -> Identity | None:
        """The identity of the bearer token, or None when the request carries no credential at all."""
        token = _token(scope)
        return None if token is None else self._verifier.cached(token) or await self._verifier.verify(token)

    def known(self, scope: Scope) -> Identity | None:
        """The identity of a bearer token that was verified before, at once; None for every other request."""
        token = _token(scope)
        return None if token is None else self._verifier.cached(token)

    async def require(self, scope: Scope) -> Identity:
        """As `from_headers`, with AuthenticationError(missing) instead of None."""
        token = _token(scope)
        if token is None:
            raise refusal("missing")
        return self._verifier.cached(token) or await self._verifier.verify(token)

    async def from_headers_or_ticket(self, scope: Scope) -> Identity:
        """As `require`, where browsers come without headers: a one-time ``?ticket=`` will do as well."""
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
