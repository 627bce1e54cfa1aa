"""Following on a real database: deltas are shown without a read, and every other change is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.channels import LIVE_QUERIES
from queries.delta import FORMAT, mac_of
from queries.live_query import wire_epoch
from realtime.feed.changes import Changes
from realtime.feed.following import Following
from realtime.feed.relay.messages import notice
from realtime.metrics import METRICS
from realtime.snapshot import Snapshot
from tests.feed.node import Client, FeedNode, deltas, sync

SECRET = bytes(range(32))


class Reader:
    """Passes deltas to a node at the test's command, and records change notices."""

    def __init__(self, node: FeedNode) -> None:
        self.notices: list[tuple[UUID, int]] = []
        self.following = Following(
            hub=node.hub,
            remember=node.kept.remember,
            epoch=lambda: wire_epoch(node.sweeper.epoch),
            on_notice=lambda user_id, revision: self.notices.append((user_id, revision)),
        )
        self.following.take_secret(SECRET)

    def hear(self, *deltas: str) -> None:
        """Pass a notification on."""
        payload = ";".join(deltas)
        self.following.on_notification(f"{mac_of(SECRET, payload)}#{payload}")


@contextlib.asynccontextmanager
async def paused(node: FeedNode) -> AsyncIterator[None]:
    """Assert that no account is read or swept meanwhile."""
    async with node.connections[0].driver(), node.connections[1].driver():
        yield


async def followed(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> tuple[Client, Snapshot]:
    """A client of an account with one open position, and the snapshot that it got."""
    await sync(connection, user)
    client = node.watch(user)
    return client, await client.sees()


async def test_a_delta_is_shown_as_a_read_shows_it_and_nothing_is_read(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, before = await followed(node, connection, user)
    async with paused(node):
        evaluated = METRICS.evaluated.get()
        (delta,) = await sync(connection, user, price=1960)
        reader = Reader(node)
        reader.hear(delta)
        shown = client.seen[-1]
        assert METRICS.evaluated.get() == evaluated
    (found,) = await LIVE_QUERIES.evaluate(connection, [user])
    assert (shown.epoch, shown.revision, shown.state) == (found.epoch, found.revision, found.state)
    assert reader.notices == []
    assert node.kept.steps[-1].snapshot is shown
    assert node.kept.steps[-1].base is before
    reader.hear(delta)
    assert client.seen[-1] is shown, "a delta that arrives twice is shown once"


async def test_the_appliers_own_changes_are_shown_without_a_notification(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, before = await followed(node, connection, user)
    other = uuid4()
    async with paused(node):
        reader = Reader(node)
        reader.following.on_changes(Changes(await sync(connection, user, price=1960), [(other, 7)]))
        assert client.seen[-1].revision > before.revision
    assert reader.notices == [(other, 7)]


async def test_a_delta_that_follows_another_revision_is_a_change_notice(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, before = await followed(node, connection, user)
    async with paused(node):
        (first,), (second,) = [await sync(connection, user, price=price) for price in (1960, 1961)]
        reader = Reader(node)
        reader.hear(second)
        assert client.seen[-1] is before
        revision = await connection.fetchval("SELECT revision FROM guardwire.accounts")
        assert reader.notices == [(user, revision)]
        reader.hear(first)
        reader.hear(second)
        assert client.seen[-1].revision == revision


async def test_a_relayed_message_is_followed_or_read_and_says_nothing_twice(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, _ = await followed(node, connection, user)
    async with paused(node):
        (delta,) = await sync(connection, user, price=1960)
        reader = Reader(node)
        reader.following.on_relayed(str(user), delta)
        revision = await connection.fetchval("SELECT revision FROM guardwire.accounts")
        assert client.seen[-1].revision == revision
        reader.following.on_relayed(str(user), notice(str(user), revision + 1))
    assert reader.notices == [(user, revision + 1)]


async def test_a_relayed_message_of_another_account_is_stopped_and_counted(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, before = await followed(node, connection, user)
    blocked = METRICS.cross_user_blocked.get()
    async with paused(node):
        (delta,) = await sync(connection, user, price=1960)
        reader = Reader(node)
        other = str(uuid4())
        reader.following.on_relayed(other, delta)
        reader.following.on_relayed(other, notice(str(user), before.revision + 1))
    assert client.seen[-1] is before
    assert reader.notices == []
    assert METRICS.cross_user_blocked.get() == blocked + 2


async def test_a_read_that_deltas_overtook_takes_nothing_back(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    """The read shows less than the deltas did, although no commit is lost."""
    client, first = await followed(node, connection, user)
    evaluate = LIVE_QUERIES.evaluate
    reader = Reader(node)

    class Overtaken:
        """Live queries whose answer arrives after the next delta was shown."""

        async def evaluate(self, *args: Any, **options: Any) -> Any:
            found = await evaluate(*args, **options)
            reader.hear(*await sync(connection, user, price=1960))
            return found

    async with node.connections[1].driver():
        node.feed._live_queries = Overtaken()  # type: ignore[assignment]
        node.dirty.mark(user)
        shown = await client.sees(revision_above=first.revision)
        node.feed._live_queries = LIVE_QUERIES
    await node_is_quiet(node)
    assert client.seen[-1] is shown
    assert shown.epoch == wire_epoch(await connection.fetchval("SELECT epoch FROM guardwire.epoch"))
    assert shown.epoch == first.epoch


async def test_in_another_epoch_a_delta_is_a_change_notice(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, before = await followed(node, connection, user)
    await connection.execute("UPDATE guardwire.epoch SET epoch = epoch + 1")
    async with asyncio.timeout(10):
        while wire_epoch(node.sweeper.epoch) == before.epoch:
            await asyncio.sleep(0.01)
    async with paused(node):
        reader = Reader(node)
        reader.hear(*await sync(connection, user, price=1960))
        assert client.seen[-1] is before
        assert [noticed for noticed, _ in reader.notices] == [user]
    after = await client.sees(revision_above=before.revision)
    assert after.epoch > before.epoch


@pytest.mark.parametrize(
    "delta",
    [
        "",
        "nonsense",
        "{format} {user} 1 2",
        "{format} {user} {base} 9 x 1 1 1 1",
        "9 {user} {base} 8 1 1 1 1 1",
    ],
)
async def test_a_delta_in_another_form_is_left_to_the_sweep(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID, delta: str
) -> None:
    await sync(connection, user)
    client = node.watch(user)
    before = await client.sees()
    Reader(node).hear(delta.format(format=FORMAT, user=user, base=before.revision))
    assert client.seen[-1] is before


async def node_is_quiet(node: FeedNode) -> None:
    """Wait until no account is marked, and a later sweep has found no change."""
    swept_at = node.hub.swept_at
    async with asyncio.timeout(10):
        while len(node.dirty) or node.hub.swept_at < swept_at + 0.3:
            await asyncio.sleep(0.01)


async def test_deltas_of_accounts_that_nobody_watches_here_are_skipped(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    other = uuid4()
    await sync(connection, other)
    client, _ = await followed(node, connection, user)
    async with paused(node):
        reader = Reader(node)
        for each in (user, other):
            await sync(connection, each, price=1960, is_applied=False)
        reader.hear(*await deltas(connection))
        assert client.seen[-1].state["positions"]["open"]["7"]["current_price"] == 1960
        assert reader.notices == []


async def test_a_login_that_knows_the_channels_name_cannot_forge_a_delta(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, before = await followed(node, connection, user)
    async with paused(node):
        (delta,) = await sync(connection, user, price=1960)
        reader, forged = Reader(node), METRICS.forged_notifications.get()
        good = f"{mac_of(SECRET, delta)}#{delta}"
        for notification in (
            delta,
            f"#{delta}",
            f"{mac_of(bytes(32), delta)}#{delta}",
            f"{good};{delta}",
            good.replace("1960", "1961"),
            f"ä{good}",
        ):
            reader.following.on_notification(notification)
        assert client.seen[-1] is before
        assert METRICS.forged_notifications.get() == forged + 6
        reader.following.on_notification(good)
        assert client.seen[-1].revision > before.revision


async def test_a_delta_from_the_future_is_a_change_notice(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    client, before = await followed(node, connection, user)
    async with paused(node):
        (delta,) = await sync(connection, user, price=1960)
        version, user_text, base, revision, *rest = delta.split(" ")
        ahead = int(revision) + 60_000_000
        reader = Reader(node)
        reader.hear(" ".join((version, user_text, base, str(ahead), *rest)))
        assert client.seen[-1] is before
        assert reader.notices == [(user, ahead)]


async def test_a_delta_that_is_sent_again_changes_nothing(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    """A login that listened once may send what it heard, MAC and all, whenever it likes."""
    client, _ = await followed(node, connection, user)
    async with paused(node):
        heard = [(await sync(connection, user, price=price))[0] for price in (1960, 1961, 1962)]
        reader = Reader(node)
        for delta in heard:
            reader.hear(delta)
        shown, published = client.seen[-1], len(client.seen)
        for again in (*heard, *reversed(heard)):
            reader.hear(again)
        assert client.seen[-1] is shown
        assert len(client.seen) == published
    assert shown.state["positions"]["open"]["7"]["current_price"] == 1962
