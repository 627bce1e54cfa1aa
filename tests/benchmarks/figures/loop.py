"""The cost of Guardwire in the platform's own transactions: its loop, beside the same rows in a bare database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import percentile_ms
from tests.benchmarks.ground import Ground, flush_us, ground_on_disk
from tests.benchmarks.pgbench import LOOP, ROW, write
from tests.benchmarks.platform import settle
from tests.inbox import wait_for_empty_inbox

#: The rate of loops that so many writers get: a platform's rate, which bare rows can reach, too.
_ASKED: Final = {1: 60, 4: 120, 16: 240}
#: On a disk, because each window waits for the applier to catch up; four writers lie between these.
_ON_DISK: Final = (1, 16)
_FULL_SPEED_SECONDS: Final = 1.0
_DRAINED_SECONDS: Final = 120.0
_APPLYING: Final = (
    "a trigger copies each row before its statement is answered, and the applier uses the same cores"
)


class _Side:
    """Writers of one database; samples by the number of writers."""

    def __init__(self, name: str, ground: Ground, url: str, *, notify: bool | None = None) -> None:
        self._ground, self._url, self._notify = ground, url, notify
        self.name = name
        self.p50_ms: defaultdict[int, list[float]] = defaultdict(list)
        self.p99_ms: defaultdict[int, list[float]] = defaultdict(list)
        self.per_second: defaultdict[int, list[float]] = defaultdict(list)
        self.rows_per_second: list[float] = []

    async def measure(self, writers: int) -> None:
        """A window at the rate of a platform and one at full speed, each until all rows are applied."""
        await self._wake()
        seconds = self._ground.scale.window_seconds
        paced = await write(
            self._url,
            LOOP,
            accounts=len(self._ground.users),
            writers=writers,
            seconds=seconds,
            per_second=_ASKED[writers],
        )
        self.p50_ms[writers].append(percentile_ms(paced.seconds, 50))
        self.p99_ms[writers].append(percentile_ms(paced.seconds, 99))
        await self._drain()
        self.per_second[writers].append(await self._full_speed(LOOP, writers))

    async def measure_rows(self, writers: int) -> None:
        """A window of single rows at full speed."""
        self.rows_per_second.append(await self._full_speed(ROW, writers))

    async def _full_speed(self, script: str, writers: int) -> float:
        written = await write(
            self._url, script, accounts=len(self._ground.users), writers=writers, seconds=_FULL_SPEED_SECONDS
        )
        await self._drain()
        return written.per_second

    async def _wake(self) -> None:
        if self._notify is not None:
            await self._ground.connection.execute(
                "UPDATE guardwire.configuration SET notify = $1 WHERE notify <> $1", self._notify
            )

    async def _drain(self) -> None:
        """Waiting rows would otherwise be applied while the next side is measured."""
        if self._url == self._ground.database_url:
            await wait_for_empty_inbox(self._ground.connection, timeout_seconds=_DRAINED_SECONDS)


async def measure(ground: Ground) -> list[Figure]:
    """Without flushes to a disk, all that Guardwire costs a commit is CPU time."""
    bare, ours = _Side("", ground, ground.bare_url), _Side("", ground, ground.database_url)
    async with ground.node():
        await settle(ground.connection)
        await _alternate(ground, (bare, ours))
        for _ in range(ground.scale.samples):
            for side in (bare, ours):
                await side.measure_rows(4)
    rows = Figure(
        name="commits/s of single rows, 4 writers",
        unit="/s",
        ours=ours.rows_per_second,
        reference=bare.rows_per_second,
        more_is_better=True,
    )
    return [*_figures(bare, [ours], "no flush"), rows]


async def measure_on_disk(ground: Ground) -> list[Figure]:
    """Every commit waits for the disk. Commits that notify run one after the other, and share no flush."""
    async with ground_on_disk(ground.scale, ground.redis_url) as disk, disk.node():
        bare = _Side("", disk, disk.bare_url)
        notifying = _Side("NOTIFY", disk, disk.database_url, notify=True)
        polling = _Side("polling", disk, disk.database_url, notify=False)
        await _alternate(disk, (bare, notifying, polling), _ON_DISK)
    note = f"the disk takes {flush_us():,.0f} µs to flush 8 KB"
    return _figures(bare, [notifying, polling], "synchronous_commit on", note)


async def _alternate(ground: Ground, sides: Iterable[_Side], several: Iterable[int] = tuple(_ASKED)) -> None:
    for _ in range(ground.scale.samples):
        for writers in several:
            for side in sides:
                await side.measure(writers)


def _figures(bare: _Side, ours: Sequence[_Side], load: str, note: str = "") -> list[Figure]:
    figures = []
    for writers in bare.per_second:
        asked = _ASKED[writers]
        who = f"{writers} writer{'s' if writers > 1 else ''}"
        for side in ours:
            how = ", ".join(filter(None, (who, load, side.name)))
            figures += [
                Figure(
                    name=f"loop, BEGIN … COMMIT {percentile}, {how}, {asked} loops/s",
                    unit="ms",
                    ours=taken[writers],
                    reference=reference[writers],
                    target=target,
                    note=note,
                    in_the_way=_APPLYING,
                )
                for percentile, taken, reference, target in (
                    ("p50", side.p50_ms, bare.p50_ms, 1.5),
                    ("p99", side.p99_ms, bare.p99_ms, 2.0),
                )
            ]
            figures.append(
                Figure(
                    name=f"loops/s, {how}",
                    unit="/s",
                    ours=side.per_second[writers],
                    reference=bare.per_second[writers],
                    target=0.7,
                    more_is_better=True,
                    in_the_way=_APPLYING,
                )
            )
    return figures
