"""The identity provider's keys: rotation, and endpoints that are down, slow, endless or wrong."""

from __future__ import annotations

import asyncio
import logging

import pytest

from auth.jwks import MAX_WAITING, Jwks
from auth.tokens import Verifier
from realtime.errors import AuthenticationError
from tests.auth.clock import Clock
from tests.auth.issuer import RULES, USER, Signer
from tests.auth.jwks_server import JwksServer
from tests.auth.refused import refused
from tests.waiting import until


@pytest.fixture
def verifier(jwks: Jwks) -> Verifier:
    return Verifier(keys=[jwks], rules=RULES)


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


async def test_known_keys_are_not_fetched_again(
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
    # Known tokens are accepted meanwhile and afterwards.
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


async def test_cancelling_one_caller_does_not_cancel_the_fetch_of_the_others(
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


async def test_keys_that_no_fetch_confirmed_for_a_day_are_dropped(
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


async def test_a_known_token_ends_with_its_key(
    provider: JwksServer, verifier: Verifier, signer: Signer, clock: Clock
) -> None:
    provider.publish(signer.jwk())
    token = signer.token()
    identity = await verifier.verify(token)
    await provider.stop()
    clock.leap_seconds = 86_399
    assert verifier.cached(token) is identity
    clock.leap_seconds = 86_401
    assert verifier.cached(token) is None
    with refused("unavailable", secret=token):
        await verifier.verify(token)


async def test_identities_end_when_no_fetch_confirms_their_key(
    provider: JwksServer, verifier: Verifier, signer: Signer, clock: Clock
) -> None:
    provider.publish(signer.jwk())
    identity = await verifier.verify(signer.token())
    before = verifier.withdrawals()
    clock.leap_seconds = 86_401
    assert verifier.withdrawals() == before + 1
    assert verifier.recheck(identity) == "unknown_key"


async def test_keys_that_are_confirmed_again_are_accepted_again(
    provider: JwksServer, jwks: Jwks, verifier: Verifier, signer: Signer, clock: Clock
) -> None:
    provider.publish(signer.jwk())
    token = signer.token()
    await verifier.verify(token)
    clock.leap_seconds = 86_401
    assert verifier.cached(token) is None
    assert await jwks.refresh()
    assert (await verifier.verify(token)).user_id == USER


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


async def test_a_slow_provider_delays_nobody_beyond_the_time_limit(
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
