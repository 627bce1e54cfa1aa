"""What the capture costs who writes: commits a second of four writers, with it and without."""

from __future__ import annotations

from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import Commits, settle

_WRITERS = 4
_SECONDS = 1.5


async def measure(ground: Ground) -> list[Figure]:
    """With NOTIFY on somebody listens to what is told."""
    told_channel = await ground.connection.fetchval("SELECT told_channel FROM guardwire.configuration")
    with_capture = Commits(ground.database_url, writers=_WRITERS)
    without = Commits(ground.plain_url, writers=_WRITERS)
    on: list[float] = []
    off: list[float] = []
    none: list[float] = []
    await settle(ground.connection)
    async with ground.floor(told_channel):
        for _ in range(ground.scale.samples):
            none.append(await without.per_second(ground.users, _SECONDS))
            for taken, notify in ((off, False), (on, True)):
                await ground.connection.execute("UPDATE guardwire.configuration SET notify = $1", notify)
                taken.append(await with_capture.per_second(ground.users, _SECONDS))
    deadlocks = [float(with_capture.deadlocks)]
    return [
        Figure(
            name="commits/s with the capture, NOTIFY off, 4 writers",
            unit="/s",
            ours=off,
            reference=none,
            target=0.5,
            in_the_way="each commit updates an account and a position and writes an arrival and a"
            " wake-up row, where"
            " the bare one writes a row; nothing reaches a disk here, so all of that is counted",
            more_is_better=True,
        ),
        Figure(
            name="commits/s with the capture, NOTIFY on, 4 writers",
            unit="/s",
            ours=on,
            reference=none,
            target=0.35,
            more_is_better=True,
        ),
        Figure(name="deadlocks among them", unit="", ours=deadlocks, limit=0),
    ]
