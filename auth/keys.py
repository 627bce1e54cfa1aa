"""Keys that verify tokens, each bound to one algorithm when it is loaded.

A token's ``alg`` only picks among the keys of that algorithm; it never decides how a key is used. So a public
RSA key cannot be taken for an HMAC secret, and ``none`` is a name that no key has.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from auth.strength import MEND, weakness
from realtime.errors import ConfigurationError

FINGERPRINT_BYTES: Final = 16
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192  # verifying costs the square of it

#: A secret's fingerprint is an HMAC under the secret: a plain hash of the secret might be in use elsewhere.
_FINGERPRINT_MESSAGE: Final = b"guardwire: the fingerprint of this key"
_ES256: Final = ECAlgorithm(ECAlgorithm.SHA256)
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)
_EDDSA: Final = OKPAlgorithm()
#: By type and curve: the algorithm's names (RFC 9864 renames EdDSA), what carries it out, the public members.
_PUBLIC_KINDS: Final[dict[tuple[object, object], tuple[tuple[str, ...], Algorithm, tuple[str, ...]]]] = {
    ("RSA", None): (("RS256",), _RS256, ("n", "e")),
    ("EC", "P-256"): (("ES256",), _ES256, ("x", "y")),
    ("OKP", "Ed25519"): (("EdDSA", "Ed25519"), _EDDSA, ("x",)),
}


class VerifyingKey:
    """One key and the one algorithm that it may be used with."""

    __slots__ = ("_algorithm", "_key", "algorithms", "fingerprint", "key_id")

    def __init__(
        self,
        *,
        algorithms: tuple[str, ...],
        algorithm: Algorithm,
        key: Any,
        key_id: str | None,
        fingerprint: bytes,
    ) -> None:
        self.algorithms = algorithms
        self.key_id = key_id
        #: 16 bytes by which any node recognises the key; they reveal nothing of it.
        self.fingerprint = fingerprint
        self._algorithm = algorithm
        self._key = key

    def verifies(self, signed_bytes: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``signed_bytes``."""
        return self._algorithm.verify(signed_bytes, self._key, signature)


class KeySource(Protocol):
    """Where a verifier finds its keys."""

    @property
    def algorithms(self) -> frozenset[str]:
        """Names of the algorithms that its keys can have."""

    def find(self, algorithm: str, key_id: str | None) -> Sequence[VerifyingKey]:
        """The few keys in memory that may have signed a token with this header; at once."""

    def holds(self, fingerprint: bytes) -> bool:
        """Whether the key with this fingerprint is believed now; at once."""

    def withdrawals(self) -> int:
        """A number that grows whenever a key stops being believed; at once."""

    async def look_again(self) -> None:
        """Look for keys that are not in memory yet; AuthenticationError(unavailable) when that fails."""


class SharedSecret:
    """An HS256 secret that the platform's issuer and this server share; ``key_id`` of tokens is ignored."""

    algorithms = frozenset({"HS256"})

    def __init__(self, secret: str | bytes, *, name: str = "The HS256 secret") -> None:
        """Take ``secret`` (text counts as its UTF-8 bytes); ConfigurationError, which says ``name``, when the
        secret is weak.
        """
        problem = weakness(secret)
        if problem is not None:
            raise ConfigurationError([f"{name} is too weak: {problem}. {MEND}"])
        data = secret.encode() if isinstance(secret, str) else secret
        self._keys = (
            VerifyingKey(
                algorithms=("HS256",),
                algorithm=HMACAlgorithm(HMACAlgorithm.SHA256),
                key=data,
                key_id=None,
                fingerprint=hmac.digest(data, _FINGERPRINT_MESSAGE, "sha256")[:FINGERPRINT_BYTES],
            ),
        )

    def find(self, algorithm: str, key_id: str | None) -> Sequence[VerifyingKey]:
        """The secret, for HS256."""
        return self._keys if algorithm == "HS256" else ()

    def holds(self, fingerprint: bytes) -> bool:
        """Whether the fingerprint is the secret's."""
        return any(key.fingerprint == fingerprint for key in self._keys)

    def withdrawals(self) -> int:
        """Always 0: a process keeps the secret that it was started with."""
        return 0

    async def look_again(self) -> None:
        """Nothing to look for."""


def public_key(document: object) -> VerifyingKey | None:
    """The key in one member of a JWK Set (RFC 7517); None when it is none that may verify tokens here.

    RSA of 2,048 to 8,192 bits, P-256 and Ed25519 are. Secret (``oct``) keys never are.
    """
    if not isinstance(document, dict) or not _is_for_verifying(document):
        return None
    try:
        names, algorithm, members = _PUBLIC_KINDS[document.get("kty"), document.get("crv")]
        # Only the public members are passed on: a private key published by mistake verifies and does no more.
        public = {name: document[name] for name in ("kty", "crv") if name in document}
        public |= {name: document[name] for name in members}
        key = algorithm.from_jwk(public)
    except (InvalidKeyError, UnsupportedAlgorithm, KeyError, TypeError, ValueError, OverflowError):
        return None
    if document.get("alg") not in (None, *names) or not _is_strong(key):
        return None
    key_id = document.get("kid")
    fingerprint = hashlib.sha256(repr((key_id, sorted(public.items()))).encode()).digest()[:FINGERPRINT_BYTES]
    return VerifyingKey(
        algorithms=names, algorithm=algorithm, key=key, key_id=key_id, fingerprint=fingerprint
    )


def _is_for_verifying(document: dict[Any, Any]) -> bool:
    if document.get("use") not in (None, "sig"):
        return False
    key_id, operations = document.get("kid"), document.get("key_ops")
    if key_id is not None and not isinstance(key_id, str):
        return False
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _is_strong(key: object) -> bool:
    if not isinstance(key, RSAPublicKey):
        return True  # the curve decides
    return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS and key.public_numbers().e < 2**32
