"""Tokens that were verified already, so that a known one costs a digest and a look-up."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from auth.identity import Identity


def digest(token: str) -> bytes:
    """What stands for ``token`` in memory: 32 bytes that give nothing of it away."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Remembered:
    """The ``capacity`` identities used last, by the digest of their token. Failures are never remembered.

    The digest covers the signature: a look-up stands for its check.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, Identity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token_digest: bytes) -> Identity | None:
        """The identity as it was verified, or None; whether it still holds is for the caller to find out."""
        identity = self._entries.get(token_digest)
        if identity is not None:
            self._entries.move_to_end(token_digest)
        return identity

    def put(self, token_digest: bytes, identity: Identity) -> None:
        """Remember ``identity``, forgetting the one that was used longest ago when there are too many."""
        self._entries[token_digest] = identity
        self._entries.move_to_end(token_digest)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def forget(self, token_digest: bytes) -> None:
        """Forget one token, known or not."""
        self._entries.pop(token_digest, None)
