"""How a bot comes through gaps, lost nodes, silence, restored databases and a machine that slept."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guardwire import Account, StaleState, connect
from guardwire.errors import ClientError
from guardwire.timing import Timing
from tests.client.peer import Peer, Visit
from tests.client.states import guards, status
from tests.client.waiting import eventually, until

ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def following(peer: Peer, **options: Any) -> AsyncIterator[tuple[Account, Visit]]:
    """An account with channel ``status`` at revision 100."""

    async def answer() -> Visit:
        visit = await peer.visit()
        await visit.begin(100, {"status": status()})
        return visit

    answered = asyncio.get_running_loop().create_task(answer())
    async with connect(peer.url, token=lambda: "t", channels=["status"], **options) as account:
        yield account, await answered


async def syncs(account: Account) -> int:
    assert account.state.status is not None
    return account.state.status.total_syncs


async def test_a_killed_node_is_stale_at_once_and_resumed_on_another(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        statuses = account.statuses()
        assert await anext(statuses) == "connected"
        visit.cut()
        assert await asyncio.wait_for(anext(statuses), 5) == "stale"
        assert not account.fresh
        again = await asyncio.wait_for(peer.visit(), 5)
        assert again.path == "/ws?channels=status&since=8:100"
        await again.welcome(resumed=True)
        await again.update(100, 105, {"status": {"total_syncs": 8}})
        assert await asyncio.wait_for(anext(statuses), 5) == "connected"
        assert (account.revision, await syncs(account)) == (105, 8)


async def test_a_welcome_alone_does_not_make_the_state_fresh(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        visit.cut()
        again = await asyncio.wait_for(peer.visit(), 5)
        await again.welcome(resumed=True)
        await asyncio.sleep(0.1)
        assert not account.fresh
        await again.heartbeat(100, 100)
        await asyncio.wait_for(account.until_fresh(), 5)


async def test_a_server_that_cannot_resume_sends_a_snapshot_and_readers_see_the_difference(
    peer: Peer,
) -> None:
    async with following(peer) as (account, visit):
        changes = account.changes("status", "total_syncs")
        assert (await anext(changes)).new == 7
        visit.cut()
        again = await asyncio.wait_for(peer.visit(), 5)
        await again.begin(170, {"status": status(total_syncs=9)})
        change = await asyncio.wait_for(anext(changes), 5)
        assert (change.old, change.new, change.revision) == (7, 9, 170)


async def test_after_a_missed_frame_nothing_is_applied_before_a_snapshot(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        await visit.update(104, 105, {"status": {"total_syncs": 99}})
        assert await asyncio.wait_for(visit.heard(), 5) == {"type": "resync"}
        assert (account.revision, await syncs(account)) == (100, 7)
        assert account.status == "stale"
        with pytest.raises(StaleState, match="may have moved on"):
            account.require_fresh()
        await visit.update(105, 106, {"status": {"total_syncs": 100}})
        await visit.heartbeat(106, 106)
        await visit.snapshot(106, {"status": status(total_syncs=100)})
        await until(account, revision=106)
        assert await syncs(account) == 100
        assert account.fresh


async def test_a_snapshot_that_does_not_come_is_requested_again_but_not_in_a_loop(peer: Peer) -> None:
    async with following(peer, timing=Timing(snapshot_seconds=0.8)) as (account, visit):
        began = time.monotonic()
        await visit.update(104, 105, {})
        assert await visit.heard() == {"type": "resync"}
        # Older than what is held: of no use, and no reason to ask faster.
        await visit.snapshot(90, {"status": status()})
        assert await asyncio.wait_for(visit.heard(), 5) == {"type": "resync"}
        assert time.monotonic() - began >= 0.8
        assert account.revision == 100
        assert not account.fresh


async def test_another_epoch_replaces_everything_though_its_revision_is_lower(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        visit.cut()
        again = await asyncio.wait_for(peer.visit(), 5)
        await again.begin(40, {"status": status(total_syncs=3)}, epoch=16)
        await until(account, revision=40)
        assert (account.epoch, await syncs(account)) == (16, 3)
        assert account.fresh


async def test_an_older_snapshot_of_the_same_epoch_is_ignored(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        await visit.snapshot(99, {"status": status(total_syncs=6)})
        assert await asyncio.wait_for(visit.heard(), 5) == {"type": "resync"}
        assert (account.revision, await syncs(account)) == (100, 7)
        assert not account.fresh


async def test_an_update_that_cannot_be_read_is_not_applied_in_part(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        await visit.update(100, 101, {"status": {"total_syncs": 8, "source": 5}})
        assert await asyncio.wait_for(visit.heard(), 5) == {"type": "resync"}
        assert (account.revision, await syncs(account)) == (100, 7)
        assert not account.fresh
        await visit.snapshot(102, {"status": status(source=5)})
        with pytest.raises(ClientError, match="cannot read"):
            async for _ in account.changes():
                pass
        assert not account.fresh


async def test_text_that_is_no_frame_ends_the_link_and_not_the_client(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        await visit.connection.send("{not json")
        again = await asyncio.wait_for(peer.visit(), 5)
        assert again.path.endswith("since=8:100")
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await until(account, revision=101)


async def test_a_silent_link_is_replaced(peer: Peer) -> None:
    peer.heartbeat_seconds = 0.1
    async with following(peer, timing=Timing(silence_seconds=1.0)) as (account, visit):
        # The connection is open and brings no frame, as behind a router that forgot it.
        again = await asyncio.wait_for(peer.visit(), 6)
        assert not account.fresh
        await again.welcome(resumed=True)
        await again.heartbeat(100, 100)
        await asyncio.wait_for(account.until_fresh(), 5)
        await asyncio.wait_for(visit.left(), 5)


async def test_silence_is_measured_by_the_heartbeats_that_the_server_promised(peer: Peer) -> None:
    peer.heartbeat_seconds = 0.6
    began = time.monotonic()
    async with following(peer, timing=Timing(silence_seconds=0.5)) as (account, _):
        await eventually(lambda: time.monotonic() - began > 0.8)
        # Silent for longer than 0.5 s, and for less than three heartbeats.
        assert account.status == "connected"
        again = await asyncio.wait_for(peer.visit(), 6)
        assert time.monotonic() - began >= 1.8
        assert not account.fresh
        await again.welcome(resumed=True)
        await again.heartbeat(100, 100)
        await asyncio.wait_for(account.until_fresh(), 5)


async def test_a_link_without_a_first_frame_is_given_up(peer: Peer) -> None:
    timing = Timing(first_frame_seconds=0.5)
    with pytest.raises(TimeoutError, match="no first frame in time"):
        async with connect(
            peer.url, token="t", open_timeout_seconds=2, transports=["websocket"], timing=timing
        ):
            pass


async def test_channels_chosen_while_disconnected_come_with_a_snapshot(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        visit.cut()
        await eventually(lambda: account.transport is None)
        adding = asyncio.ensure_future(account.subscribe("guards"))
        again = await asyncio.wait_for(peer.visit(), 5)
        if "guards" in again.path:
            assert again.path == "/ws?channels=status,guards"
            await again.begin(110, {"status": status(), "guards": guards()})
        else:  # the next link was being opened already, and gets a frame
            await again.welcome(resumed=True)
            assert await again.heard() == {"type": "subscribe", "channels": ["guards"]}
            await again.update(100, 100, {"guards": guards()})
        await asyncio.wait_for(adding, 5)
        assert account.state.guards is not None


async def test_clients_reconnect_to_a_restarted_server(peer: Peer) -> None:
    async with following(peer) as (account, visit):
        port = int(peer.url.split(":")[2].split("/")[0])
        visit.cut()
        elsewhere = Peer()
        async with peer_down(peer):
            await asyncio.sleep(0.3)
            assert not account.fresh
        async with elsewhere.listening(port):
            again = await asyncio.wait_for(elsewhere.visit(), 10)
            await again.welcome(resumed=True)
            await again.heartbeat(100, 101)
            await until(account, revision=101)


@asynccontextmanager
async def peer_down(peer: Peer) -> AsyncIterator[None]:
    assert peer.server is not None
    peer.server.close(close_connections=True)
    await peer.server.wait_closed()
    yield


async def test_frames_read_after_a_blocked_event_loop_do_not_count_as_new(
    peer: Peer,
) -> None:
    async with following(peer) as (account, visit):
        for step in range(30):
            await visit.heartbeat(100 + step, 101 + step)
        time.sleep(2)  # noqa: ASYNC251 - the mistake that this is about
        ages = []
        while account.revision < 130:
            await asyncio.sleep(0)
            ages.append(account.age or 0.0)
        assert min(ages) >= 1.5
        await asyncio.sleep(1.2)
        await visit.heartbeat(130, 131)
        await until(account, revision=131)
        assert account.age is not None
        assert account.age < 0.5


SLEEPER = """
import asyncio, sys
from guardwire import connect
from guardwire.timing import Timing

async def main():
    timing = Timing(silence_seconds=2.0)
    async with connect(sys.argv[1], token="t", channels=["status"], timing=timing) as account:
        print("ready", flush=True)
        async for change in account.changes("status", "total_syncs"):
            print(change.new, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_was_stopped_opens_another_link(peer: Peer) -> None:
    bot = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SLEEPER, peer.url, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert bot.stdout is not None
    try:
        visit = await asyncio.wait_for(peer.visit(), 20)
        await visit.begin(100, {"status": status()})
        assert await asyncio.wait_for(bot.stdout.readline(), 10) == b"ready\n"
        assert await asyncio.wait_for(bot.stdout.readline(), 10) == b"7\n"
        os.kill(bot.pid, signal.SIGSTOP)
        await asyncio.sleep(3.5)
        os.kill(bot.pid, signal.SIGCONT)
        woken = time.monotonic()
        again = await asyncio.wait_for(peer.visit(), 5)
        assert time.monotonic() - woken < 2
        assert again.path.endswith("since=8:100")
        await again.welcome(resumed=True)
        await again.update(100, 101, {"status": {"total_syncs": 8}})
        assert await asyncio.wait_for(bot.stdout.readline(), 5) == b"8\n"
    finally:
        bot.kill()
        await bot.wait()
