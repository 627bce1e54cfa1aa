"""The one verifier of tokens, for HTTP requests, WebSocket handshakes and `hello` and `auth` frames alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from auth.claims import Rules, identify
from auth.compact import MAX_TOKEN_BYTES, Compact, decode
from auth.identity import ADMIN_SCOPE, Identity
from auth.keys import KeySource, VerifyingKey
from auth.refusals import Reason, refusal
from auth.remembered import Remembered, digest
from realtime.errors import ConfigurationError

__all__ = ["ADMIN_SCOPE", "Identity", "Rules", "Verifier", "token_id_of"]

#: 10,000 known tokens take about 8 MB.
DEFAULT_CAPACITY: Final = 10_000


def token_id_of(token: str) -> str:
    """The id under which a token without ``jti`` is known and can be revoked: ``sha256:`` and 64 hexadecimal
    digits, the digest of its signed part (the text before the second dot).

    The signature is left out because one token can carry several: ES256 accepts (r, n - s) beside (r, s).
    """
    return f"sha256:{digest(token.rpartition('.')[0]).hex()}"


def _nobody_is_revoked(_: Identity) -> bool:
    return False


class Verifier:
    """Finds whom a token speaks for, or raises AuthenticationError and nothing else."""

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
        token_digest = digest(token)
        identity = self._remembered.get(token_digest)
        if identity is None:
            return None
        if self.recheck(identity) is not None:
            self._remembered.forget(token_digest)
            return None
        return identity

    async def verify(self, token: str) -> Identity:
        """The identity that ``token`` proves; waits (seconds at most) only for a key not known yet."""
        known = self.cached(token)
        if known is not None:
            return known
        compact = decode(token)
        key = await self._signer(compact)
        identity = identify(
            compact.claims,
            self._rules,
            now=self._clock(),
            fallback_token_id=token_id_of(token),
            key_fingerprint=key.fingerprint,
        )
        if self._is_revoked(identity):
            raise refusal("revoked")
        self._remembered.put(digest(token), identity)
        return identity

    def recheck(self, identity: Identity) -> Reason | None:
        """Why ``identity``, verified before, holds no longer: "expired", "unknown_key" (its key was
        withdrawn) or "revoked"; None while it holds. At once, from memory.
        """
        if identity.expires_at <= self._clock():
            return "expired"
        if not self._believes(identity.key_fingerprint):
            return "unknown_key"
        return "revoked" if self._is_revoked(identity) else None

    def _believes(self, fingerprint: bytes) -> bool:
        for source in self._sources:  # noqa: SIM110 - any() would make a generator at every use of a token
            if source.holds(fingerprint):
                return True
        return False

    async def confirm(self, identity: Identity) -> None:
        """Raise AuthenticationError unless ``identity`` still holds. Another node may have verified it, so a
        key that this node does not know yet is looked for, as by `verify`.
        """
        reason = self.recheck(identity)
        if reason == "unknown_key":
            for source in self._sources:
                await source.look_again()
            reason = self.recheck(identity)
        if reason is not None:
            raise refusal(reason)

    def withdrawals(self) -> int:
        """A number that grows whenever a key stops being believed, and with it what the key signed."""
        return sum(source.withdrawals() for source in self._sources)

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
