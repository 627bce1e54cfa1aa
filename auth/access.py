"""The parts that authenticate callers, made once for a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from auth.authenticator import Authenticator
from auth.claims import Rules
from auth.identity import Identity
from auth.jwks import Jwks
from auth.keys import KeySource, SharedSecret
from auth.origins import OriginPolicy
from auth.revocation import Revocations
from auth.tickets import Tickets
from auth.tokens import Verifier
from realtime.errors import ConfigurationError

#: A rotation needs two secrets. The verifier tries a token with each of them, so many would cost time.
MAX_SECRETS: Final = 4


def key_sources(
    *, secrets: Sequence[str], jwks_url: str, jwks_refresh_seconds: float = 300.0
) -> list[KeySource]:
    """The sources of keys: the HS256 ``secrets``, newest first, and a JWKS address unless it is "".

    Raises ConfigurationError with every problem of the secrets and the address.
    """
    sources: list[KeySource] = list(_shared_secrets(secrets))
    if jwks_url:
        sources.append(Jwks(url=jwks_url, refresh_seconds=jwks_refresh_seconds))
    return sources


def _shared_secrets(secrets: Sequence[str]) -> list[SharedSecret]:
    if len(secrets) > MAX_SECRETS:
        raise ConfigurationError(
            [f"There are {len(secrets)} HS256 secrets: {MAX_SECRETS} are the most. Remove the oldest."]
        )
    sources: list[SharedSecret] = []
    problems: list[str] = []
    for number, secret in enumerate(secrets, start=1):
        which = "The HS256 secret" if len(secrets) == 1 else f"HS256 secret {number} of {len(secrets)}"
        try:
            sources.append(SharedSecret(secret, name=which))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return sources


class Access:
    """The verifier, the revocations, the tickets and the origins of one node.

    Without Redis (``redis`` is None) no tickets are issued. ``standby`` leads to a standby of ``engine``'s database,
    where the node has one.
    """

    def __init__(
        self,
        *,
        keys: Sequence[KeySource],
        rules: Rules,
        origins: OriginPolicy,
        engine: AsyncEngine,
        redis: Redis | None,
        standby: AsyncEngine | None = None,
    ) -> None:
        self._keys = keys
        self._origins = origins
        self.revocations = Revocations(
            engine=engine,
            standby=standby,
            redis=redis,
            max_token_lifetime_seconds=rules.max_lifetime_seconds,
            leeway_seconds=rules.leeway_seconds,
        )
        self.verifier = Verifier(keys=keys, rules=rules, is_revoked=self.revocations.is_revoked)
        self.recheck = self.verifier.recheck
        self.tickets = Tickets(redis=redis, confirm=self.verifier.confirm)
        self.authenticator = Authenticator(verifier=self.verifier, tickets=self.tickets)

    async def authenticate_handshake(self, scope: Scope) -> Identity | None:
        """The identity of a WebSocket handshake; None without a token, which the first frame must then bring.

        Raises AuthenticationError, also for an Origin that may not connect.
        """
        self._origins.check(scheme=scope["scheme"], headers=scope["headers"])
        return await self.authenticator.from_headers(scope)

    def changes(self) -> int:
        """A number that grows with each revocation and each withdrawn key.

        While it stays the same, `recheck` can refuse a known identity for its expiry alone.
        """
        return self.revocations.changes() + self.verifier.withdrawals()

    def tasks(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """The endless tasks of this part, each with its name."""
        yield "revocations", self.revocations.run
        for source in self._published():
            yield "jwks", source.run

    async def close(self) -> None:
        """Stop fetching keys."""
        for source in self._published():
            await source.close()

    def _published(self) -> Iterator[Jwks]:
        return (source for source in self._keys if isinstance(source, Jwks))
