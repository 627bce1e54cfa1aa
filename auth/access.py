"""Who may come in: everything that decides it, put together once for a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence

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


def key_sources(*, secret: str, jwks_url: str, jwks_refresh_seconds: float) -> list[KeySource]:
    """Where tokens' keys come from; "" for a source that is not used. Raises ConfigurationError."""
    sources: list[KeySource] = []
    if secret:
        sources.append(SharedSecret(secret))
    if jwks_url:
        sources.append(Jwks(url=jwks_url, refresh_seconds=jwks_refresh_seconds))
    return sources


class Access:
    """The verifier, and what it asks; ``redis`` is None where none is used, and then there are no tickets."""

    def __init__(
        self,
        *,
        keys: Sequence[KeySource],
        rules: Rules,
        origins: OriginPolicy,
        engine: AsyncEngine,
        redis: Redis | None,
    ) -> None:
        self._keys = keys
        self._origins = origins
        self.revocations = Revocations(
            engine=engine,
            redis=redis,
            max_token_lifetime_seconds=rules.max_lifetime_seconds,
            leeway_seconds=rules.leeway_seconds,
        )
        self.verifier = Verifier(keys=keys, rules=rules, is_revoked=self.revocations.is_revoked)
        self.recheck = self.verifier.recheck
        self.tickets = Tickets(redis=redis, confirm=self.verifier.confirm)
        self.authenticator = Authenticator(verifier=self.verifier, tickets=self.tickets)

    async def of_handshake(self, scope: Scope) -> Identity | None:
        """The identity of a WebSocket handshake, None when its first frame must bring it; raises
        AuthenticationError, for a forbidden Origin too.
        """
        self._origins.check(scheme=scope["scheme"], headers=scope["headers"])
        return await self.authenticator.from_headers(scope)

    def changes(self) -> int:
        """A number that grows whenever `recheck` may refuse what it did not refuse before, but for time."""
        return self.revocations.changes() + self.verifier.withdrawals()

    def tasks(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """What must run for ever, by name."""
        yield "revocations", self.revocations.run
        for source in self._published():
            yield "jwks", source.run

    async def close(self) -> None:
        """End the connections to who publishes keys."""
        for source in self._published():
            await source.close()

    def _published(self) -> Iterator[Jwks]:
        return (source for source in self._keys if isinstance(source, Jwks))
