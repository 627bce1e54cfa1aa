"""Access that ends early: on every node, within seconds, also without Redis."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from auth.identity import Identity
from auth.keys import SharedSecret
from auth.revocation import MARK_KEY, Revocations
from auth.tokens import Verifier
from queries.migrations.run import driver_url, migrate
from realtime.embedded import EmbeddedServers
from realtime.errors import ConfigurationError, UnavailableError
from tests.auth.issuer import AUDIENCE, ISSUER, RULES, SECRET, USER, secret_token
from tests.auth.refused import refused
from tests.waiting import until

WITH_REDIS_SECONDS = 5.0
WITHOUT_REDIS_SECONDS = 60.0


def identity(*, issued_at: float | None = None, token_id: str = "one", user_id: UUID = USER) -> Identity:
    now = time.time()
    return Identity(
        user_id=user_id,
        subject=str(user_id),
        issuer=ISSUER,
        audience=AUDIENCE,
        token_id=token_id,
        key_fingerprint=b"",
        issued_at=now - 60 if issued_at is None else issued_at,
        expires_at=now + 600,
    )


@asynccontextmanager
async def node(engine: AsyncEngine, redis: Redis | None, **options: Any) -> AsyncIterator[Revocations]:
    """The revocations of a node, kept up to date by `run`."""
    revocations = Revocations(engine=engine, redis=redis, **options)
    await revocations.read()
    task = asyncio.create_task(revocations.run(), name="revocations")
    try:
        yield revocations
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_revoking_a_user_covers_the_tokens_issued_until_then(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None)
    await revocations.read()
    before = identity()
    assert not revocations.is_revoked(before)
    await revocations.revoke(user_id=USER, reason="lost laptop")
    assert revocations.is_revoked(before)
    assert revocations.is_revoked(identity(token_id="another"))
    assert not revocations.is_revoked(identity(issued_at=time.time() + RULES.leeway_seconds + 1))
    assert not revocations.is_revoked(identity(user_id=uuid4()))


async def test_revoking_a_user_covers_tokens_of_an_issuer_whose_clock_is_ahead(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None)
    verifier = Verifier(keys=[SharedSecret(SECRET)], rules=RULES, is_revoked=revocations.is_revoked)
    token = secret_token(iat=int(time.time() + RULES.leeway_seconds))
    await verifier.verify(token)
    await revocations.revoke(user_id=USER)
    with refused("revoked", secret=token):
        await verifier.verify(token)


async def test_revoking_a_user_again_covers_the_tokens_issued_in_between(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None, leeway_seconds=0.0)
    await revocations.revoke(user_id=USER)
    between = identity(issued_at=time.time())
    assert not revocations.is_revoked(between)
    await revocations.revoke(user_id=USER)
    assert revocations.is_revoked(between)


async def test_a_row_that_is_read_again_counts_as_no_change(engine: AsyncEngine) -> None:
    one = Revocations(engine=engine, redis=None, full_read_seconds=0)
    before = one.changes()
    await one.revoke(user_id=USER)
    await one.revoke(token_id="one")
    known = one.changes()
    assert before < known
    await one.read()
    assert one.changes() == known
    other = Revocations(engine=engine, redis=None)
    await other.read()
    seen = other.changes()
    await one.revoke(user_id=USER)
    await other.read()
    assert other.changes() > seen


async def test_a_lock_covers_the_tokens_that_are_issued_before_it_ends(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None)
    ends_at = datetime.now(UTC) + timedelta(hours=8)
    await revocations.revoke(user_id=USER, locked_until=ends_at)
    assert revocations.is_revoked(identity())
    assert revocations.is_revoked(identity(issued_at=ends_at.timestamp() - 1))
    assert not revocations.is_revoked(identity(issued_at=ends_at.timestamp() + RULES.leeway_seconds + 1))
    assert not revocations.is_revoked(identity(issued_at=ends_at.timestamp() - 1, user_id=uuid4()))
    # A later revocation that covers less does not reduce an earlier one.
    await revocations.revoke(user_id=USER)
    assert revocations.is_revoked(identity(issued_at=ends_at.timestamp() - 1))


async def test_an_undone_revocation_covers_nothing_on_any_node_and_the_others_still_do(
    engine: AsyncEngine, redis: Redis
) -> None:
    # These nodes read by the mark in Redis alone: their interval is longer than this test.
    async with node(engine, redis, read_seconds=600) as one, node(engine, redis, read_seconds=600) as two:
        await one.revoke(user_id=USER, locked_until=datetime.now(UTC) + timedelta(hours=8))
        await one.revoke(token_id="one")
        await one.revoke(token_id="two")
        await until(lambda: two._tokens == {"one", "two"})
        assert await one.undo(user_id=USER) == 1
        assert await one.undo(token_id="one") == 1
        assert await one.undo(token_id="one") == 0
        await until(lambda: not one.is_revoked(identity()) and not two.is_revoked(identity()))
        assert one._tokens == two._tokens == {"two"}
    fresh = Revocations(engine=engine, redis=None)
    await fresh.read()
    assert not fresh.is_revoked(identity())
    assert [each.token_id for each in await fresh.list_in_force()] == ["two"]


async def test_revoking_a_token_covers_that_token_alone(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None)
    await revocations.revoke(token_id="one")
    assert revocations.is_revoked(identity(token_id="one"))
    assert not revocations.is_revoked(identity(token_id="two"))


async def test_a_known_token_is_refused_once_it_is_revoked(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None)
    verifier = Verifier(keys=[SharedSecret(SECRET)], rules=RULES, is_revoked=revocations.is_revoked)
    token, other = secret_token(jti="one"), secret_token(jti="two")
    for good in (token, other):
        await verifier.verify(good)
    await revocations.revoke(token_id="one")
    assert verifier.cached(token) is None
    with refused("revoked", secret=token):
        await verifier.verify(token)
    assert verifier.cached(other) is not None


async def test_every_node_knows_a_revocation_within_five_seconds(engine: AsyncEngine, redis: Redis) -> None:
    # These nodes read by the mark in Redis alone: their interval is longer than this test.
    async with node(engine, redis, read_seconds=600) as one, node(engine, redis, read_seconds=600) as two:
        began = time.monotonic()
        await one.revoke(user_id=USER)
        await one.revoke(token_id="one")
        await until(lambda: two.is_revoked(identity()))
        await until(lambda: two.is_revoked(identity(user_id=UUID(int=1), token_id="one")))
        assert time.monotonic() - began < WITH_REDIS_SECONDS


async def test_a_node_that_starts_knows_what_was_revoked_before(engine: AsyncEngine) -> None:
    await Revocations(engine=engine, redis=None).revoke(user_id=USER)
    fresh = Revocations(engine=engine, redis=None)
    await fresh.read()
    assert fresh.is_revoked(identity())
    assert (fresh.age_seconds or 0.0) < 5


async def test_a_row_that_commits_late_is_not_overlooked(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None)
    await revocations.read()
    insert = text(
        "INSERT INTO guardwire.revocations (token_id, expires_at)"
        " VALUES (:token_id, now() + interval '1 hour')"
    )
    async with engine.connect() as late:
        await late.execute(insert, {"token_id": "late"})
        async with engine.begin() as early:
            await early.execute(insert, {"token_id": "early"})
        await revocations.read()
        assert revocations.is_revoked(identity(token_id="early"))
        assert not revocations.is_revoked(identity(token_id="late"))
        await late.commit()
    await revocations.read()
    assert revocations.is_revoked(identity(token_id="late"))


async def test_a_database_whose_transactions_count_from_further_back_is_read_anew(
    engine: AsyncEngine,
) -> None:
    revocations = Revocations(engine=engine, redis=None)
    await revocations.revoke(token_id="before")
    revocations._horizon = 2**62  # a horizon that this cluster never had
    await Revocations(engine=engine, redis=None).revoke(token_id="after")
    await revocations.read()
    assert revocations.is_revoked(identity(token_id="before"))
    assert revocations.is_revoked(identity(token_id="after"))


async def test_an_expired_revocation_leaves_memory_and_later_the_table(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO guardwire.revocations (user_id, token_id, revoked_at, expires_at) VALUES"
                " (NULL, 'ended', now() - interval '1 hour', now() + interval '100 ms'),"
                " (NULL, 'ended a week ago', now() - interval '10 days', now() - interval '8 days'),"
                " (:user_id, NULL, now() - interval '1 hour', now() + interval '100 ms')"
            ),
            {"user_id": USER},
        )
    async with node(
        engine, None, read_seconds=0.02, poll_seconds=0.02, full_read_seconds=0.05
    ) as revocations:
        await revocations.revoke(token_id="live")
        await until(lambda: not revocations.is_revoked(identity(token_id="ended", user_id=uuid4())))
        await until(lambda: not revocations.is_revoked(identity(issued_at=0)))
        assert revocations.is_revoked(identity(token_id="live"))
        assert revocations._tokens == {"live"}
        assert revocations._users == {}
        while await count(engine) > 3:
            await revocations.read()
    assert await count(engine) == 3


async def count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(
            (await connection.execute(text("SELECT count(*) FROM guardwire.revocations"))).scalar_one()
        )


async def test_single_tokens_are_bounded_and_users_are_not(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None, capacity=2)
    await revocations.revoke(token_id="one")
    await revocations.revoke(token_id="two")
    with pytest.raises(UnavailableError, match="revoke their user instead"):
        await revocations.revoke(token_id="three")
    await revocations.revoke(user_id=USER)
    assert revocations.is_revoked(identity(token_id="three"))


async def test_a_revocation_names_either_a_user_or_a_well_formed_token(engine: AsyncEngine) -> None:
    revocations = Revocations(engine=engine, redis=None)
    wrong: list[dict[str, Any]] = [{}, {"user_id": USER, "token_id": "one"}]
    wrong += [{"token_id": token_id} for token_id in ("", "a" * 257, "a\x00b", "\ud800", "é")]
    for arguments in wrong:
        with pytest.raises(ConfigurationError):
            await revocations.revoke(**arguments)
    assert await count(engine) == 0


async def test_a_reason_is_kept_short_and_printable(engine: AsyncEngine) -> None:
    await Revocations(engine=engine, redis=None).revoke(
        user_id=USER, reason="a\x00\nb'; DROP TABLE x" + "y" * 600
    )
    async with engine.connect() as connection:
        reason = (await connection.execute(text("SELECT reason FROM guardwire.revocations"))).scalar_one()
    assert reason.startswith("ab'; DROP TABLE xy")
    assert len(reason) == 500


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ("(NULL, NULL, now() + interval '1 h')", "a_revocation_names_a_user_or_a_token"),
        ("(gen_random_uuid(), 'one', now() + interval '1 h')", "a_revocation_names_a_user_or_a_token"),
        ("(NULL, 'one', now() - interval '1 h')", "a_revocation_ends_after_it_begins"),
        ("(NULL, repeat('a', 257), now() + interval '1 h')", "a_token_id_is_1_to_256_characters"),
    ],
)
async def test_the_table_takes_no_row_that_means_nothing(
    engine: AsyncEngine, values: str, constraint: str
) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        async with engine.begin() as connection:
            await connection.execute(
                text(f"INSERT INTO guardwire.revocations (user_id, token_id, expires_at) VALUES {values}")
            )


async def test_a_read_of_new_rows_costs_the_new_rows_and_not_the_table(engine: AsyncEngine) -> None:
    from auth.revoked_rows import _READ

    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO guardwire.revocations (token_id, expires_at, transaction_id)"
                " SELECT 'token ' || n, now() + interval '1 hour', n::text::xid8"
                " FROM generate_series(1, 50000) AS n"
            )
        )
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE guardwire.revocations"))
        plan = (await connection.execute(text(f"EXPLAIN {_READ.text}"), {"since": "49990"})).scalars().all()
    assert any("revocations_by_transaction" in line for line in plan)
    assert not any("Seq Scan" in line for line in plan)


async def test_without_redis_a_revocation_takes_seconds_longer(engine: AsyncEngine) -> None:
    async with node(engine, None) as one, node(engine, None) as two:
        began = time.monotonic()
        await one.revoke(user_id=USER)
        await until(lambda: two.is_revoked(identity()), seconds=WITHOUT_REDIS_SECONDS)
        assert time.monotonic() - began < WITH_REDIS_SECONDS  # the promise is longer


@pytest.fixture
def own_redis(servers: EmbeddedServers) -> Iterator[EmbeddedServers]:
    """A Redis of this test's own, which it may stop."""
    with EmbeddedServers.start(database_url=servers.database_url) as own:
        yield own


async def test_a_redis_that_hangs_or_is_gone_only_delays_a_revocation(
    engine: AsyncEngine, own_redis: EmbeddedServers, caplog: pytest.LogCaptureFixture
) -> None:
    assert own_redis.redis is not None
    pid = own_redis.redis.pid
    assert pid is not None
    # This client has no timeouts, so only the limits of `Revocations` are at work.
    client = Redis.from_url(own_redis.redis_url)
    async with node(engine, client) as one, node(engine, client) as two:
        await client.ping()
        os.kill(pid, signal.SIGSTOP)
        try:
            await one.revoke(user_id=USER)
            await until(lambda: two.is_revoked(identity()), seconds=WITHOUT_REDIS_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)
        own_redis.redis.end()
        await one.revoke(token_id="one")
        await until(
            lambda: two.is_revoked(identity(user_id=uuid4(), token_id="one")), seconds=WITHOUT_REDIS_SECONDS
        )
        assert "Redis did not accept a revocation" in caplog.text
    await client.aclose()


async def test_a_flushed_or_wrong_redis_neither_hides_nor_makes_a_revocation(
    engine: AsyncEngine, redis: Redis
) -> None:
    async with node(engine, redis, read_seconds=0.2, poll_seconds=0.01) as one, node(engine, redis) as two:
        await one.revoke(user_id=USER)
        await redis.flushdb()
        for poison in (b"\xff" * 1000, str(USER), '{"user_id": "*"}', "0"):
            await redis.set(MARK_KEY, poison)
            await asyncio.wait_for(two.read(), 5)
        await redis.delete(MARK_KEY)
        await redis.lpush(MARK_KEY, "a list, which GET refuses")
        await one.revoke(token_id="one")
        await until(lambda: two.is_revoked(identity(user_id=uuid4(), token_id="one")))
        assert two._users.keys() == {USER}
        assert two._tokens == {"one"}


async def test_a_cancelled_node_ends_at_every_point_where_it_waits(engine: AsyncEngine, redis: Redis) -> None:
    # Python 3.11 can lose a cancellation that arrives while redis-py sends; some attempts hit that moment.
    revocations = Revocations(engine=engine, redis=redis, poll_seconds=0.0)
    await revocations.read()
    for attempt in range(100):
        task = asyncio.create_task(revocations.run(), name="revocations")
        await asyncio.sleep(0.003 + attempt * 0.00002)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        assert done, f"attempt {attempt} did not end"


async def test_without_the_database_revocations_raise_and_the_known_ones_stay(engine: AsyncEngine) -> None:
    nowhere = create_async_engine("postgresql+asyncpg://guardwire@127.0.0.1:1/guardwire")
    revocations = Revocations(engine=nowhere, redis=None)
    for call in (revocations.read(), revocations.revoke(user_id=USER, reason="a secret reason")):
        with pytest.raises(UnavailableError) as caught:
            await call
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__
    await nowhere.dispose()


async def test_a_node_outlives_an_outage_of_the_database(
    own_postgres: EmbeddedServers, caplog: pytest.LogCaptureFixture
) -> None:
    assert own_postgres.postgres is not None
    await migrate(own_postgres.database_url)
    engine = create_async_engine(driver_url(own_postgres.database_url), pool_pre_ping=True)
    async with node(engine, None, read_seconds=0.05, poll_seconds=0.05) as revocations:
        await revocations.revoke(user_id=USER)
        async with engine.begin() as connection:
            await connection.execute(text("CHECKPOINT"))  # a throw-away server ends without one
        with caplog.at_level(logging.WARNING, "auth.revocation"):
            own_postgres.postgres.end()
            await until(lambda: "cannot be read" in caplog.text)
            await until(lambda: (revocations.age_seconds or 0) > 0.5)
        assert revocations.is_revoked(identity())
        assert caplog.text.count("cannot be read") == 1
        own_postgres.postgres.start()
        other = Revocations(engine=engine, redis=None)
        await other.revoke(token_id="one")
        await until(lambda: revocations.is_revoked(identity(user_id=uuid4(), token_id="one")))
    await engine.dispose()


@pytest.fixture
def own_postgres(servers: EmbeddedServers) -> Iterator[EmbeddedServers]:
    """A PostgreSQL of this test's own, which it may stop."""
    with EmbeddedServers.start(redis_url=servers.redis_url) as own:
        yield own
