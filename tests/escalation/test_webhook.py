"""A webhook is sent to real servers, of which some are hostile."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import ssl
import time
from collections.abc import Sequence
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook, WebhookVerificationError

from realtime.escalation.outbound import OutboundRequests, retry_after
from realtime.escalation.outbox import Result
from realtime.escalation.webhook import WebhookSender
from tests.escalation.deliveries import PAYLOAD, SECRET, delivery
from tests.escalation.receiver import (
    Answer,
    Receiver,
    babbling,
    dripping,
    hanging,
    pouring,
    promising,
    saying,
    swelling,
)
from tests.machine import slowness

OTHER_SECRET = "whsec_" + base64.b64encode(os.urandom(24)).decode()


class PlayedNames:
    """A resolver with one answer for each call, the last one for all others; ``asked`` are the names."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def sender(**arguments: object) -> WebhookSender:
    """A sender that may call this machine by default."""
    return WebhookSender(OutboundRequests(**({"allow_private": True} | arguments)))  # type: ignore[arg-type]


async def test_a_receiver_can_verify_the_signature_with_the_public_library() -> None:
    async with Receiver() as receiver:
        result = await sender().send(delivery(receiver.url))
    assert result == Result("delivered", status=200)
    (request,) = receiver.requests
    assert request.line == "POST /hook?tenant=1 HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "alert-1.1.1"
    assert request.body == PAYLOAD
    assert Webhook(SECRET).verify(request.body, request.headers) == json.loads(PAYLOAD)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body.replace("critical", "warning"), request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(request.body, request.headers)


async def test_while_a_secret_rotates_receivers_with_either_can_verify() -> None:
    async with Receiver() as receiver:
        await sender().send(delivery(receiver.url, secrets=(OTHER_SECRET, SECRET)))
    (request,) = receiver.requests
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(request.body, request.headers)


async def test_each_attempt_has_the_same_id_and_a_time_of_its_own() -> None:
    async with Receiver() as receiver:
        await sender().send(delivery(receiver.url, attempts=1))
        await asyncio.sleep(1.1)
        await sender().send(delivery(receiver.url, attempts=2))
    first, second = (request.headers for request in receiver.requests)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(first["webhook-timestamp"]) < int(second["webhook-timestamp"])
    assert abs(int(second["webhook-timestamp"]) - time.time()) < 5 * slowness()
    Webhook(SECRET).verify(PAYLOAD, second)


@pytest.mark.parametrize("secrets", [(), ("whsec_",), ("whsec_x",)])
async def test_without_a_secret_that_can_sign_nothing_is_sent(secrets: tuple[str, ...]) -> None:
    async with Receiver() as receiver:
        result = await sender().send(delivery(receiver.url, secrets=secrets))
    assert result == Result("failed", reason="none of its secrets can sign")
    assert receiver.connections == 0


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (saying(204), Result("delivered", status=204)),
        (saying(299), Result("delivered", status=299)),
        (saying(410), Result("gone", status=410, reason="HTTP 410")),
        (saying(400), Result("failed", status=400, reason="HTTP 400")),
        (saying(500, "Retry-After: 7"), Result("failed", status=500, reason="HTTP 500")),
        (saying(429, "Retry-After: 7"), Result("failed", status=429, reason="HTTP 429", retry_after_seconds=7)),
        (saying(503, "Retry-After: 7"), Result("failed", status=503, reason="HTTP 503", retry_after_seconds=7)),
        (saying(503), Result("failed", status=503, reason="HTTP 503")),
        (babbling, Result("failed", reason="no usable answer (RemoteProtocolError)")),
        (swelling, Result("failed", reason="no usable answer (RemoteProtocolError)")),
    ],
)  # fmt: skip
async def test_the_answers_status_says_what_becomes_of_the_delivery(answer: Answer, result: Result) -> None:
    async with Receiver() as receiver:
        receiver.answer = answer
        assert await sender().send(delivery(receiver.url)) == result
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    async with Receiver() as elsewhere, Receiver() as receiver:
        receiver.answer = saying(status, f"Location: {elsewhere.url}")
        result = await sender().send(delivery(receiver.url))
    assert result == Result("failed", status=status, reason=f"HTTP {status}")
    assert elsewhere.connections == 0


@pytest.mark.parametrize("answer", [hanging, dripping, promising])
async def test_a_receiver_without_a_whole_head_is_left_after_the_time_limit(answer: Answer) -> None:
    async with Receiver() as receiver:
        receiver.answer = answer
        began = time.monotonic()
        result = await sender(timeout_seconds=0.5).send(delivery(receiver.url))
        took_seconds = time.monotonic() - began
    assert result == Result("failed", reason="no answer within 0.5 s")
    assert 0.5 <= took_seconds < 0.5 + 1.0 * slowness()


async def test_the_body_of_an_answer_is_not_read() -> None:
    async with Receiver() as receiver:
        receiver.answer = pouring
        began = time.monotonic()
        result = await sender().send(delivery(receiver.url))
    assert result == Result("delivered", status=200)
    assert time.monotonic() - began < 2.0 * slowness()


async def test_a_name_server_that_hangs_is_left_after_the_time_limit() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(3600)
        return ()

    result = await sender(timeout_seconds=0.2, resolve=resolve).send(delivery("https://hooks.example/"))
    assert result == Result("failed", reason="no answer within 0.2 s")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]"])
async def test_this_machine_is_not_called_however_it_is_spelled(host: str) -> None:
    async with Receiver() as receiver:
        url = receiver.url_of(host).replace("http://", "https://")
        result = await sender(allow_private=False).send(delivery(url))
    assert result == Result("failed", reason="its address may not be called")
    assert receiver.connections == 0


async def test_a_name_that_rebinds_is_never_connected() -> None:
    """The name leads to a public address when it is looked at, and to this machine ever after."""
    async with Receiver() as receiver:
        names = PlayedNames(["192.0.2.1"], ["127.0.0.1"])
        refused = sender(allow_private=False, resolve=names)
        url = f"https://rebinds.invalid:{receiver.port}/"
        for _ in range(3):
            result = await refused.send(delivery(url))
            assert result == Result("failed", reason="its address may not be called")
        assert names.asked == ["rebinds.invalid"] * 3
    assert receiver.connections == 0


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    """The system cannot resolve the name, and the second answer leads elsewhere: a second look-up would be seen."""
    async with Receiver() as checked, Receiver(host="127.0.0.2") as elsewhere:
        names = PlayedNames(["127.0.0.1"], ["127.0.0.2"])
        result = await sender(resolve=names).send(delivery(checked.url_of("hooks.invalid")))
    assert result.outcome == "delivered"
    assert names.asked == ["hooks.invalid"]
    assert checked.requests[0].headers["host"] == f"hooks.invalid:{checked.port}"
    assert elsewhere.connections == 0


async def test_of_several_addresses_those_that_may_not_be_called_are_left_out() -> None:
    async with Receiver() as receiver:
        names = PlayedNames(["169.254.169.254", "fe80::1", "127.0.0.1"])
        url = f"https://mixed.invalid:{receiver.port}/"
        assert (await sender(allow_private=False, resolve=names).send(delivery(url))).reason == (
            "its address may not be called"
        )
        assert receiver.connections == 0


async def test_an_address_that_refuses_connections_is_followed_by_the_next() -> None:
    async with Receiver() as receiver:
        names = PlayedNames(["::1", "127.0.0.3", "127.0.0.1"])
        assert (
            await sender(resolve=names).send(delivery(receiver.url_of("hooks.invalid")))
        ).outcome == "delivered"
    assert receiver.connections == 1


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as proxy, Receiver() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url_of("127.0.0.1"))
        assert (await sender().send(delivery(receiver.url))).outcome == "delivered"
    assert proxy.connections == 0


async def test_a_port_without_a_server_and_a_name_without_an_address_are_failures() -> None:
    async with Receiver() as receiver:
        pass
    assert await sender().send(delivery(receiver.url)) == Result(
        "failed", reason="no usable answer (ConnectError)"
    )
    assert await sender().send(delivery("http://nobody.invalid/")) == Result(
        "failed", reason="its name has no address"
    )


def certificate(tmp_path: Path, name: str) -> Path:
    """A self-signed certificate for ``name`` and its key, in one file; only the test trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + built.public_bytes(Encoding.PEM)
    )
    return path


async def test_tls_is_checked_against_the_name_although_the_address_is_connected_to(tmp_path: Path) -> None:
    path = certificate(tmp_path, "hooks.invalid")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(path)
    asked: list[str | None] = []
    served.sni_callback = lambda _, name, __: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(path))
    names = PlayedNames(["127.0.0.1"])
    async with Receiver(tls=served) as receiver:
        for host, tls, outcome in (
            ("hooks.invalid", trusting, "delivered"),
            ("other.invalid", trusting, "failed"),
            ("hooks.invalid", ssl.create_default_context(), "failed"),
            ("127.0.0.1", trusting, "failed"),
        ):
            result = await sender(resolve=names, tls=tls).send(delivery(receiver.url_of(host)))
            assert result.outcome == outcome, (host, result)
    assert asked[:2] == ["hooks.invalid", "other.invalid"]
    assert len(receiver.requests) == 1


def test_a_retry_after_in_any_form_is_read_and_bounded() -> None:
    now = datetime.datetime.now(datetime.UTC)
    soon = retry_after(format_datetime(now + datetime.timedelta(seconds=30), usegmt=True))
    assert soon is not None
    assert 20 < soon <= 30
    assert retry_after(format_datetime(now - datetime.timedelta(days=1), usegmt=True)) == 0
    assert [retry_after(each) for each in ("0", "120", "9" * 400)] == [0, 120, 3600]
    assert [retry_after(each) for each in (None, "", "-1", "1.5", "nan", "inf", "soon", "²", "Mon")] == [
        None
    ] * 9
