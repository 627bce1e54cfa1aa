"""One update to one socket, from the newest snapshot to the transport, against a raw transport write."""

from __future__ import annotations

from tests.benchmarks.children import child
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.sockets import Sockets

_SOCKETS = 50


async def measure(ground: Ground) -> list[Figure]:
    """Measured inside a process whose sockets end in this one."""
    users = list(ground.users[:_SOCKETS])
    async with child("pusher") as pusher, Sockets(pusher.port, wants_frame=False) as sockets:
        await sockets.connect(users, [""] * len(users))
        ours: list[float] = []
        raw: list[float] = []
        for _ in range(ground.scale.samples + 1):
            for taken in (ours, raw):
                taken.append((await pusher.usage()).counted / 1000)
    return [
        Figure(
            name="push of one update to one socket, against a raw write",
            unit="µs",
            ours=ours[1:],
            reference=raw[1:],
            target=1.5,
        )
    ]
