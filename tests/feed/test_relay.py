"""The relay: its names and decisions, and its publisher and subscriber on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import pytest
import redis.asyncio

from queries.delta import mac_of
from realtime.feed.changes import Changes
from realtime.feed.relay import messages, publisher, subscriber
from realtime.feed.relay.link import Address
from realtime.feed.relay.publisher import Publisher
from realtime.feed.relay.reception import DEAF_SECONDS, LISTEN_SECONDS, NOTICED_SECONDS, Reception
from realtime.feed.relay.subscriber import Subscriber
from realtime.feed.relay.subscriptions import Subscriptions
from realtime.metrics import METRICS
from tests.faults.proxy import Proxy
from tests.waiting import until

SECRET = bytes(range(32))
OTHER_SECRET = bytes(32)
ONE, TWO = UUID(int=1), UUID(int=2)


# ---------------------------------------------------------------- pure


def test_each_account_has_a_channel_in_its_slot_and_database() -> None:
    channels = messages.Channels(3)
    assert channels.of(str(ONE)) == f"guardwire:3:{{{ONE}}}:changes"
    assert channels.account_of(channels.of(str(ONE))) == str(ONE)
    assert channels.of(str(ONE)) != messages.Channels(4).of(str(ONE))


def test_texts_are_told_apart() -> None:
    assert messages.parse_notice(messages.notice(str(ONE), 7)) == (str(ONE), 7)
    assert messages.parse_notice(f"1 {ONE} 6 7 3") is None
    assert messages.parse_notice(f"{ONE}=many") is None
    assert messages.parse_canary(messages.canary(3, 11)) == (3, 11)
    for other in ("", "canary=", "canary=3", "canary=3.x", messages.notice(str(ONE), 7)):
        assert messages.parse_canary(other) is None


def test_only_the_difference_is_sent() -> None:
    wanted = Subscriptions()
    for account in ("a", "b", "c"):
        wanted.add(account)
    wanted.discard("c")
    assert wanted.take() == (["a", "b"], [])
    assert wanted.take() == ([], [])
    wanted.discard("a")
    wanted.add("a")
    assert wanted.take() == ([], [])
    wanted.discard("a")
    wanted.add("d")
    assert wanted.take() == (["d"], ["a"])


def test_a_new_connection_is_sent_all_accounts() -> None:
    wanted = Subscriptions()
    wanted.add("a")
    wanted.take()
    wanted.add("b")
    wanted.start_again()
    assert wanted.take() == (["a", "b"], [])


def test_accounts_that_come_and_go_without_redis_are_not_kept() -> None:
    wanted = Subscriptions()
    for number in range(1000):
        wanted.add(str(number))
        wanted.discard(str(number))
    assert wanted.take() == ([], [])


def test_a_node_sweeps_more_often_and_then_listens_while_it_hears_no_canary() -> None:
    reception = Reception(100.0)
    assert not reception.is_hearing(100.0)
    reception.take_canary(101.0)
    heard = [reception.is_hearing(101.0 + after) for after in (0, DEAF_SECONDS, DEAF_SECONDS + 0.1)]
    assert heard == [True, True, False]
    assert not reception.wants_listener(101.0 + LISTEN_SECONDS)
    assert reception.wants_listener(101.1 + LISTEN_SECONDS)
    reception.set_listening(105.0, hears=True)
    assert not reception.is_hearing(105.0 + NOTICED_SECONDS - 0.1)
    assert reception.is_hearing(105.0 + NOTICED_SECONDS)
    reception.take_canary(107.0)
    assert not reception.wants_listener(107.0)


def test_a_lost_connection_is_noticed_before_the_next_canary_is_due() -> None:
    reception = Reception(100.0)
    reception.take_canary(100.0)
    reception.lose_relay()
    assert not reception.is_hearing(100.1)
    assert not reception.wants_listener(100.1)
    assert reception.wants_listener(100.1 + LISTEN_SECONDS)


def test_user_password_database_and_tls_are_those_of_the_url() -> None:
    plain = Address.of("redis://node:p%40ss@example:7000/5")
    assert (plain.host, plain.port, plain.username, plain.password) == ("example", 7000, "node", "p@ss")
    assert (plain.database, plain.tls, plain.path) == (5, None, None)
    secure = Address.of("rediss://example?ssl_cert_reqs=required")
    assert secure.tls is not None
    assert secure.tls.check_hostname
    assert Address.of("unix:///run/redis.sock").path == "/run/redis.sock"


# ---------------------------------------------------------------- on Redis


class Node:
    """A subscriber, and what it was called with."""

    def __init__(self, redis_url: str, *accounts: UUID) -> None:
        self.secret = SECRET
        self.reads = 0
        self.canaries = 0
        self.lost = 0
        self.texts: list[tuple[str, str]] = []
        self.subscriptions = Subscriptions()
        for account in accounts:
            self.subscriptions.add(str(account))
        self.subscriber = Subscriber(
            redis_url=redis_url,
            subscriptions=self.subscriptions,
            on_text=lambda account, text: self.texts.append((account, text)),
            on_canary=self._count_canary,
            on_lost=self._count_lost,
            read_secret=self._read_secret,
        )

    def _count_canary(self) -> None:
        self.canaries += 1

    def _count_lost(self) -> None:
        self.lost += 1

    async def _read_secret(self) -> bytes:
        self.reads += 1
        return self.secret


@contextlib.asynccontextmanager
async def running(*parts: Publisher | Subscriber) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def publisher_of(redis_url: str, secret: bytes = SECRET) -> Publisher:
    """The publisher of a process that holds the lease."""
    made = Publisher(redis_url=redis_url, name="one", canary_seconds=0.0)
    made.take_secret(secret)
    made.begin()
    return made


async def until_heard(relay: Publisher, node: Node) -> None:
    """Publish canaries until ``node`` hears one, as it does once it is subscribed."""
    before = node.canaries
    async with asyncio.timeout(10):
        while node.canaries == before or not relay.is_up:
            relay.publish_canary(1)
            await asyncio.sleep(0.01)


def delta(account: UUID, revision: int) -> str:
    return f"1 {account} {revision - 1} {revision} 3"


async def test_a_node_hears_of_the_accounts_that_it_watches_and_of_no_other(redis_url: str) -> None:
    published = METRICS.relay_published.get()
    relay, node = publisher_of(redis_url), Node(redis_url, ONE)
    async with running(relay, node.subscriber):
        await until_heard(relay, node)
        relay.publish(Changes([delta(ONE, 5), delta(TWO, 5)], [(ONE, 6), (TWO, 6)]))
        await until(lambda: len(node.texts) >= 2)
        node.subscriptions.add(str(TWO))
        node.subscriptions.discard(str(ONE))
        async with redis.asyncio.Redis.from_url(redis_url) as other:
            channels = messages.Channels(other.connection_pool.connection_kwargs["db"])
            await until_counted(other, channels.of(str(TWO)), 1)
            await until_counted(other, channels.of(str(ONE)), 0)
        relay.publish(Changes([], [(ONE, 7), (TWO, 7)]))
        await until(lambda: len(node.texts) >= 3)
        assert METRICS.relay_published.get() == published + 6
    user = str(ONE)
    assert node.texts == [(user, delta(ONE, 5)), (user, f"{ONE}=6"), (str(TWO), f"{TWO}=7")]


async def until_counted(other: redis.asyncio.Redis, channel: str, count: int) -> None:
    async with asyncio.timeout(10):
        while (await other.pubsub_numsub(channel))[0][1] != count:
            await asyncio.sleep(0.01)


async def test_forged_and_repeated_messages_are_refused(redis_url: str) -> None:
    relay, node = publisher_of(redis_url), Node(redis_url, ONE)
    forged = METRICS.forged_notifications.get()
    async with running(relay, node.subscriber), redis.asyncio.Redis.from_url(redis_url) as other:
        await until_heard(relay, node)
        channels = messages.Channels(other.connection_pool.connection_kwargs["db"])
        heard = node.canaries
        for text in (delta(ONE, 5), f"{mac_of(OTHER_SECRET, delta(ONE, 5))}#{delta(ONE, 5)}", "", "\xff#"):
            await other.publish(channels.of(str(ONE)), text)
        # An old canary, played again, says nothing of the present relay.
        await other.publish(channels.canary, messages.message(SECRET, messages.canary(1, 1)))
        await other.publish(channels.canary, messages.message(OTHER_SECRET, messages.canary(9, 9)))
        await until(lambda: METRICS.forged_notifications.get() == forged + 5)
        assert node.canaries == heard
    assert node.texts == []
    assert node.reads <= 3, "the secret is read again once a second at most"


async def test_messages_by_a_new_secret_are_believed_once_it_is_read(redis_url: str) -> None:
    relay, node = publisher_of(redis_url), Node(redis_url, ONE)
    forged = METRICS.forged_notifications.get()
    async with running(relay, node.subscriber):
        await until_heard(relay, node)
        node.secret = OTHER_SECRET
        relay.take_secret(OTHER_SECRET)
        relay.publish(Changes([delta(ONE, 5)], [(ONE, 6)]))
        await until(lambda: len(node.texts) == 2)
    assert METRICS.forged_notifications.get() == forged


async def test_a_redis_that_takes_nothing_costs_bounded_memory_and_is_reported(redis_url: str) -> None:
    dropped = METRICS.relay_dropped.get()
    async with slow_redis(redis_url) as (url, proxy):
        relay, node = publisher_of(url), Node(redis_url, ONE)
        async with running(relay, node.subscriber):
            await until_heard(relay, node)
            proxy.go_silent("up", "down")
            changes = Changes([delta(ONE, 5) + "|" + "x" * 1000] * 1000, [])
            async with asyncio.timeout(10):
                while METRICS.relay_dropped.get() == dropped:
                    relay.publish(changes)
                    await asyncio.sleep(0)
            assert not relay.is_up
            proxy.go_silent()
            proxy.cut()
            await until_heard(relay, node)
            assert relay.is_up


async def test_a_redis_that_does_not_answer_is_noticed(redis_url: str) -> None:
    async with slow_redis(redis_url) as (url, proxy):
        relay, node = publisher_of(url), Node(redis_url)
        async with running(relay, node.subscriber):
            await until_heard(relay, node)
            proxy.go_silent("down")
            relay.publish_canary(1)
            await until(lambda: not relay.is_up)


@contextlib.asynccontextmanager
async def slow_redis(redis_url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The URL of a Redis behind a proxy."""
    parts = urlsplit(redis_url)
    async with Proxy("memory", parts.port or 6379) as proxy:
        netloc = f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"
        yield urlunsplit(parts._replace(netloc=netloc)), proxy


async def test_a_login_of_redis_that_may_not_publish_is_no_relay(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts, user = urlsplit(redis_url), f"guardwire-test-{uuid4().hex}"
    async with redis.asyncio.Redis.from_url(redis_url) as other:
        await other.acl_setuser(
            user, enabled=True, passwords=["+word"], keys=["guardwire:*"], categories=["+@all"],
            reset_channels=True,
        )  # fmt: skip
        try:
            url = urlunsplit(parts._replace(netloc=f"{user}:word@{parts.netloc.rpartition('@')[2]}"))
            relay = publisher_of(url)
            async with running(relay):
                async with asyncio.timeout(10):
                    while "NOPERM" not in caplog.text:
                        relay.publish_canary(1)
                        await asyncio.sleep(0.01)
                assert not relay.is_up
        finally:
            await other.acl_deluser(user)


async def test_connections_have_names_by_which_an_operator_knows_them(redis_url: str) -> None:
    relay, node = publisher_of(redis_url), Node(redis_url)
    async with running(relay, node.subscriber), redis.asyncio.Redis.from_url(redis_url) as other:
        await until_heard(relay, node)
        names = {client["name"] for client in await other.client_list()}
        assert {publisher.NAME, subscriber.NAME} <= names
        relay.end()
        async with asyncio.timeout(10):
            while publisher.NAME in {client["name"] for client in await other.client_list()}:
                await asyncio.sleep(0.02)
