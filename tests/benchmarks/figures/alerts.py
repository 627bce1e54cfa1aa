"""Alerts: a raise against another change, the statements of an acknowledgement, level 1 against its time, a storm."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from tests.benchmarks.children import Child, child
from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Seen, percentile_ms
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import GRACE_OF_A_DAY, MOVE, make_accounts, prices
from tests.benchmarks.sockets import Sockets
from tests.escalation.receiver import Receiver, saying
from tests.inbox import apply_inbox

#: The accounts' equity is 9,500. The first row is 26 % below and raises an alert; the second is 16 % below, and warns.
_CRITICAL: Final = 7_000
_WARNING: Final = 8_000
_EQUITY: Final = """
INSERT INTO equity_snapshots (user_id, equity, balance, currency)
SELECT u, $2, 10000, 'USD' FROM unnest($1::uuid[]) AS u
"""
_POLICY: Final = """
INSERT INTO guardwire.escalation (user_id, webhook_after_seconds, people_after_seconds)
SELECT u, $2, 86400 FROM unnest($1::uuid[]) AS u
"""
_WEBHOOKS: Final = """
INSERT INTO guardwire.endpoints (user_id, kind, url, secrets)
SELECT u, 'webhook', $2, ARRAY[guardwire.new_secret()] FROM unnest($1::uuid[]) AS u
"""
_FORGET: Final = ("deliveries", "endpoints", "escalation")
_ALL_CHANNELS: Final = "/ws?channels=status,positions,guards,alerts"

_PAIRS: Final = 40
_PAIRS_PER_SECOND: Final = 40
_ACKNOWLEDGED: Final = 20
_ACKNOWLEDGING_SECONDS: Final = 2.0
_PUNCTUAL: Final = 24
_PUNCTUAL_EVERY_SECONDS: Final = 0.27
_WEBHOOK_AFTER_SECONDS: Final = 2
_STORM: Final = 1_000
_QUIET_SECONDS: Final = 4.0
_EVERY_SECONDS: Final = 0.02
_LONGEST_SECONDS: Final = 60.0
_RAISING: Final = (
    "beside what a warning writes, a raise writes a breach, an alert and a line of its log, durably"
)
_WAITING: Final = (
    "a thousand breaches are applied in one batch, and a row that comes meanwhile waits for its end, and for the reads"
    " and frames of a thousand clients"
)


async def measure(ground: Ground) -> list[Figure]:
    """On a node that counts its statements."""
    async with ground.node(counts_statements=True) as node:
        return [
            await _raises(ground, node),
            await _acknowledgements(ground, node),
            await _level_1(ground),
            *await _storms(ground, node),
        ]


@asynccontextmanager
async def _accounts(ground: Ground, count: int) -> AsyncIterator[list[UUID]]:
    """New accounts, whose alerts are left alone afterwards, so that they escalate during no other figure."""
    users = await make_accounts(ground.connection, count)
    await ground.connection.execute(GRACE_OF_A_DAY, users)
    await apply_inbox(ground.connection)
    try:
        yield users
    finally:
        await ground.connection.execute(
            "UPDATE guardwire.alerts SET next_at = NULL, escalate_at = NULL WHERE user_id = ANY ($1)", users
        )
        for table in _FORGET:
            await ground.connection.execute(f"DELETE FROM guardwire.{table} WHERE user_id = ANY ($1)", users)


async def _raises(ground: Ground, node: Child) -> Figure:
    """Raises and warnings in turn, each of an account of its own; the same table, path and channels."""
    raised, warned = [], []
    bytes_of: dict[int, list[int]] = {_CRITICAL: [], _WARNING: []}
    async with (
        _accounts(ground, 2 * _PAIRS * ground.scale.samples) as users,
        Sockets(node.port, path=_ALL_CHANNELS) as sockets,
    ):
        await sockets.connect(users, ground.tokens(users))
        for start in range(0, len(users), 2 * _PAIRS):
            some = users[start : start + 2 * _PAIRS]
            taken = await _rows(ground, sockets, some, bytes_of)
            raised.append(percentile_ms(taken[_CRITICAL], 50))
            warned.append(percentile_ms(taken[_WARNING], 50))
    sizes = {equity: sum(sizes) // len(sizes) for equity, sizes in bytes_of.items()}
    return Figure(
        name="raise of an alert → frame p50, against an equity row that warns",
        unit="ms",
        ours=raised,
        reference=warned,
        target=1.1,
        note=f"the frames have {sizes[_CRITICAL]:,} and {sizes[_WARNING]:,} bytes",
        in_the_way=_RAISING,
    )


async def _rows(
    ground: Ground, sockets: Sockets, users: Sequence[UUID], bytes_of: dict[int, list[int]]
) -> dict[int, list[float]]:
    """Seconds from each equity row to the account's next update, by the equity that was written."""
    written: dict[UUID, tuple[int, float]] = {}
    taken: dict[int, list[float]] = {_CRITICAL: [], _WARNING: []}

    def on_frame(user: UUID, payload: bytes, now: float) -> None:
        if b'"update"' in payload[:40] and user in written:
            equity, at = written.pop(user)
            taken[equity].append(now - at)
            bytes_of[equity].append(len(payload))

    sockets.on_frame = on_frame
    begun = time.perf_counter()
    for turn, user in enumerate(users):
        await asyncio.sleep(max(0.0, begun + turn / (2 * _PAIRS_PER_SECOND) - time.perf_counter()))
        equity = (_CRITICAL, _WARNING)[turn % 2]
        written[user] = equity, time.perf_counter()
        await ground.connection.execute(_EQUITY, [user], equity)
    async with asyncio.timeout(_LONGEST_SECONDS):
        while written:
            await asyncio.sleep(0.005)
    return taken


async def _acknowledgements(ground: Ground, node: Child) -> Figure:
    """The node's statements while alerts are acknowledged one by one, without those of as long an idle time."""
    counts = []
    async with (
        _accounts(ground, _ACKNOWLEDGED * ground.scale.samples) as users,
        Sockets(node.port, path=_ALL_CHANNELS) as sockets,
    ):
        await sockets.connect(users, ground.tokens(users, scopes=("guards:ack",)))
        await ground.connection.execute(_EQUITY, users, _CRITICAL)
        alerts = await _raised(ground, users)
        answered: asyncio.Queue[UUID] = asyncio.Queue()

        def on_frame(user: UUID, payload: bytes, _now: float) -> None:
            if b'"ack_ok"' in payload[:40]:
                answered.put_nowait(user)

        sockets.on_frame = on_frame
        for start in range(0, len(users), _ACKNOWLEDGED):
            idle = await _counted(node, asyncio.sleep(_ACKNOWLEDGING_SECONDS))
            some = users[start : start + _ACKNOWLEDGED]
            busy = await _counted(node, _acknowledge(sockets, some, alerts, answered))
            counts.append((busy - idle) / _ACKNOWLEDGED)
    return Figure(name="statements for an acknowledgement and its frames", unit="", ours=counts, limit=3)


async def _raised(ground: Ground, users: Sequence[UUID]) -> dict[UUID, UUID]:
    """The alert of each account, once all are raised."""
    async with asyncio.timeout(_LONGEST_SECONDS):
        while True:
            rows = await ground.connection.fetch(
                "SELECT user_id, alert_id FROM guardwire.alerts WHERE user_id = ANY ($1)", users
            )
            if len(rows) == len(users):
                return dict(rows)
            await asyncio.sleep(0.02)


async def _counted(node: Child, work: Any) -> int:
    before = (await node.usage()).counted
    await work
    return (await node.usage()).counted - before


async def _acknowledge(
    sockets: Sockets, users: Sequence[UUID], alerts: dict[UUID, UUID], answered: asyncio.Queue[UUID]
) -> None:
    """Acknowledge each alert when the one before is answered, spread over the time."""
    begun = time.perf_counter()
    for turn, user in enumerate(users, 1):
        ack = {"type": "ack", "alerts": {str(alerts[user]): 1}, "as": "closer-1", "action": "acting"}
        sockets.send(user, json.dumps(ack).encode())
        assert await asyncio.wait_for(answered.get(), _LONGEST_SECONDS) == user
        due = begun + turn * _ACKNOWLEDGING_SECONDS / len(users)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def _level_1(ground: Ground) -> Figure:
    """Alerts that nobody acknowledges, raised one after the other."""
    arrived: dict[str, float] = {}
    async with Receiver() as receiver, _accounts(ground, _PUNCTUAL) as users:

        async def answer(writer: asyncio.StreamWriter) -> None:
            for request in receiver.requests:
                arrived.setdefault(request.headers["webhook-id"], time.time())
            await saying(204)(writer)

        receiver.answer = answer
        await ground.connection.execute(_POLICY, users, _WEBHOOK_AFTER_SECONDS)
        await ground.connection.execute(_WEBHOOKS, users, receiver.url)
        for user in users:
            await ground.connection.execute(_EQUITY, [user], _CRITICAL)
            await asyncio.sleep(_PUNCTUAL_EVERY_SECONDS)
        alerts = await _raised(ground, users)
        async with asyncio.timeout(_LONGEST_SECONDS):
            while len(arrived) < len(users):
                await asyncio.sleep(0.02)
        due = await ground.connection.fetch(
            "SELECT concat(alert_id, '.1.1') AS id, extract(epoch FROM counted_from)::double precision AS at"
            " FROM guardwire.alerts WHERE alert_id = ANY ($1)",
            list(alerts.values()),
        )
    late = [arrived[row["id"]] - row["at"] - _WEBHOOK_AFTER_SECONDS for row in due]
    return Figure(
        name=f"level 1 of an alert, after its time, the latest of {_PUNCTUAL}",
        unit="s",
        ours=[max(late)],
        limit=1,
        note=f"the earliest came {min(late):.2f} s after its time",
        in_the_way="housekeeping of a node looks at most twice a second",
    )


async def _storms(ground: Ground, node: Child) -> list[Figure]:
    """Many accounts, each with a client and a webhook, are breached by one commit; another client follows prices."""
    seconds, worse, quiet_ms, busy_ms = [], [], [], []
    for _ in range(1 if ground.scale.samples < 9 else 3):
        async with (
            child("receiver") as receiver,
            _accounts(ground, _STORM + 1) as users,
            Sockets(node.port, path=_ALL_CHANNELS) as crowd,
            Sockets(node.port) as sockets,
        ):
            *breached, other = users
            await ground.connection.execute(_POLICY, breached, 0)
            url = f"http://127.0.0.1:{receiver.port}/"
            await ground.connection.execute(_WEBHOOKS, breached, url)
            await crowd.connect(breached, ground.tokens(breached))
            await sockets.connect([other], ground.tokens([other]))
            quiet = await _followed(ground, sockets, other, asyncio.sleep(_QUIET_SECONDS))
            begun = time.perf_counter()
            busy = await _followed(ground, sockets, other, _breach(ground, breached, receiver))
            seconds.append(time.perf_counter() - begun)
            quiet_ms.append(percentile_ms(quiet, 99))
            busy_ms.append(percentile_ms(busy, 99))
            worse.append(busy_ms[-1] - quiet_ms[-1])
    storm = f"{_STORM:,} accounts breached by one commit"
    return [
        Figure(name=f"{storm}, until the last webhook is answered", unit="s", ours=seconds, limit=10),
        Figure(
            name=f"{storm}, another client's statement → frame p99, worse by",
            unit="ms",
            ours=worse,
            limit=50,
            note=f"p99 {max(busy_ms):.0f} ms, and {min(quiet_ms):.0f} ms before; 50 changes/s of the other account",
            in_the_way=_WAITING,
        ),
    ]


async def _breach(ground: Ground, users: Sequence[UUID], receiver: Child) -> None:
    await ground.connection.execute(_EQUITY, users, _CRITICAL)
    async with asyncio.timeout(_LONGEST_SECONDS):
        while (await receiver.usage()).counted < len(users):
            await asyncio.sleep(0.02)


async def _followed(ground: Ground, sockets: Sockets, user: UUID, work: Any) -> list[float]:
    """Seconds from statement to frame of an account whose prices move until ``work`` is done."""
    seen, stop = Seen(), asyncio.Event()
    sockets.on_frame = seen.on_frame

    async def move() -> None:
        async with ground.another_connection() as connection:
            while not stop.is_set():
                price = next(prices)
                seen.written(user, price)
                await connection.execute(MOVE, user, 1001, price)
                await asyncio.sleep(_EVERY_SECONDS)

    moving = asyncio.create_task(move(), name="moving prices")
    try:
        await work
    finally:
        stop.set()
        await moving
    await seen.all_shown()
    return seen.latencies_seconds
