"""HS256 secrets: long enough for HS256, and never the key of a demo."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.development import FILE_NAME, DevelopmentKey
from auth.keys import MIN_SECRET_BYTES, SharedSecret
from realtime.errors import ConfigurationError


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(secrets.token_bytes(MIN_SECRET_BYTES), id="raw bytes"),
        pytest.param(secrets.token_hex(32), id="hexadecimal digits"),
        pytest.param(secrets.token_urlsafe(32), id="base64url"),
        pytest.param("ü" * 16, id="text of 32 bytes in UTF-8"),
    ],
)
def test_secrets_of_256_bits_are_accepted(secret: str | bytes) -> None:
    (key,) = SharedSecret(secret).find("HS256", None)
    assert key.algorithms == ("HS256",)


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "it is 0 bytes long"),
        ("secret", "it is 6 bytes long"),
        ("your-256-bit-secret", "it is 19 bytes long"),
        ("kV3v0pXq9mJ7tZ1bN5wR8yL2cF6hD4g", "it is 31 bytes long"),
        (b"\x00" * 31, "it is 31 bytes long"),
        ("ü" * 15, "it is 30 bytes long"),
    ],
)
def test_short_secrets_are_refused_with_their_length(secret: str | bytes, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SharedSecret(secret, name="HS256 secret 2 of 3")
    (sentence,) = caught.value.problems
    assert sentence.startswith("HS256 secret 2 of 3 is too weak")
    assert problem in sentence
    assert "openssl rand" in sentence
    assert len(secret) < 8 or str(secret) not in sentence


def test_a_development_key_is_refused_and_not_quoted(tmp_path: Path) -> None:
    DevelopmentKey.open(tmp_path)
    text = (tmp_path / FILE_NAME).read_text().strip()
    for secret in (text, text.encode()):
        with pytest.raises(ConfigurationError, match="is a development key") as caught:
            SharedSecret(secret)
        assert text not in str(caught.value)


def test_no_public_key_can_stand_for_a_secret_of_another_algorithm() -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    source = SharedSecret(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert source.algorithms == {"HS256"}
    assert not source.find("EdDSA", None)
