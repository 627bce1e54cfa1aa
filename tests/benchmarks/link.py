"""Child: a slow way to a port of this machine; each byte comes late by a time that is the same in both directions."""

from __future__ import annotations

import asyncio

from tests.benchmarks.children import announce, given
from tests.faults.proxy import Proxy


async def _serve() -> None:
    values = given()
    async with Proxy("link", values["target_port"]) as link:
        link.delay_seconds = values["one_way_seconds"]
        announce(link.port)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
