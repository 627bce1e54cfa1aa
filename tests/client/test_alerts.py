"""Alerts, acknowledgements and attendance against a scripted server."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest

from guardwire import Account, RequestRefused, connect
from guardwire.acknowledgements import ANSWER_SECONDS, Acknowledgements
from guardwire.alerts import OpenAlert
from guardwire.attendance import BeatLimit
from guardwire.clock import Instant
from guardwire.messages import Ack, AckOk, Error, Snooze, SnoozeOk
from guardwire.state import Alerts, Position
from tests.client.peer import OFFERS, Peer, Visit
from tests.client.states import alert, alerts, guards, position
from tests.client.waiting import eventually

GUARDS: Final = {"guards": guards()}


async def visit(peer: Peer) -> Visit:
    return await asyncio.wait_for(peer.visit(), 10)


async def heard(server: Visit) -> dict[str, Any]:
    return await asyncio.wait_for(server.heard(), 10)


async def begin(server: Visit, channel: dict[str, Any], revision: int = 100) -> None:
    """Welcome a client that wants alerts, as a new node does."""
    await server.welcome(offers=OFFERS)
    await server.snapshot(revision, GUARDS)
    assert await heard(server) == {"type": "subscribe", "channels": ["alerts"]}
    await server.update(revision, revision, {"alerts": channel})


@asynccontextmanager
async def following(peer: Peer, channel: dict[str, Any]) -> AsyncIterator[tuple[Account, Visit]]:
    async def serve() -> Visit:
        server = await visit(peer)
        await begin(server, channel)
        return server

    serving = asyncio.create_task(serve())
    async with connect(peer.url, token="t", channels=["guards", "alerts"]) as account:
        yield account, await serving


async def next_alert(account_alerts: AsyncIterator[OpenAlert]) -> OpenAlert:
    return await asyncio.wait_for(anext(account_alerts), 10)


async def test_alerts_are_asked_for_only_after_the_node_has_offered_them(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        assert server.path.endswith("?channels=guards")
        assert account.state.alerts is not None
        assert list(account.state.alerts.open) == ["a"]
        assert account.status == "connected"


async def test_alerts_alone_can_be_followed(peer: Peer) -> None:
    async def serve() -> Visit:
        server = await visit(peer)
        await server.welcome(offers=OFFERS)
        await server.snapshot(100, GUARDS)
        assert await heard(server) == {"type": "subscribe", "channels": ["alerts"]}
        assert await heard(server) == {"type": "unsubscribe", "channels": ["guards"]}
        await server.update(100, 100, {"alerts": alerts(), "guards": None})
        return server

    serving = asyncio.create_task(serve())
    async with connect(peer.url, token="t", channels=["alerts"]) as account:
        server = await serving
        await eventually(lambda: set(account.raw) == {"alerts"})
        assert server.path.endswith("?channels=guards")


async def test_an_older_node_is_asked_for_nothing_new_and_a_warning_says_so_once(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> Visit:
        server = await visit(peer)
        await server.begin(100, GUARDS)
        return server

    serving = asyncio.create_task(serve())
    async with connect(peer.url, token="t", channels=["guards", "alerts"]) as account:
        server = await serving
        assert account.state.alerts is None
        async with account.attend("closer-1") as beat:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(account.alerts(beat=beat)), 0.2)
        await server.update(100, 101, {"guards": {"system_status": "warning"}})
        await eventually(lambda: account.revision == 101)
        assert account.status == "connected"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.heard(), 0.2)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [sentence for sentence in said if "has no alerts" in sentence] == [
        "this server has no alerts: it is older than this client"
    ]
    assert len([sentence for sentence in said if "does not attend" in sentence]) == 1


async def test_a_reconnect_resumes_the_old_channels_and_keeps_the_alerts_until_they_come(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        server.cut()
        again = await visit(peer)
        assert again.path.endswith("?channels=guards&since=8:100")
        await again.welcome(resumed=True, offers=OFFERS)
        assert await heard(again) == {"type": "subscribe", "channels": ["alerts"]}
        await again.heartbeat(100, 100)
        await again.update(100, 101, {"guards": {"system_status": "warning"}})
        await eventually(lambda: account.revision == 101)
        assert account.state.alerts is not None
        assert list(account.state.alerts.open) == ["a"]
        assert not account.fresh
        # Alerts that were over meanwhile are gone, because the channel comes as a whole.
        await again.update(101, 102, {"alerts": alerts(b=alert())})
        await eventually(lambda: account.revision == 102)
        assert list(account.state.alerts.open) == ["b"]
        assert account.fresh


async def test_an_older_node_after_a_newer_one_leaves_no_alerts_in_the_state(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        server.cut()
        again = await visit(peer)
        await again.welcome(resumed=True)
        await again.heartbeat(100, 100)
        await eventually(lambda: account.state.alerts is None)
        assert account.status == "connected"


async def test_acting_acknowledges_on_entry_and_on_a_clean_exit(peer: Peer) -> None:
    async with following(peer, alerts(a=alert(generation=3))) as (account, server):
        async with account.attend("closer-1"):
            assert await heard(server) == {"type": "attend", "as": "closer-1", "lease_seconds": 15.0}
            found = await next_alert(account.alerts())
            assert (found.id, found.kind, found.generation) == ("a", "drawdown", 3)
            async with found.acting():
                acting = {"type": "ack", "alerts": {"a": 3}, "as": "closer-1", "action": "acting"}
                assert await heard(server) == acting
            assert await heard(server) == {**acting, "action": "done"}
            await server.say(type="ack_ok", alerts={"a": 3}, revision=101)
            await server.say(type="ack_ok", alerts={"a": 3}, revision=102)
        left = await heard(server)
        assert left == {"type": "leave", "as": "closer-1", "reason": "the bot ended"}


async def test_an_exception_acknowledges_nothing_more_and_is_logged(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        found = await next_alert(account.alerts())

        async def act() -> None:
            async with found.acting():
                assert (await heard(server))["action"] == "acting"
                await server.say(type="ack_ok", alerts={"a": 1}, revision=101)
                raise RuntimeError("the broker said no")

        with pytest.raises(RuntimeError, match="the broker said no"):
            await act()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.heard(), 0.3)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "RuntimeError" in record.getMessage()
    assert "the broker said no" not in record.getMessage()


async def test_acting_waits_for_no_answer_and_for_no_link(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        found = await next_alert(account.alerts())
        server.cut()
        await eventually(lambda: account.status != "connected")
        started = time.monotonic()
        async with found.acting():
            pass
        assert time.monotonic() - started < 0.3
        again = await visit(peer)
        await begin(again, alerts(a=alert()), 140)
        frame = await heard(again)
        assert (frame["type"], frame["alerts"], frame["action"]) == ("ack", {"a": 1}, "done")
        await again.say(type="ack_ok", alerts={"a": 1}, revision=141)


async def test_an_unanswered_acknowledgement_is_sent_again_after_the_reconnect(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        found = await next_alert(account.alerts())
        acknowledging = asyncio.create_task(account.acknowledge(found, "received"))
        first = await heard(server)
        server.cut()
        again = await visit(peer)
        await begin(again, alerts(a=alert()), 140)
        assert await heard(again) == first
        assert not acknowledging.done()
        await again.say(type="ack_ok", alerts={"a": 1}, revision=141)
        await asyncio.wait_for(acknowledging, 5)


async def test_an_acknowledgement_that_the_state_has_is_not_sent_again(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        found = await next_alert(account.alerts())
        acknowledging = asyncio.create_task(account.acknowledge(found, "received"))
        await heard(server)
        server.cut()
        again = await visit(peer)
        shown = alert(acknowledged_by="unnamed bot", action="received")
        await again.welcome(offers=OFFERS)
        await again.snapshot(140, {**GUARDS, "alerts": alerts(a=shown)})
        await asyncio.wait_for(acknowledging, 5)


@pytest.mark.parametrize("code", ["unknown_alert", "stale_generation", "not_allowed"])
async def test_a_refused_acknowledgement_raises_with_its_code(
    peer: Peer, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        acknowledging = asyncio.create_task(account.acknowledge(await next_alert(account.alerts())))
        await heard(server)
        await server.say(type="error", code=code, message="no", retry=False, alert="a")
        with pytest.raises(RequestRefused, match=f"{code}: no") as refused:
            await asyncio.wait_for(acknowledging, 5)
        assert refused.value.reason == code
    assert any(code in record.getMessage() for record in caplog.records)


async def test_a_snooze_is_sent_and_awaited(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        found = await next_alert(account.alerts())
        with pytest.raises(ValueError, match="3600"):
            await account.snooze(found, seconds=3601, reason="by hand")
        snoozing = asyncio.create_task(account.snooze(found, seconds=600, reason="by hand"))
        assert await heard(server) == {
            "type": "snooze", "alert": "a", "generation": 1, "seconds": 600,
            "as": "unnamed bot", "reason": "by hand",
        }  # fmt: skip
        await server.say(type="snooze_ok", alert="a", generation=1, revision=101)
        await asyncio.wait_for(snoozing, 5)


async def test_an_alert_that_a_busy_bot_did_not_see_escalate_comes_again(peer: Peer) -> None:
    async with following(peer, alerts(a=alert())) as (account, server):
        iterator = account.alerts()
        found = await next_alert(iterator)
        async with found.acting():
            await heard(server)
            await server.say(type="ack_ok", alerts={"a": 1}, revision=101)
            shown = {"acknowledged_by": "unnamed bot", "action": "acting"}
            await server.update(100, 101, {"alerts": {"open": {"a": shown}}})
            over = {"acknowledged_by": None, "action": None, "level": 1}
            await server.update(101, 102, {"alerts": {"open": {"a": over}}})
            await eventually(lambda: account.revision == 102)
        again = await next_alert(iterator)
        assert (again.id, again.level) == ("a", 1)


async def test_beats_are_sent_by_the_bots_own_calls_alone_and_no_more_than_three_in_a_lease(
    peer: Peer,
) -> None:
    async with following(peer, alerts()) as (account, server), account.attend("c", lease_seconds=5) as beat:
        assert (await heard(server))["type"] == "attend"
        # The bot's loop hangs while its socket answers.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.heard(), 2.5)
        came_at = []
        until = time.monotonic() + 4
        while time.monotonic() < until:
            beat()
            try:
                frame = await asyncio.wait_for(server.heard(), 0.01)
            except TimeoutError:
                continue
            assert frame["type"] == "attend"
            came_at.append(time.monotonic())
    assert 2 <= len(came_at) <= 3
    assert all(later - earlier > 1.6 for earlier, later in itertools.pairwise(came_at))


async def test_a_bot_that_waits_for_an_alert_attends_meanwhile(peer: Peer) -> None:
    async with following(peer, alerts()) as (account, server), account.attend("c", lease_seconds=5) as beat:
        waiting = asyncio.create_task(next_alert(account.alerts(beat=beat)))
        for _ in range(3):
            assert (await heard(server))["type"] == "attend"
        await server.update(100, 101, {"alerts": {"open": {"a": alert()}}})
        assert (await waiting).id == "a"


async def test_a_bot_attends_again_at_once_after_a_reconnect(peer: Peer) -> None:
    async with following(peer, alerts()) as (account, server), account.attend("c", lease_seconds=60) as beat:
        waiting = asyncio.create_task(next_alert(account.alerts(beat=beat)))
        assert (await heard(server))["type"] == "attend"
        server.cut()
        again = await visit(peer)
        await again.welcome(offers=OFFERS)
        await again.snapshot(140, GUARDS)
        frames = [await heard(again), await heard(again)]
        assert {frame["type"] for frame in frames} == {"subscribe", "attend"}
        waiting.cancel()


@pytest.mark.parametrize(("name", "lease_seconds"), [("", 15), ("x" * 65, 15), ("c", 4), ("c", 61)])
async def test_a_name_or_lease_that_no_server_takes_is_refused_at_once(
    peer: Peer, name: str, lease_seconds: float
) -> None:
    async with following(peer, alerts()) as (account, _):
        with pytest.raises(ValueError, match="Expected"):
            async with account.attend(name, lease_seconds=lease_seconds):
                pass


async def test_a_bot_that_ends_with_an_exception_says_of_which_type(peer: Peer) -> None:
    async with following(peer, alerts()) as (account, server):

        async def work() -> None:
            async with account.attend("c"):
                await heard(server)
                raise RuntimeError("secret")

        with pytest.raises(RuntimeError):
            await work()
        assert (await heard(server))["reason"] == "the bot ended with RuntimeError"


def at(seconds: float) -> Instant:
    return Instant(seconds, seconds)


def ack(action: Any = "acting", generation: int = 1) -> Ack:
    return Ack(alerts={"a": generation}, by="c", action=action)


def test_an_answer_to_an_earlier_acknowledgement_does_not_confirm_a_later_one() -> None:
    pending = Acknowledgements()
    acting = pending.put(ack())
    acting.note_sent(at(0))
    done = pending.put(ack("done"))
    assert acting.is_over
    done.note_sent(at(1))
    pending.receive(AckOk(alerts={"a": 1}, revision=5), at(1))
    assert pending.due(at(100)) == [done]
    pending.receive(AckOk(alerts={"a": 1}, revision=6), at(1))
    assert pending.due(at(100)) == []
    assert done.is_over


def test_an_answer_to_an_earlier_acknowledgement_does_not_confirm_one_that_was_not_sent() -> None:
    pending = Acknowledgements()
    pending.put(ack()).note_sent(at(0))
    done = pending.put(ack("done"))
    pending.receive(AckOk(alerts={"a": 1}, revision=5), at(1))
    assert pending.due(at(1)) == [done]


def test_what_is_not_answered_is_due_again_and_what_is_refused_for_now_after_the_hint() -> None:
    pending = Acknowledgements()
    request = pending.put(ack())
    assert pending.due(at(0)) == [request]
    request.note_sent(at(0))
    assert pending.due(at(ANSWER_SECONDS - 0.1)) == []
    assert pending.due(at(ANSWER_SECONDS)) == [request]
    request.note_sent(at(6))
    hint = Error(code="unavailable", message="", retry=True, retry_after_ms=3000, alert="a")
    pending.receive(hint, at(6))
    pending.receive(hint, at(6))
    assert pending.due(at(8.9)) == []
    assert pending.due(at(9)) == [request]
    pending.note_link_ended()
    assert pending.due(at(6)) == [request]


def test_the_state_settles_what_it_shows_or_what_is_over() -> None:
    def shown(**fields: Any) -> Alerts:
        return msgspec.convert(alerts(a=alert(**fields)), Alerts)

    for settled, state in (
        (True, shown(acknowledged_by="c", action="acting")),
        (True, shown(acknowledged_by="c", action="done")),
        (True, shown(generation=2)),
        (True, msgspec.convert(alerts(), Alerts)),
        (False, shown()),
        (False, shown(acknowledged_by="c", action="received")),
        (False, shown(acknowledged_by="ana", action="acting")),
    ):
        pending = Acknowledgements()
        pending.put(ack())
        pending.settle(state)
        assert pending.are_pending is not settled


def test_a_snooze_is_over_with_its_answer_alone() -> None:
    pending = Acknowledgements()
    request = pending.put(Snooze(alert="a", generation=1, seconds=60, by="c", reason="by hand"))
    request.note_sent(at(0))
    pending.settle(msgspec.convert(alerts(a=alert(snoozed_until="2026-01-05T10:00:00.000000Z")), Alerts))
    assert pending.are_pending
    pending.receive(SnoozeOk(alert="a", generation=1, revision=7), at(1))
    assert request.is_over


def test_a_beat_is_sent_once_in_a_third_of_the_lease_and_at_once_over_a_new_link() -> None:
    limit, link = BeatLimit(15), object()
    sent = [second for second in range(16) if limit.take(link, at(second))]
    assert sent == [0, 5, 10, 15]
    assert limit.take(object(), at(15.1))


@pytest.mark.parametrize(
    ("fields", "concerned"),
    [
        ({"kind": "drawdown"}, True),
        ({"kind": "something new"}, True),
        ({"kind": "unattended"}, False),
        ({"kind": "delivery"}, False),
        ({"kind": "market", "symbol": "eurusd"}, True),
        ({"kind": "market", "symbol": "*"}, True),
        ({"kind": "market", "symbol": "XAUUSD"}, False),
    ],
)
def test_an_alert_concerns_the_positions_that_it_speaks_of(fields: dict[str, Any], concerned: bool) -> None:
    found = OpenAlert(id="a", desk=None, **alert(**fields))  # type: ignore[arg-type]
    assert found.concerns(msgspec.convert(position(symbol="EURUSD"), Position)) is concerned
    decorated = msgspec.convert(position(symbol="EURUSD.r", instrument="EURUSD"), Position)
    assert found.concerns(decorated) is concerned
