"""Keys that verify tokens, each bound to one algorithm when it is loaded.

A token's ``alg`` selects among the keys of that algorithm and never decides how a key is used. A public RSA key
can therefore never serve as an HMAC secret, and no key has the algorithm ``none``.
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

from realtime.errors import ConfigurationError

FINGERPRINT_BYTES: Final = 16
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192  # verifying costs time that grows with the square of the size
#: HS256 needs a key of at least 256 bits (RFC 7518 section 3.2).
MIN_SECRET_BYTES: Final = 32
#: The file of a development key begins with this word, so that nobody can configure it as a production secret.
DEVELOPMENT_PREFIX: Final = "guardwire-development-"
_ADVICE: Final = "Make one with: openssl rand -base64 48"

#: A secret's fingerprint is an HMAC under the secret. A plain hash could match one that another program publishes.
_FINGERPRINT_MESSAGE: Final = b"guardwire: the fingerprint of this key"
_ES256: Final = ECAlgorithm(ECAlgorithm.SHA256)
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)
_EDDSA: Final = OKPAlgorithm()
#: For a key type and curve: the names of the algorithm (RFC 9864 renames EdDSA), PyJWT's implementation of it, and
#: the public members of the JWK.
_PUBLIC_KINDS: Final[dict[tuple[object, object], tuple[tuple[str, ...], Algorithm, tuple[str, ...]]]] = {
    ("RSA", None): (("RS256",), _RS256, ("n", "e")),
    ("EC", "P-256"): (("ES256",), _ES256, ("x", "y")),
    ("OKP", "Ed25519"): (("EdDSA", "Ed25519"), _EDDSA, ("x",)),
}


class VerifyingKey:
    """One key, and the one algorithm that it may be used with."""

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
        #: 16 bytes by which every node recognises the key, and which reveal nothing about it.
        self.fingerprint = fingerprint
        self._algorithm = algorithm
        self._key = key

    def verifies(self, signed_bytes: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is a signature of ``signed_bytes`` by this key."""
        return self._algorithm.verify(signed_bytes, self._key, signature)


class KeySource(Protocol):
    """A set of keys, such as an HS256 secret or a JWKS address."""

    @property
    def algorithms(self) -> frozenset[str]:
        """Names of the algorithms that the keys of this source can have."""

    def find(self, algorithm: str, key_id: str | None) -> Sequence[VerifyingKey]:
        """The few keys in memory that may have signed a token with this header; never waits."""

    def holds(self, fingerprint: bytes) -> bool:
        """Whether the key with this fingerprint is accepted now; never waits."""

    def withdrawals(self) -> int:
        """A number that grows whenever a key is withdrawn; never waits."""

    async def fetch_again(self) -> None:
        """Look for keys that are not in memory yet; raises AuthenticationError(unavailable) on failure."""


class SharedSecret:
    """An HS256 secret that the platform's issuer and this server share; the ``kid`` of tokens is ignored."""

    algorithms = frozenset({"HS256"})

    def __init__(self, secret: str | bytes, *, name: str = "The HS256 secret") -> None:
        """Take ``secret``; text stands for its UTF-8 bytes.

        Raises ConfigurationError, with ``name`` and never with the secret, for one that must not be used. Its
        length is checked and its randomness is not, because one sample does not show how it was made.
        """
        data = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        if len(data) < MIN_SECRET_BYTES:
            problem = f"it is {len(data)} bytes long, and HS256 needs {MIN_SECRET_BYTES} random bytes"
            raise ConfigurationError([f"{name} is too weak: {problem}. {_ADVICE}"])
        if data.startswith(DEVELOPMENT_PREFIX.encode()):
            raise ConfigurationError([f"{name} is a development key. {_ADVICE}"])
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
        """Whether this is the fingerprint of the secret."""
        return any(key.fingerprint == fingerprint for key in self._keys)

    def withdrawals(self) -> int:
        """Always 0: a process keeps the secret that it was started with."""
        return 0

    async def fetch_again(self) -> None:
        """Do nothing: a secret never changes."""


def public_key(document: object) -> VerifyingKey | None:
    """The key in one member of a JWK Set (RFC 7517); None for a key that may not verify tokens here.

    RSA keys of 2,048 to 8,192 bits, P-256 and Ed25519 may. Secret (``oct``) keys never may.
    """
    if not isinstance(document, dict) or not _is_for_verifying(document):
        return None
    try:
        names, algorithm, members = _PUBLIC_KINDS[document.get("kty"), document.get("crv")]
        # Only the public members are passed on, so a private key that was published by mistake cannot sign here.
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
        return True  # the strength of the others is that of their curve
    return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS and key.public_numbers().e < 2**32
