"""An authenticated snapshot over HTTP, against a bare function on stock uvicorn with as many bytes."""

from __future__ import annotations

import asyncio

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground

_CONNECTIONS = 8
_REQUESTS = 250


_SENDING = (
    "a quarter of it is the kernel's; of the rest most goes into reading the request, knowing its token, and"
    " a head of 17 headers, where the bare function has 3"
)


async def measure(ground: Ground) -> list[Figure]:
    """Server CPU of one GET on a connection that is kept."""
    user = ground.users[0]
    (token,) = ground.tokens([user])
    request = (
        f"GET /api/v1/state HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n".encode()
    )
    async with ground.node() as node:
        body_bytes = await _get(node.port, request, times=1)
        async with ground.stock(body_bytes) as stock, ground.stock(body_bytes, http="h11") as pure:
            ours: list[float] = []
            theirs: list[float] = []
            in_python: list[float] = []
            for _ in range(ground.scale.samples + 1):
                for server, taken in ((node, ours), (stock, theirs), (pure, in_python)):
                    taken.append(await _cpu_us(server, request))
    get = f"snapshot GET with a token ({body_bytes:,} bytes), against bare uvicorn"
    return [
        Figure(name=get, unit="µs", ours=ours[1:], reference=theirs[1:], target=2.0, in_the_way=_SENDING),
        Figure(
            name=f"{get} without httptools, as it installs alone",
            unit="µs",
            ours=ours[1:],
            reference=in_python[1:],
        ),
    ]


async def _cpu_us(server: Child, request: bytes) -> float:
    before = await server.usage()
    await asyncio.gather(*(_get(server.port, request, times=_REQUESTS) for _ in range(_CONNECTIONS)))
    after = await server.usage()
    return 1e6 * (after.cpu_seconds - before.cpu_seconds) / (_CONNECTIONS * _REQUESTS)


async def _get(port: int, request: bytes, *, times: int) -> int:
    """The body length of the last of ``times`` answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = 0
    for _ in range(times):
        length = await get(reader, writer, request)
    writer.close()
    return length


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """The body length of the answer; raises RuntimeError unless it is a 200."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return length
