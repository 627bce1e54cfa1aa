"""An identity provider that signs any header and any claims, also false ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from auth.tokens import Rules

ISSUER = "https://issuer.example"
AUDIENCE = "guardwire"
SECRET = "kV3v0pXq9mJ7tZ1bN5wR8yL2cF6hD4gS0aQeUiOoPjKx"
USER = UUID("0b7f6f0e-7b0e-4f7e-9d0a-2f3c4d5e6f70")
RULES = Rules(issuer=ISSUER, audiences=(AUDIENCE, "dashboard"))

Sign = Callable[[bytes], bytes]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: object, claims: object, sign: Sign) -> str:
    """A token with this header and these claims, unchanged; text is used as JSON without a check."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    signed = ".".join(base64url(part.encode("utf-8", "surrogatepass")) for part in parts)
    return f"{signed}.{base64url(sign(signed.encode()))}"


def good_claims(**changes: Any) -> dict[str, Any]:
    """Claims of an honest token, changed by name; ``...`` removes one."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(USER),
        "iat": now,
        "exp": now + 300,
    } | changes
    return {name: value for name, value in claims.items() if value is not ...}


def hs256(key: bytes) -> Sign:
    return lambda data: hmac.new(key, data, hashlib.sha256).digest()


def secret_token(header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token signed with `SECRET`."""
    head = {"alg": "HS256", "typ": "JWT"} | (header or {})
    head = {name: value for name, value in head.items() if value is not ...}
    return compact(head, good_claims(**changes), hs256(SECRET.encode()))


class Signer:
    """A private key of one algorithm, and its public half as a JWK."""

    def __init__(self, algorithm: str, key_id: str | None, *, rsa_bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self._algorithm: Algorithm
        match algorithm:
            case "RS256":
                self._algorithm, self.private = RSAAlgorithm(RSAAlgorithm.SHA256), _rsa(rsa_bits)
            case "ES256":
                self._algorithm = ECAlgorithm(ECAlgorithm.SHA256)
                self.private = ec.generate_private_key(ec.SECP256R1())
            case _:
                self._algorithm, self.private = OKPAlgorithm(), ed25519.Ed25519PrivateKey.generate()

    private: Any

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key as issuers publish it, changed by name; ``...`` removes a member."""
        document = dict(self._algorithm.to_jwk(self.private.public_key(), as_dict=True))
        document |= {"use": "sig", "alg": self.algorithm, "key_ops": ["verify"]}
        if self.key_id is not None:
            document["kid"] = self.key_id
        document |= changes
        return {name: value for name, value in document.items() if value is not ...}

    def sign(self, data: bytes) -> bytes:
        return self._algorithm.sign(data, self.private)

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        head = {"alg": self.algorithm, "typ": "at+jwt"}
        if self.key_id is not None:
            head["kid"] = self.key_id
        return compact(head | (header or {}), good_claims(**changes), self.sign)


def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)
