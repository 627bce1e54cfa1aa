"""Following on a real database: what commits tell is shown without a read, and everything else is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.channels import LIVE_QUERIES
from queries.live_query import wire_epoch
from queries.told import told_code
from realtime.feed.following import Following
from realtime.metrics import METRICS
from realtime.store.snapshot import Snapshot
from tests.feed.node import Client, FeedNode, sync
from tests.queries.ears import Ears


@pytest.fixture
async def ears(migrated_url: str) -> AsyncIterator[Ears]:
    connection = await asyncpg.connect(migrated_url)
    yield await Ears.open(connection)
    await connection.close()


class Reader:
    """Feeds a node with what is told, when the test wants it to."""

    def __init__(self, node: FeedNode) -> None:
        self.hints: list[tuple[UUID, int]] = []
        self.following = Following(
            hub=node.hub,
            writer=node.kept,
            epoch=lambda: wire_epoch(node.sweeper.epoch),
            on_hint=lambda user_id, revision: self.hints.append((user_id, revision)),
        )

    def hear(self, payload: str, secret: bytes) -> None:
        """A notification arrives, in a database whose secret is ``secret``."""
        self.following.on_told(payload, secret)


@contextlib.asynccontextmanager
async def paused(node: FeedNode) -> AsyncIterator[None]:
    """Nothing is read and nothing swept meanwhile."""
    async with node.connections[0].driver(), node.connections[1].driver():
        yield


async def followed(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID
) -> tuple[Client, Snapshot]:
    """A client of an account with one open position, and what it has been shown; nothing is left to hear."""
    await sync(connection, user)
    client = node.watch(user)
    shown = await client.sees()
    await ears.all(connection)
    return client, shown


async def told(ears: Ears, connection: asyncpg.Connection[Any]) -> list[str]:
    return [heard.payload for heard in await ears.all(connection) if heard.told]


async def test_what_a_commit_tells_is_shown_as_a_read_shows_it_and_nothing_is_read(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID
) -> None:
    client, before = await followed(node, connection, ears, user)
    async with paused(node):
        evaluated = METRICS.evaluated.get()
        await sync(connection, user, price=1960)
        reader = Reader(node)
        (payload,) = await told(ears, connection)
        reader.hear(payload, ears.secret)
        shown = client.seen[-1]
        assert METRICS.evaluated.get() == evaluated
    (found,) = await LIVE_QUERIES.evaluate(connection, [user])
    assert (shown.epoch, shown.revision, shown.state) == (found.epoch, found.revision, found.state)
    assert reader.hints == []
    assert node.kept.steps[-1].snapshot is shown
    assert node.kept.steps[-1].base is before
    # Heard twice, it is nothing new.
    reader.hear(payload, ears.secret)
    assert client.seen[-1] is shown


async def test_what_follows_on_something_else_is_a_hint(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID
) -> None:
    client, before = await followed(node, connection, ears, user)
    async with paused(node):
        for price in (1960, 1961):
            await sync(connection, user, price=price)
        first, second = await told(ears, connection)
        reader = Reader(node)
        reader.hear(second, ears.secret)
        assert client.seen[-1] is before
        revision = await connection.fetchval("SELECT revision FROM guardwire.accounts")
        assert reader.hints == [(user, revision)]
        reader.hear(first, ears.secret)
        reader.hear(second, ears.secret)
        assert client.seen[-1].revision == revision


async def test_a_read_that_told_steps_overtook_takes_nothing_back(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID, migrated_url: str
) -> None:
    """It sees less than is shown by then, which is not to say that anything is gone."""
    client, first = await followed(node, connection, ears, user)
    evaluate = LIVE_QUERIES.evaluate
    reader = Reader(node)

    class Overtaken:
        """Live queries whose answer comes when the next commit has been told already."""

        async def evaluate(self, *args: Any, **options: Any) -> Any:
            found = await evaluate(*args, **options)
            await sync(connection, user, price=1960)
            for payload in await told(ears, connection):
                reader.hear(payload, ears.secret)
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


async def test_in_another_epoch_what_is_told_is_read(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID
) -> None:
    client, before = await followed(node, connection, ears, user)
    await connection.execute("UPDATE guardwire.epoch SET epoch = epoch + 1")
    async with asyncio.timeout(10):
        while wire_epoch(node.sweeper.epoch) == before.epoch:
            await asyncio.sleep(0.01)
    async with paused(node):
        await sync(connection, user, price=1960)
        reader = Reader(node)
        for payload in await told(ears, connection):
            reader.hear(payload, ears.secret)
        assert client.seen[-1] is before
        assert [hinted for hinted, _ in reader.hints] == [user]
    after = await client.sees(revision_above=before.revision)
    assert after.epoch > before.epoch


@pytest.mark.parametrize(
    "payload", ["", "nonsense", "{user} 1 2", "{user} {base} 9007199254740991 x 1 1 1 1"]
)
async def test_what_cannot_be_understood_is_left_to_the_sweep(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID, payload: str
) -> None:
    await sync(connection, user)
    client = node.watch(user)
    before = await client.sees()
    item = payload.format(user=user, base=before.revision)
    secret = bytes(32)
    Reader(node).hear(f"{item}#{told_code(secret, item)}", secret)
    assert client.seen[-1] is before


async def node_is_quiet(node: FeedNode) -> None:
    """Wait until nothing is marked, and a sweep after that has found nothing."""
    swept_at = node.hub.swept_at
    async with asyncio.timeout(10):
        while len(node.dirty) or node.hub.swept_at < swept_at + 0.3:
            await asyncio.sleep(0.01)


async def test_what_is_told_of_accounts_that_nobody_watches_here_is_passed_over(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID
) -> None:
    other = uuid4()
    await sync(connection, other)
    client, _ = await followed(node, connection, ears, user)
    async with paused(node):
        reader = Reader(node)
        for each in (user, other):
            await sync(connection, each, price=1960)
        reader.hear(";".join(await told(ears, connection)), ears.secret)
        assert client.seen[-1].state["positions"]["open"]["7"]["current_price"] == 1960
        assert reader.hints == []


async def told_step(node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID) -> str:
    """The item of one more sync, without its code."""
    await sync(connection, user, price=1960)
    (payload,) = await told(ears, connection)
    return payload.rpartition("#")[0]


async def test_a_login_that_knows_the_channels_name_cannot_speak_there(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID
) -> None:
    client, before = await followed(node, connection, ears, user)
    async with paused(node):
        item = await told_step(node, connection, ears, user)
        reader, forged = Reader(node), METRICS.forged_tellings.get()
        for payload in (item, f"{item}#{told_code(bytes(32), item)}", f"{item.replace(' ', '  ', 1)}#0"):
            reader.hear(payload, ears.secret)
        assert client.seen[-1] is before
        assert METRICS.forged_tellings.get() == forged + 3
        reader.hear(f"{item}#{told_code(ears.secret, item)}", ears.secret)
        assert client.seen[-1].revision > before.revision


async def test_a_step_from_the_future_is_a_hint(
    node: FeedNode, connection: asyncpg.Connection[Any], ears: Ears, user: UUID
) -> None:
    client, before = await followed(node, connection, ears, user)
    async with paused(node):
        user_text, base, revision, *rest = (await told_step(node, connection, ears, user)).split(" ")
        ahead = int(revision) + 60_000_000
        item = " ".join((user_text, base, str(ahead), *rest))
        reader = Reader(node)
        reader.hear(f"{item}#{told_code(ears.secret, item)}", ears.secret)
        assert client.seen[-1] is before
        assert reader.hints == [(user, ahead)]
