"""The one verifier of tokens, for HTTP requests, WebSocket handshakes and `hello` and `auth` frames alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from auth.claims import Rules, identify
from auth.compact import MAX_TOKEN_BYTES, Compact, decode
from auth.identity import ADMIN_SCOPE, Identity
from auth.keys import KeySource, VerifyingKey
from auth.refusals import refusal
from auth.remembered import Remembered, digest
from realtime.errors import ConfigurationError

__all__ = ["ADMIN_SCOPE", "Identity", "Rules", "Verifier", "token_id_of"]

#: 10,000 known tokens take about 8 MB.
DEFAULT_CAPACITY: Final = 10_000


def token_id_of(token: str) -> str:
    """The id under which a token without ``jti`` is known and can be revoked."""
    return f"sha256:{digest(token).hex()}"


def _nobody_is_revoked(_: Identity) -> bool:
    return False


class Verifier:
    """Tells who a token speaks for, or raises AuthenticationError and nothing else."""

    def __init__(
        self,
        *,
        keys: Sequence[KeySource],
        rules: Rules,
        is_revoked: Callable[[Identity], bool] = _nobody_is_revoked,
        capacity: int = DEFAULT_CAPACITY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` tells unix seconds; ``is_revoked`` is asked at every use of a token and must be quick."""
        if not keys:
            raise ConfigurationError(["There is neither a secret nor a JWKS address to verify tokens with."])
        self._sources = tuple(keys)
        self._rules = rules
        self._is_revoked = is_revoked
        self._clock = clock
        self._remembered = Remembered(capacity=capacity)

    def cached(self, token: str) -> Identity | None:
        """The identity of a token that was verified before and is still good, at once; else None."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        identity = self._remembered.get(digest(token), now=self._clock())
        if identity is None or self._is_revoked(identity):
            return None
        return identity

    async def verify(self, token: str) -> Identity:
        """The identity that ``token`` proves; waits (seconds at most) only for a key not known yet."""
        known = self.cached(token)
        if known is not None:
            return known
        compact = decode(token)
        key = await self._signer(compact)
        token_digest = digest(token)
        identity = identify(
            compact.claims, self._rules, now=self._clock(), fallback_token_id=f"sha256:{token_digest.hex()}"
        )
        if self._is_revoked(identity):
            self._remembered.forget(token_digest)
            raise refusal("revoked")
        self._remembered.put(token_digest, identity, key)
        return identity

    async def _signer(self, compact: Compact) -> VerifyingKey:
        sources = [source for source in self._sources if compact.algorithm in source.algorithms]
        if not sources:
            raise refusal("wrong_algorithm")
        keys = _candidates(sources, compact)
        if not keys:
            for source in sources:
                await source.look_again()
            keys = _candidates(sources, compact)
        if not keys:
            raise refusal("unknown_key")
        for key in keys:
            if key.verifies(compact.signed_bytes, compact.signature):
                return key
        raise refusal("bad_signature")


def _candidates(sources: Sequence[KeySource], compact: Compact) -> list[VerifyingKey]:
    return [key for source in sources for key in source.find(compact.algorithm, compact.key_id)]
