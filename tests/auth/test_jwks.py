"""The identity provider's keys: rotation, and endpoints that are down, slow, greedy or lying."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from auth.jwks import MAX_CANDIDATES, MAX_KEYS, MAX_WAITING, Jwks
from auth.tokens import Verifier
from realtime.errors import AuthenticationError, ConfigurationError
from tests.auth.issuer import RULES, USER, Signer, base64url
from tests.auth.jwks_server import Answer, JwksServer
from tests.auth.refused import refused
from tests.auth.until import until


class Clock:
    """Monotonic seconds that pass by themselves, and leap when a test says so."""

    def __init__(self) -> None:
        self.leap_seconds = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.leap_seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jwks(provider: JwksServer, clock: Clock) -> AsyncIterator[Jwks]:
    source = Jwks(url=provider.url, cooldown_seconds=0.05, timeout_seconds=0.5, clock=clock)
    yield source
    await source.close()


@pytest.fixture
def verifier(jwks: Jwks) -> Verifier:
    return Verifier(keys=[jwks], rules=RULES)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("ES256", "one")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_tokens_of_each_algorithm_are_verified_with_published_keys(
    provider: JwksServer, verifier: Verifier, algorithm: str
) -> None:
    signer = Signer(algorithm, "one")
    provider.publish(Signer(algorithm, "another").jwk(), signer.jwk())
    assert (await verifier.verify(signer.token())).user_id == USER
    with refused("bad_signature"):
        await verifier.verify(Signer(algorithm, "one").token())


async def test_the_newer_name_of_the_edwards_algorithm_is_known(
    provider: JwksServer, verifier: Verifier
) -> None:
    signer = Signer("EdDSA", "one")
    provider.publish(signer.jwk(alg="Ed25519"))
    assert (await verifier.verify(signer.token({"alg": "Ed25519"}))).user_id == USER


async def test_the_request_is_plain_and_asks_for_the_whole_address(
    provider: JwksServer, verifier: Verifier, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    await verifier.verify(signer.token())
    head = provider.last_request.decode().split("\r\n")
    assert head[0] == "GET /keys?tenant=1 HTTP/1.1"
    assert f"Host: {provider.url.split('/')[2]}" in head
    assert not any("authorization" in line.lower() or "cookie" in line.lower() for line in head)


async def test_known_keys_are_not_asked_for_again(
    provider: JwksServer, verifier: Verifier, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    for number in range(20):
        await verifier.verify(signer.token(jti=str(number)))
    assert provider.requests == 1


async def test_a_new_key_is_found_when_its_first_token_arrives(
    provider: JwksServer, verifier: Verifier, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    await verifier.verify(signer.token())
    newer = Signer("ES256", "two")
    provider.publish(signer.jwk(), newer.jwk())
    assert (await verifier.verify(newer.token())).user_id == USER
    assert verifier.cached(signer.token()) is None
    assert provider.requests == 2


async def test_a_known_token_is_forgotten_when_its_key_is_withdrawn(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer
) -> None:
    staying = Signer("ES256", "two")
    provider.publish(signer.jwk(), staying.jwk())
    token, other = signer.token(), staying.token()
    await verifier.verify(token)
    remembered = await verifier.verify(other)
    provider.publish(staying.jwk())
    await jwks.refresh()
    assert verifier.cached(token) is None
    with refused("unknown_key", secret=token):
        await verifier.verify(token)
    assert verifier.cached(other) is remembered


async def test_a_key_replaced_under_its_name_no_longer_verifies(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    token = signer.token()
    await verifier.verify(token)
    provider.publish(Signer("ES256", "one").jwk())
    await jwks.refresh()
    with refused("bad_signature", secret=token):
        await verifier.verify(token)


async def test_a_token_without_a_key_id_may_be_of_any_key_of_its_algorithm(
    provider: JwksServer, verifier: Verifier
) -> None:
    unnamed = Signer("ES256", None)
    provider.publish(Signer("ES256", "other").jwk(), Signer("EdDSA", None).jwk(), unnamed.jwk())
    assert (await verifier.verify(unnamed.token())).user_id == USER


async def test_a_flood_of_unknown_keys_costs_one_fetch_a_cooldown(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    await verifier.verify(signer.token())
    forger = Signer("ES256", "forged")
    tokens = [forger.token(jti=str(number)) for number in range(MAX_WAITING + 20)]
    outcomes = await asyncio.gather(*map(verifier.verify, tokens), return_exceptions=True)
    reasons = [error.reason for error in outcomes if isinstance(error, AuthenticationError)]
    assert reasons.count("unknown_key") == MAX_WAITING
    assert reasons.count("unavailable") == 20
    assert provider.requests == 2
    # Those who are known are served meanwhile and afterwards.
    assert (await verifier.verify(signer.token())).user_id == USER


async def test_fetches_keep_their_distance(provider: JwksServer, signer: Signer) -> None:
    provider.publish(signer.jwk())
    jwks = Jwks(url=provider.url, cooldown_seconds=0.2)
    loop = asyncio.get_running_loop()
    assert await jwks.refresh()
    began = loop.time()
    assert await jwks.refresh()
    assert loop.time() - began >= 0.19
    await jwks.close()


async def test_one_who_gives_up_does_not_end_the_fetch_of_the_others(
    provider: JwksServer, verifier: Verifier, signer: Signer
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go_on.wait()
        await JwksServer.publishing(signer.jwk())(writer)

    provider.answer = answer
    first = asyncio.create_task(verifier.verify(signer.token()))
    second = asyncio.create_task(verifier.verify(signer.token()))
    await asked.wait()
    first.cancel()
    await asyncio.wait([first])
    go_on.set()
    assert (await second).user_id == USER
    assert provider.requests == 1


async def test_the_last_good_keys_stay_when_the_provider_is_down_for_an_hour(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer, clock: Clock
) -> None:
    provider.publish(signer.jwk())
    await verifier.verify(signer.token())
    await provider.stop()
    clock.leap_seconds = 3600
    assert not await jwks.refresh()
    assert (jwks.fetches, jwks.failures) == (2, 1)
    assert (await verifier.verify(signer.token(jti="new"))).user_id == USER
    age_seconds = jwks.age_seconds
    assert age_seconds is not None
    assert 3600 <= age_seconds < 3660


async def test_keys_that_nobody_confirmed_for_a_day_are_dropped(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer, clock: Clock
) -> None:
    provider.publish(signer.jwk())
    token = signer.token()
    await verifier.verify(token)
    await provider.stop()
    clock.leap_seconds = 86_401
    with refused("unavailable"):
        await verifier.verify(signer.token(jti="new"))
    assert verifier.cached(token) is None


async def test_an_unknown_key_is_no_bad_token_while_the_provider_is_down(
    provider: JwksServer, verifier: Verifier, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    await verifier.verify(signer.token())
    await provider.stop()
    with refused("unavailable"):
        await verifier.verify(Signer("ES256", "two").token())


async def test_a_provider_that_comes_back_is_found_again(
    provider: JwksServer, verifier: Verifier, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    await provider.stop()
    with refused("unavailable"):
        await verifier.verify(signer.token())
    await provider.start()
    assert (await verifier.verify(signer.token())).user_id == USER


def lying() -> dict[str, Answer]:
    """Answers that are no key set, by what is wrong with them."""
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
            await asyncio.sleep(0)  # drain() alone lets nobody else run while there is room

    return answer


@pytest.mark.parametrize("lie", sorted(lying()))
async def test_an_answer_that_is_no_key_set_leaves_the_last_good_keys(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer, lie: str
) -> None:
    provider.publish(signer.jwk())
    await verifier.verify(signer.token())
    provider.answer = lying()[lie]
    assert not await jwks.refresh()
    assert (await verifier.verify(signer.token(jti="new"))).user_id == USER
    with refused("unavailable"):
        await verifier.verify(Signer("ES256", "two").token())


async def test_a_slow_provider_holds_nobody_up_for_longer_than_its_time_limit(
    provider: JwksServer, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    jwks = Jwks(url=provider.url, cooldown_seconds=0.01, timeout_seconds=0.3)
    verifier = Verifier(keys=[jwks], rules=RULES)
    await verifier.verify(signer.token())

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    provider.answer = drip
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = asyncio.create_task(verifier.verify(Signer("ES256", "two").token()))
    await until(lambda: provider.requests == 2)
    assert (await verifier.verify(signer.token(jti="meanwhile"))).user_id == USER
    assert not waiting.done()
    with refused("unavailable"):
        await waiting
    assert loop.time() - began < 3
    await jwks.close()


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


async def test_one_key_under_two_names_is_found_by_both(provider: JwksServer, jwks: Jwks) -> None:
    signer = Signer("EdDSA", "old name")
    provider.publish(signer.jwk(), signer.jwk(kid="new name"))
    assert await jwks.refresh()
    assert len(jwks.find("EdDSA", "old name")) == len(jwks.find("EdDSA", "new name")) == 1


async def test_keys_are_renewed_in_the_background_and_failures_do_not_end_it(
    provider: JwksServer, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    jwks = Jwks(url=provider.url, refresh_seconds=0.02, cooldown_seconds=0.0)
    task = asyncio.create_task(jwks.run(), name="jwks")
    provider.publish(signer.jwk())
    await until(lambda: jwks.find("ES256", "one"))
    with caplog.at_level(logging.WARNING, "auth.jwks"):
        provider.answer = JwksServer.saying(b"<html>" + b"secret-of-the-page" * 3)
        before = jwks.failures
        await until(lambda: jwks.failures >= before + 2)
    provider.publish(Signer("ES256", "two").jwk())
    await until(lambda: jwks.find("ES256", "two"))
    assert "last good keys stay" in caplog.text
    assert "secret-of-the-page" not in caplog.text
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await jwks.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://issuer.example/keys", "must be https"),
        ("http://127.0.0.1.issuer.example/keys", "must be https"),
        ("http://localhost.issuer.example/keys", "must be https"),
        ("http://10.0.0.1/keys", "must be https"),
        ("ftp://issuer.example/keys", "must be an https"),
        ("file:///etc/passwd", "must be an https"),
        ("https://", "must be an https"),
        ("issuer.example/keys", "must be an https"),
        ("https://user:password@issuer.example/keys", "must not hold"),
        ("https://issuer.example:99999/keys", "not a URL"),
        ("https://issuer.example/ke ys", "printable ASCII"),
        ("https://issuer.example/keys\r\nHost:x", "printable ASCII"),
        ("https://issuer.exämple/keys", "printable ASCII"),
    ],
)
def test_addresses_that_anyone_could_answer_for_are_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Jwks(url=url)
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_this_machine_may_be_asked_without_tls(host: str) -> None:
    Jwks(url=f"http://{host}:8080/keys")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost that nobody but the test trusts, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + built.public_bytes(Encoding.PEM)
    )
    return path


async def test_keys_are_taken_over_tls_only_from_whom_is_trusted(certificate: Path, signer: Signer) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    server = JwksServer(tls=served)
    await server.start()
    server.publish(signer.jwk())
    trusting = Jwks(url=server.url, tls=ssl.create_default_context(cafile=str(certificate)))
    doubting = Jwks(url=server.url)
    mistaken = Jwks(
        url=server.url.replace("localhost", "127.0.0.1"),
        tls=ssl.create_default_context(cafile=str(certificate)),
    )
    assert await trusting.refresh()
    assert trusting.find("ES256", "one")
    assert not await doubting.refresh()
    assert not await mistaken.refresh()
    await server.stop()
