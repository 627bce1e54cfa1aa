"""The client and the server's real streams, on every transport: the same state at both ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from guardwire import Account, Change, ConnectionRefused, connect
from guardwire.link import TransportName
from guardwire.state import CHANNELS, DEFAULT_CHANNELS, ChannelName, order_channels
from guardwire.timing import Timing
from realtime.snapshot import Snapshot
from tests.client.states import alert, alerts, breach, guards, position, positions, status, whole
from tests.client.waiting import eventually, until
from tests.delivery.stream_server import StreamServer, stream_server
from tests.snapshots import AS_OF, USER

TRANSPORTS: tuple[TransportName, ...] = ("websocket", "sse", "poll")
#: Links are cut here very often, and growing delays would only make the tests long.
BRISK = Timing(poll_round_seconds=0.05, proven_seconds=0.0)


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


def entire(state: dict[str, Any]) -> dict[str, Any]:
    """``state`` with the channel that a client gets only when it names it."""
    return {"alerts": alerts(), **state}


class Book:
    """Publishes one state after another of one account."""

    def __init__(self, server: StreamServer) -> None:
        self._server = server
        self.newest = Snapshot(user_id=USER, epoch=9, revision=1, as_of=AS_OF, state=entire(whole()))
        self._server.hub.reading(USER)
        self._server.publish(self.newest)

    def turn(self, state: dict[str, Any], *, epoch: int | None = None) -> None:
        """The state is ``state`` now, in another ``epoch`` if one is given."""
        epoch = self.newest.epoch if epoch is None else epoch
        revision = self.newest.revision + 3
        base = self.newest if epoch == self.newest.epoch else None
        self.newest = Snapshot(user_id=USER, epoch=epoch, revision=revision, as_of=AS_OF, state=entire(state))
        self._server.publish(self.newest, base)

    def is_held_by(self, account: Account) -> bool:
        same_place = (account.epoch, account.revision) == (self.newest.epoch, self.newest.revision)
        return same_place and account.raw == self.newest.select(account.channels)


def following(server: StreamServer, transport: TransportName, **options: Any) -> Any:
    usual: dict[str, Any] = {"token": lambda: server.token(), "transports": [transport], "timing": BRISK}
    return connect(f"http://{server.address}", **(usual | options))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_transport_brings_the_state_and_its_changes(
    server: StreamServer, transport: TransportName
) -> None:
    book = Book(server)
    async with following(server, transport) as account:
        assert account.transport == transport
        assert book.is_held_by(account)
        assert account.fresh
        for syncs in range(8, 14):
            book.turn(whole(status=status(total_syncs=syncs)))
            await eventually(lambda: book.is_held_by(account))
        assert account.fresh


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_quiet_channel_gets_the_revisions_of_the_others(
    server: StreamServer, transport: TransportName
) -> None:
    book = Book(server)
    async with following(server, transport, channels=["guards"]) as account:
        book.turn(whole(status=status(total_syncs=8)))
        await until(account, revision=book.newest.revision)
        book.turn(whole(guards=guards(b1=breach())))
        await eventually(lambda: book.is_held_by(account))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_link_that_was_cut_is_resumed_without_a_snapshot(
    server: StreamServer, transport: TransportName
) -> None:
    book = Book(server)
    async with following(server, transport) as account:
        positions_before = account.state.positions
        cut(account)
        for syncs in (8, 9):
            book.turn(whole(status=status(total_syncs=syncs)))
        await asyncio.wait_for(account.until_fresh(), 10)
        await eventually(lambda: book.is_held_by(account))
        # A snapshot would have been decoded anew.
        assert transport == "poll" or account.state.positions is positions_before


async def test_a_client_that_missed_no_update_is_fresh_at_once(server: StreamServer) -> None:
    Book(server)
    async with following(server, "websocket") as account:
        cut(account)
        await eventually(lambda: not account.fresh)
        await eventually(lambda: account.transport is not None)
        await asyncio.wait_for(account.until_fresh(), 0.5)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_another_epoch_arrives_whole(server: StreamServer, transport: TransportName) -> None:
    book = Book(server)
    async with following(server, transport) as account:
        book.turn(whole(status=status(total_syncs=2)), epoch=17)
        await eventually(lambda: book.is_held_by(account))
        book.turn(whole(status=status(total_syncs=3)))
        await eventually(lambda: book.is_held_by(account))


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_token_is_renewed_before_it_ends(server: StreamServer, transport: TransportName) -> None:
    book, asked = Book(server), []

    def fetch() -> str:
        asked.append("asked")
        return server.token(ttl_seconds=30 if len(asked) == 1 else 3600)

    async with following(server, transport, token=fetch) as account:
        await eventually(lambda: len(asked) == 2)
        book.turn(whole(status=status(total_syncs=8)))
        await eventually(lambda: book.is_held_by(account))
        await asyncio.wait_for(account.until_fresh(), 5)
    assert len(asked) == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_that_is_no_token_is_refused(server: StreamServer, transport: TransportName) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        async with following(server, transport, token="no.token.at-all"):
            pass
    assert refused.value.status == 401


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_channels_come_and_go(server: StreamServer, transport: TransportName) -> None:
    book = Book(server)
    async with following(server, transport, channels=["status"]) as account:
        await asyncio.wait_for(account.subscribe("guards"), 5)
        assert book.is_held_by(account)
        await asyncio.wait_for(account.unsubscribe("status"), 5)
        assert book.is_held_by(account)
        assert account.state.status is None
        book.turn(whole(guards=guards(b1=breach())))
        await eventually(lambda: book.is_held_by(account))


async def test_the_websocket_takes_over_from_a_fallback_without_a_wrong_state(server: StreamServer) -> None:
    book, timing = Book(server), msgspec.structs.replace(BRISK, first_return_seconds=0.5)
    async with following(server, "sse", transports=["websocket", "sse"], timing=timing) as account:
        assert account.transport == "websocket"
        account._connection._choice.note_failure(is_certain=True)
        cut(account)
        await eventually(lambda: account.transport == "sse")
        syncs = 8
        while account.transport != "websocket":
            book.turn(whole(status=status(total_syncs=syncs)))
            syncs += 1
            await asyncio.sleep(0.02)
        await eventually(lambda: book.is_held_by(account))
        assert account.transport == "websocket"


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_leaves_during_an_update_disturbs_no_other(
    server: StreamServer, politely: bool
) -> None:
    book = Book(server)
    async with following(server, "websocket") as account:
        leaving = await server.connect(headers=server.headers())
        await leaving.recv()
        if politely:
            leaving.protocol.send_close()
            leaving.send_data()
        else:
            leaving.transport.write_eof()
        for syncs in range(8, 40):
            book.turn(whole(status=status(total_syncs=syncs)))
            await asyncio.sleep(0)
        await eventually(lambda: book.is_held_by(account))
        leaving.transport.abort()


def cut(account: Account) -> None:
    if account._connection.link is not None:
        account._connection.link.abort()


def drawn(dice: random.Random) -> dict[str, Any]:
    """Some state: records come and go, with more and with fewer fields."""
    book = {
        f"t{ticket}": position(
            **({"stop_loss": 1.0} if dice.random() < 0.5 else {}), volume=dice.choice([1.0, 2.0])
        )
        for ticket in dice.sample(range(5), dice.randrange(5))
    }
    raised = {f"b{number}": breach() for number in dice.sample(range(4), dice.randrange(4))}
    return {
        "status": status(total_syncs=dice.randrange(9)),
        "positions": positions(**book),
        "guards": guards(**raised),
        "alerts": alerts(**{f"a{number}": alert() for number in dice.sample(range(4), dice.randrange(4))}),
    }


async def follow(account: Account, seen: dict[tuple[str, ...], Any], places: list[tuple[int, int]]) -> None:
    """Keep what the changes say, as a slow reader."""
    change: Change
    async for change in account.changes():
        for path in [path for path in seen if path[: len(change.path)] == change.path]:
            del seen[path]
        seen.update(leaves(change.path, change.new))
        places.append((account.epoch, account.revision))
        if len(places) % 7 == 0:
            await asyncio.sleep(0.003)


def leaves(path: tuple[str, ...], value: Any) -> dict[tuple[str, ...], Any]:
    if isinstance(value, dict):
        return {
            leaf: end for key, inner in value.items() for leaf, end in leaves((*path, key), inner).items()
        }
    return {} if value is None else {path: value}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seed", [1, 2])
async def test_after_any_sequence_of_events_both_ends_agree(
    server: StreamServer, transport: TransportName, seed: int
) -> None:
    dice, book = random.Random(seed), Book(server)
    # A long poll learns from REST that a server has alerts, and this one has no REST.
    channels = DEFAULT_CHANNELS if transport == "poll" else CHANNELS
    seen: dict[tuple[str, ...], Any] = {}
    places: list[tuple[int, int]] = []
    async with following(
        server, transport, token=lambda: server.token(ttl_seconds=dice.choice([30, 3600]))
    ) as account:
        reader = asyncio.create_task(follow(account, seen, places))
        for _ in range(120):
            await asyncio.sleep(dice.choice([0, 0, 0.002, 0.02]))
            match dice.randrange(12):
                case 0:
                    cut(account)
                case 1:
                    choose(account, dice.sample(channels, 2))
                case 2 if dice.random() < 0.2:
                    book.turn(drawn(dice), epoch=book.newest.epoch + 8)
                case _:
                    book.turn(drawn(dice))
        choose(account, channels)
        await eventually(lambda: book.is_held_by(account), within_seconds=30)
        await eventually(lambda: seen == leaves((), book.newest.select(channels)))
        await asyncio.wait_for(account.until_fresh(), 10)
        reader.cancel()
    assert places == sorted(places)


def choose(account: Account, channels: Sequence[ChannelName]) -> None:
    account._connection.choose(order_channels(channels))
