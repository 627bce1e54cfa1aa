"""A client is refused for good, waits, or asks for a new token."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest

from guardwire import Account, ConnectionRefused, StaleState, connect
from guardwire.errors import CloseCode
from tests.client.peer import Peer, Visit, denial
from tests.client.states import status
from tests.client.waiting import eventually

TERMINAL = [1002, 1007, 1009, 4400, 4403]
#: Closes after which only another token helps.
TOKEN = [4001, 4401]
STATE = {"status": status()}


async def opened(peer: Peer) -> Visit:
    visit = await asyncio.wait_for(peer.visit(), 5)
    await visit.begin(100, STATE)
    return visit


def follow(peer: Peer, **options: Any) -> Any:
    return connect(peer.url, **{"token": "t", "channels": ["status"], **options})


@pytest.mark.parametrize("code", TERMINAL)
async def test_a_terminal_close_ends_every_reader_with_its_code(peer: Peer, code: int) -> None:
    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer) as account:
        changes, statuses = account.changes("status", "source"), account.statuses()
        await anext(changes)
        await anext(statuses)
        visit = await answered
        await visit.close(code, "because")
        with pytest.raises(ConnectionRefused, match="because") as refused:
            await asyncio.wait_for(anext(changes), 5)
        assert refused.value.status == code
        # The last status comes before the end.
        assert await anext(statuses) == "blind"
        with pytest.raises(ConnectionRefused):
            await anext(statuses)
        with pytest.raises(ConnectionRefused):
            account.require_fresh()
        assert not account.fresh
        with pytest.raises(ConnectionRefused):
            await account.until_fresh()
    assert len(peer.tokens) == 1


@pytest.mark.parametrize("code", TERMINAL)
async def test_a_terminal_close_before_the_first_state_is_raised_on_entering(peer: Peer, code: int) -> None:
    async def refuse() -> None:
        await (await peer.visit()).close(code, "no")

    refusing = asyncio.ensure_future(refuse())
    with pytest.raises(ConnectionRefused, match="no") as refused:
        async with follow(peer):
            pass
    assert refused.value.status == code
    await refusing


def test_these_terminal_codes_are_those_of_the_protocol() -> None:
    assert {code for code in TERMINAL if code >= 4000} == {code.value for code in CloseCode if code.terminal}


@pytest.mark.parametrize(
    "code", sorted({1000, 1001, 1011, *(c.value for c in CloseCode if not c.terminal)} - set(TOKEN))
)
async def test_any_other_close_is_followed_by_another_connection(peer: Peer, code: int) -> None:
    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer) as account:
        await (await answered).close(code)
        again = await asyncio.wait_for(peer.visit(), 5)
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)


async def test_a_hint_in_the_close_reason_is_waited_for(peer: Peer) -> None:
    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer):
        visit, closed = await answered, time.monotonic()
        await visit.close(1012, json.dumps({"reason": "restarting", "retry_after_ms": 1200}))
        await asyncio.wait_for(peer.visit(), 5)
        assert 1.2 <= time.monotonic() - closed < 2.5


async def test_a_hint_in_a_retry_after_header_is_waited_for(peer: Peer) -> None:
    peer.deny = denial(503, Retry_After="1")
    opening = asyncio.ensure_future(follow(peer, transports=["websocket"]).__aenter__())
    await eventually(lambda: bool(peer.tokens))
    denied = time.monotonic()
    peer.deny = lambda request: None
    await asyncio.wait_for(peer.visit(), 5)
    assert time.monotonic() - denied >= 0.95
    opening.cancel()
    await asyncio.wait([opening])


async def test_a_forbidden_handshake_is_final_and_says_why(peer: Peer) -> None:
    peer.deny = denial(403, detail="access was revoked")
    with pytest.raises(ConnectionRefused, match="HTTP 403: access was revoked") as refused:
        async with follow(peer, token=lambda: "t"):
            pass
    assert refused.value.status == 403
    assert len(peer.tokens) == 1


@pytest.mark.parametrize("status", [404, 426])
async def test_a_refused_handshake_is_reported_with_the_servers_sentence_and_is_not_final(
    peer: Peer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    peer.deny = denial(status, detail="a proxy drops Upgrade")
    with pytest.raises(TimeoutError, match=f"HTTP {status}: a proxy drops Upgrade"):
        async with follow(peer, transports=["websocket"], open_timeout_seconds=1.5):
            pass
    assert len(peer.tokens) > 1
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"HTTP {status}: a proxy drops Upgrade" in warned[0].getMessage()


async def test_a_token_that_is_refused_is_final_when_there_is_no_other(peer: Peer) -> None:
    peer.deny = denial(401, detail="the token has expired")
    with pytest.raises(ConnectionRefused, match="the token has expired") as refused:
        async with follow(peer):
            pass
    assert refused.value.status == 401
    assert len(peer.tokens) == 1


async def test_a_callback_gets_one_more_try_with_a_new_token(peer: Peer) -> None:
    peer.deny = denial(401)
    with pytest.raises(ConnectionRefused):
        async with follow(peer, token=iter("abcdef").__next__):
            pass
    assert peer.tokens == ["a", "b"]


@pytest.mark.parametrize("code", TOKEN)
async def test_the_callback_is_called_again_after_the_server_ended_its_token(peer: Peer, code: int) -> None:
    async def fetch() -> str:
        await asyncio.sleep(0)
        return f"token-{len(peer.tokens)}"

    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer, token=fetch):
        await (await answered).close(code, "the token is no longer good")
        await asyncio.wait_for(peer.visit(), 5)
    assert peer.tokens == ["token-0", "token-1"]


@pytest.mark.parametrize("code", TOKEN)
async def test_a_token_that_the_server_ended_is_final_when_there_is_no_other(peer: Peer, code: int) -> None:
    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer, token="only") as account:
        changes = account.changes("status", "source")
        await anext(changes)
        await (await answered).close(code, "the token is no longer good")
        with pytest.raises(ConnectionRefused, match="the token is no longer good"):
            await asyncio.wait_for(anext(changes), 5)


async def test_a_token_is_renewed_in_band_before_it_expires(peer: Peer) -> None:
    tokens = iter(["first", "second"])
    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer, token=lambda: next(tokens)) as account:
        visit = await answered
        await visit.say(type="auth_required", expires_at=1_700_000_000)
        assert await asyncio.wait_for(visit.heard(), 5) == {"type": "auth", "token": "second"}
        await visit.say(type="auth_ok", expires_at=1_700_003_600)
        await visit.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)
    assert peer.tokens == ["first"]


async def test_a_callback_that_fails_is_called_again_while_the_old_token_lasts(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def fetch() -> str:
        calls.append("call")
        if len(calls) == 2:
            raise OSError("secret detail of the identity provider")
        return f"token-{len(calls)}"

    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer, token=fetch) as account:
        visit = await answered
        await visit.say(type="auth_required", expires_at=1_700_000_000)
        assert await asyncio.wait_for(visit.heard(), 5) == {"type": "auth", "token": "token-3"}
        assert account.fresh
    assert "the token callback failed: OSError" in caplog.text
    assert "secret" not in caplog.text


async def test_an_error_of_the_callback_before_the_first_state_is_raised(peer: Peer) -> None:
    def fetch() -> str:
        raise LookupError("no such secret")

    with pytest.raises(LookupError, match="no such secret"):
        async with follow(peer, token=fetch):
            pass


async def test_after_an_error_of_the_callback_the_bot_is_stale_and_calls_it_again(peer: Peer) -> None:
    calls: list[str] = []

    async def fetch() -> str:
        calls.append("call")
        if len(calls) == 2:
            raise OSError("identity provider down")
        return "t"

    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer, token=fetch) as account:
        (await answered).cut()
        again = await asyncio.wait_for(peer.visit(), 10)
        with pytest.raises(StaleState):
            account.require_fresh()
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)
    assert len(calls) == 3


async def test_connect_ends_after_its_timeout_when_the_server_is_out_of_reach(unused_tcp_port: int) -> None:
    with pytest.raises(TimeoutError, match=r"no state in 1\.5 s: unreachable"):
        async with connect(f"ws://127.0.0.1:{unused_tcp_port}/ws", token="t", open_timeout_seconds=1.5):
            pass


async def test_no_log_of_any_level_holds_a_token(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = iter(["s3cr3t-one", "s3cr3t-two", "s3cr3t-three"])
    answered = asyncio.ensure_future(opened(peer))
    async with follow(peer, token=lambda: next(tokens)) as account:
        visit = await answered
        await visit.say(type="auth_required", expires_at=1_700_000_000)
        assert (await asyncio.wait_for(visit.heard(), 5))["type"] == "auth"
        visit.cut()
        again = await asyncio.wait_for(peer.visit(), 5)
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)
    ours = [record for record in caplog.records if record.name != "websockets.server"]
    assert any("connected over websocket" in record.getMessage() for record in ours)
    assert not any("s3cr3t" in record.getMessage() for record in ours)


async def test_closing_the_account_stops_every_task(peer: Peer) -> None:
    before = asyncio.all_tasks()
    answered = asyncio.ensure_future(opened(peer))
    account: Account
    async with follow(peer) as account:
        await answered
        assert account.fresh
    left = asyncio.all_tasks() - before
    assert not [task for task in left if "guardwire" in task.get_name()]
