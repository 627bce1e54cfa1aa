"""The bytes of one moved price in an account of ten positions, against the whole state."""

from __future__ import annotations

import asyncio
from uuid import UUID

from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import MOVE, prices
from tests.benchmarks.sockets import Sockets


async def measure(ground: Ground) -> list[Figure]:
    """The frames that arrive."""
    user = ground.users[0]
    frames: asyncio.Queue[bytes] = asyncio.Queue()

    def keep(_user: UUID, payload: bytes, _now: float) -> None:
        if b'"heartbeat"' not in payload[:40]:
            frames.put_nowait(payload)

    updates: list[float] = []
    wholes: list[float] = []
    async with ground.node() as node:
        for _ in range(ground.scale.samples):
            async with Sockets(node.port) as sockets:
                sockets.on_frame = keep
                await sockets.connect([user], ground.tokens([user]))
                await ground.connection.execute(MOVE, user, 1003, next(prices))
                update = b""
                while b'"update"' not in update[:40]:
                    frame = await asyncio.wait_for(frames.get(), 10)
                    if b'"snapshot"' in frame[:40]:
                        wholes.append(float(len(frame)))
                    update = frame
                updates.append(float(len(update)))
    return [
        Figure(
            name="bytes of one moved price among ten, against the state",
            unit="bytes",
            ours=updates,
            reference=wholes,
            target=1 / 8,
        )
    ]
