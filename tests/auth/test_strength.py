"""Secrets that may sign tokens, and those that anybody could guess."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.keys import SharedSecret
from auth.strength import weakness
from realtime.errors import ConfigurationError

_RANDOM: dict[str, Callable[[], str | bytes]] = {
    "32 raw bytes": lambda: secrets.token_bytes(32),
    "64 hexadecimal digits": lambda: secrets.token_hex(32),
    "64 hexadecimal capitals": lambda: secrets.token_hex(32).upper(),
    "43 characters of base64url": lambda: secrets.token_urlsafe(32),
    "44 characters of base64": lambda: base64.b64encode(secrets.token_bytes(32)).decode(),
    "base32": lambda: base64.b32encode(secrets.token_bytes(40)).decode(),
    "40 printable characters": lambda: "".join(secrets.choice(string.printable[:94]) for _ in range(40)),
}


@pytest.mark.parametrize("make", _RANDOM.values(), ids=_RANDOM.keys())
def test_random_secrets_of_256_bits_are_accepted(make: Callable[[], str | bytes]) -> None:
    # A fault that hits one secret in a few hundred would show here.
    assert [weakness(make()) for _ in range(200)] == [None] * 200


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("", "0 bytes"),
        ("secret", "6 bytes"),
        ("kV3v0pXq9mJ7tZ1bN5wR8yL2cF6hD4g", "31 bytes"),
        (b"\x00" * 32, "bits"),
        ("a" * 64, "bits"),
        ("ab" * 32, "bits"),
        ("kV3v0pXq9mJ7tZ1b" * 4, "bits"),
        ("kV3v0pXq9mJ7tZ1b" * 3 + "kV3v0", "bits"),
        ("0123456789abcdef0123456789abcdef", "bits"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "128 bits"),
        ("31415926535897932384626433832795028841971693993751", "166 bits"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "few characters"),
        ("aB3aB3aB3xaB3aB3aB3yaB3aB3aB3zaB3aB3aB3waB3aB3aB3v", "few characters"),
        ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "counts up"),
        (bytes(range(64)), "counts up"),
        (bytes(range(255, 191, -1)), "counts up"),
        ("your-256-bit-secret", "19 bytes"),
        ("a-string-secret-at-least-256-bits-long", "placeholders"),
        ("ThisIsMySuperSecretKeyThatIsVeryLong12345", "placeholders"),
        ("CHANGEMECHANGEMECHANGEMECHANGEMECHANGEME1", "placeholders"),
        ("correct-horse-battery-Staple-Password-1234567890", "placeholders"),
        ("django-insecure-8f$k2!x9vq7zr3m5n1b6c4d0wplotyhg", "placeholders"),
        ("guardwire-development-kV3v0pXq9mJ7tZ1bN5wR8yL2cF6hD4gS0aQeUiOoPjKx", "placeholders"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKx8f0Wq3vZ7tYb2nM5cR9uL1eH6jD4gS0aQpTiOoPjK", "another kind"),
        ('{"kty":"RSA","n":"kV3v0pXq9mJ7tZ1bN5wR8yL2cF6hD4gS0aQeUiOoPjKx","e":"AQAB"}', "another kind"),
    ],
)
def test_weak_secrets_are_refused_with_what_is_wrong(secret: str | bytes, said: str) -> None:
    problem = weakness(secret)
    assert problem is not None
    assert said in problem
    with pytest.raises(ConfigurationError) as caught:
        SharedSecret(secret)
    assert "openssl rand" in str(caught.value)
    assert len(secret) < 8 or str(secret) not in str(caught.value)


def test_a_public_key_in_a_file_is_no_secret() -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    assert weakness(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)) is not None
