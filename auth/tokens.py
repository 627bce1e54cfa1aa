"""The verifier of tokens, for HTTP requests, WebSocket handshakes, and the frames `hello` and `auth`."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from auth.claims import Rules, identify
from auth.compact import MAX_TOKEN_BYTES, Compact, decode
from auth.identity import ADMIN_SCOPE, Identity
from auth.keys import KeySource, VerifyingKey
from auth.refusals import Reason, refusal
from realtime.errors import ConfigurationError

__all__ = ["ADMIN_SCOPE", "Identity", "Rules", "Verifier", "token_id_of"]

#: A cache of 10,000 tokens takes about 8 MB.
DEFAULT_CAPACITY: Final = 10_000


def digest(token: str) -> bytes:
    """The SHA-256 of ``token``, by which memory and Redis know it: 32 bytes that reveal nothing of the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def token_id_of(token: str) -> str:
    """The id by which a token without ``jti`` can be revoked: ``sha256:`` and 64 hexadecimal digits.

    The digits are the digest of the signed part, which is the text before the second dot. The signature is left
    out, because one token can have several: ES256 accepts (r, n - s) beside (r, s).
    """
    return f"sha256:{digest(token.rpartition('.')[0]).hex()}"


def _nobody_is_revoked(_: Identity) -> bool:
    return False


class TokenCache:
    """The ``capacity`` identities that were used last, by the digest of their token; failures are not cached.

    The digest covers the signature, so a token that is found here needs no second verification.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, Identity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token_digest: bytes) -> Identity | None:
        """The identity as it was verified, or None; the caller checks whether it is still valid."""
        identity = self._entries.get(token_digest)
        if identity is not None:
            self._entries.move_to_end(token_digest)
        return identity

    def put(self, token_digest: bytes, identity: Identity) -> None:
        """Add ``identity``; beyond the capacity, the identity that was used longest ago goes."""
        self._entries[token_digest] = identity
        self._entries.move_to_end(token_digest)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def forget(self, token_digest: bytes) -> None:
        """Remove one token, if it is there."""
        self._entries.pop(token_digest, None)


class Verifier:
    """Finds the identity behind a token; raises AuthenticationError and nothing else."""

    def __init__(
        self,
        *,
        keys: Sequence[KeySource],
        rules: Rules,
        is_revoked: Callable[[Identity], bool] = _nobody_is_revoked,
        capacity: int = DEFAULT_CAPACITY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` gives unix seconds; ``is_revoked`` is called at every use of a token and must be quick."""
        if not keys:
            raise ConfigurationError(["There is neither a secret nor a JWKS address to verify tokens with."])
        self._sources = tuple(keys)
        self._rules = rules
        self._is_revoked = is_revoked
        self._clock = clock
        self._cache = TokenCache(capacity=capacity)

    def cached(self, token: str) -> Identity | None:
        """The identity of a token that was verified before and is still valid; None for any other."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        token_digest = digest(token)
        identity = self._cache.get(token_digest)
        if identity is None:
            return None
        if self.recheck(identity) is not None:
            self._cache.forget(token_digest)
            return None
        return identity

    async def verify(self, token: str) -> Identity:
        """The identity behind ``token``; waits, for some seconds at most, only for a key not known yet."""
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
        self._cache.put(digest(token), identity)
        return identity

    def recheck(self, identity: Identity) -> Reason | None:
        """Why ``identity``, which was verified before, is no longer valid; None while it is.

        The reasons are "expired", "unknown_key" (the key was withdrawn) and "revoked". Answered from memory.
        """
        if identity.expires_at <= self._clock():
            return "expired"
        if not self._accepts(identity.key_fingerprint):
            return "unknown_key"
        return "revoked" if self._is_revoked(identity) else None

    def _accepts(self, fingerprint: bytes) -> bool:
        for source in self._sources:  # noqa: SIM110 - any() would make a generator at every use of a token
            if source.holds(fingerprint):
                return True
        return False

    async def confirm(self, identity: Identity) -> None:
        """Raise AuthenticationError unless ``identity`` is still valid.

        Another node may have verified it with a key that this node does not know yet, so this node looks for
        unknown keys as in `verify`.
        """
        reason = self.recheck(identity)
        if reason == "unknown_key":
            for source in self._sources:
                await source.fetch_again()
            reason = self.recheck(identity)
        if reason is not None:
            raise refusal(reason)

    def withdrawals(self) -> int:
        """A number that grows whenever a key is withdrawn, and with it every token that the key signed."""
        return sum(source.withdrawals() for source in self._sources)

    async def _signer(self, compact: Compact) -> VerifyingKey:
        sources = [source for source in self._sources if compact.algorithm in source.algorithms]
        if not sources:
            raise refusal("wrong_algorithm")
        keys = _candidates(sources, compact)
        if not keys:
            for source in sources:
                await source.fetch_again()
            keys = _candidates(sources, compact)
        if not keys:
            raise refusal("unknown_key")
        for key in keys:
            if key.verifies(compact.signed_bytes, compact.signature):
                return key
        raise refusal("bad_signature")


def _candidates(sources: Sequence[KeySource], compact: Compact) -> list[VerifyingKey]:
    return [key for source in sources for key in source.find(compact.algorithm, compact.key_id)]
