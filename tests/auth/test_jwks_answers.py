"""Answers of an identity provider that are no key set, and keys that may not verify tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from auth.jwks import MAX_CANDIDATES, MAX_KEYS, Jwks
from auth.tokens import Verifier
from tests.auth.issuer import RULES, USER, Signer, base64url
from tests.auth.jwks_server import Answer, JwksServer
from tests.auth.refused import refused


@pytest.fixture
def verifier(jwks: Jwks) -> Verifier:
    return Verifier(keys=[jwks], rules=RULES)


def lying() -> dict[str, Answer]:
    """Answers that are no key set, each under the name of its fault."""
    say = JwksServer.saying
    good = json.dumps({"keys": [Signer("ES256", "one").jwk()]}).encode()
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(good), good)
    return {
        "an error": say(good, head=b"500 Oops"),
        "not found": say(good, head=b"404 Not Found"),
        "a redirect": say(good, head=b"302 Found", headers=b"Location: http://127.0.0.1:1/\r\n"),
        "nothing": say(b""),
        "no content": say(b"", head=b"204 No Content"),
        "another protocol": say(b"", head=b"101 Switching", headers=b"Upgrade: x\r\nConnection: Upgrade\r\n"),
        "a page": say(b"<html>login</html>"),
        "a list": say(b"[]"),
        "no keys": say(b'{"keys": []}'),
        "keys that are no list": say(b'{"keys": {"kid": {}}}'),
        "keys that are no objects": say(b'{"keys": [1, null, "x", []]}'),
        "deep nesting": say(b"[" * 200_000),
        "another encoding": say(b"\xff\xfe\xfd" * 10),
        "compression": say(good, headers=b"Content-Encoding: gzip\r\n"),
        "too many bytes": say(good + b" " * 300_000),
        "too many bytes, one a chunk": say(b"1\r\n \r\n" * 60_000, headers=b"Transfer-Encoding: chunked\r\n"),
        "too many headers": say(good, headers=b"X-Filler: filler filler filler\r\n" * 2000),
        "headers for ever": _for_ever(b"HTTP/1.1 200 OK\r\n", b"X-Filler: filler\r\n"),
        "continues for ever": _for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "thousands of interim answers": _raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000 + whole),
        "a body for ever": _for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 4096),
        "two lengths": say(good, headers=b"Content-Length: 5\r\n"),
        "half an answer": say(good[:40], headers=b"Transfer-Encoding: chunked\r\n"),
        "no HTTP": _raw(b"SSH-2.0-OpenSSH_9.6\r\n" * 3),
        "silence": _raw(b""),
    }


def _raw(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


def _for_ever(first: bytes, then: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(then * 100)
            await writer.drain()
            await asyncio.sleep(0)  # drain() yields to no other task while its buffer has room

    return answer


@pytest.mark.parametrize("lie", sorted(lying()))
async def test_an_answer_that_is_no_key_set_changes_no_keys(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer, lie: str
) -> None:
    provider.publish(signer.jwk())
    await verifier.verify(signer.token())
    provider.answer = lying()[lie]
    assert not await jwks.refresh()
    assert (await verifier.verify(signer.token(jti="new"))).user_id == USER
    with refused("unavailable"):
        await verifier.verify(Signer("ES256", "two").token())


REFUSED_KEYS: dict[str, Callable[[], dict[str, Any]]] = {
    "a secret key": lambda: {"kty": "oct", "kid": "one", "k": base64url(b"k" * 32), "alg": "HS256"},
    "an RSA key of 1024 bits": lambda: Signer("RS256", "one", rsa_bits=1024).jwk(),
    "an RSA key of even exponent": lambda: Signer("RS256", "one").jwk(e="Ag"),
    "an RSA key of huge exponent": lambda: Signer("RS256", "one").jwk(e=base64url(b"\x01" * 64)),
    "a key for encryption": lambda: Signer("RS256", "one").jwk(use="enc"),
    "a key that may only sign": lambda: Signer("RS256", "one").jwk(key_ops=["sign"]),
    "a key whose operations are no list": lambda: Signer("RS256", "one").jwk(key_ops="verify"),
    "a key of another algorithm": lambda: Signer("RS256", "one").jwk(alg="RS512"),
    "a key said to be a secret": lambda: Signer("RS256", "one").jwk(alg="HS256"),
    "a key whose id is a number": lambda: Signer("RS256", "one").jwk(kid=1),
    "a point that is not on the curve": lambda: Signer("ES256", "one").jwk(x=base64url(b"\x01" * 32)),
    "another curve": lambda: Signer("ES256", "one").jwk(crv="P-384"),
    "a curve of Bitcoin": lambda: Signer("ES256", "one").jwk(crv="secp256k1"),
    "a key for agreement": lambda: Signer("EdDSA", "one").jwk(crv="X25519"),
    "half a key": lambda: Signer("EdDSA", "one").jwk(x="AAAA"),
    "no key": lambda: Signer("EdDSA", "one").jwk(x=...),
}


@pytest.mark.parametrize("what", REFUSED_KEYS)
async def test_keys_that_may_not_verify_are_left_out(provider: JwksServer, jwks: Jwks, what: str) -> None:
    provider.publish(REFUSED_KEYS[what](), Signer("EdDSA", "good").jwk())
    assert await jwks.refresh()
    for algorithm in ("HS256", "RS256", "RS512", "ES256"):
        assert not jwks.find(algorithm, "one")
    assert [key.key_id for key in jwks.find("EdDSA", None)] == ["good"]


async def test_a_private_key_published_by_mistake_verifies_and_is_not_kept(
    provider: JwksServer, jwks: Jwks, verifier: Verifier
) -> None:
    signer = Signer("ES256", "one")
    private = signer.private.private_numbers().private_value.to_bytes(32, "big")
    provider.publish(signer.jwk(d=base64url(private)))
    assert (await verifier.verify(signer.token())).user_id == USER
    (key,) = jwks.find("ES256", "one")
    assert not hasattr(key._key, "sign")


async def test_a_provider_that_publishes_thousands_of_keys_fills_no_memory(
    provider: JwksServer, jwks: Jwks
) -> None:
    base = Signer("EdDSA", None)
    provider.publish(*(base.jwk(kid=str(number), use=..., key_ops=...) for number in range(2000)))
    assert await jwks.refresh()
    assert len(jwks._keys) == MAX_KEYS


async def test_a_token_without_a_key_id_is_tried_with_a_few_keys_only(
    provider: JwksServer, jwks: Jwks
) -> None:
    provider.publish(*(Signer("EdDSA", str(number)).jwk() for number in range(MAX_CANDIDATES + 5)))
    assert await jwks.refresh()
    assert len(jwks.find("EdDSA", None)) == MAX_CANDIDATES
    assert len(jwks.find("EdDSA", str(MAX_CANDIDATES + 4))) == 1


async def test_two_keys_under_one_name_are_both_tried_and_no_third(
    provider: JwksServer, jwks: Jwks, verifier: Verifier
) -> None:
    first, second, third = (Signer("ES256", "one") for _ in range(3))
    provider.publish(first.jwk(), second.jwk(), Signer("RS256", "one").jwk())
    for signer in (first, second):
        assert (await verifier.verify(signer.token())).user_id == USER
    token = third.token()
    with refused("bad_signature", secret=token):
        await verifier.verify(token)


async def test_of_many_keys_under_one_name_only_a_few_are_tried(provider: JwksServer, jwks: Jwks) -> None:
    provider.publish(*(Signer("EdDSA", "one").jwk() for _ in range(MAX_KEYS)))
    assert await jwks.refresh()
    assert len(jwks.find("EdDSA", "one")) == MAX_CANDIDATES


async def test_one_key_under_two_names_is_found_by_both(provider: JwksServer, jwks: Jwks) -> None:
    signer = Signer("EdDSA", "old name")
    provider.publish(signer.jwk(), signer.jwk(kid="new name"))
    assert await jwks.refresh()
    assert len(jwks.find("EdDSA", "old name")) == len(jwks.find("EdDSA", "new name")) == 1
