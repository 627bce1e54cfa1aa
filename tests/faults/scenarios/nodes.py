"""Faults of nodes: killed, stopped, restarted, busy, with a wrong clock, or out of what the system grants."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

from tests.faults.stage import Stage

_BEFORE_SECONDS: Final = 1.0


async def killed(stage: Stage) -> None:
    """kill -9: clients go elsewhere, and a new process takes the old one's place."""
    await stage.watch(_BEFORE_SECONDS)
    victim = stage.sites[0]
    lost = stage.crowd.on(victim.address)
    code = await victim.node.kill()
    stage.healed()
    stage.leases_may_run_out = True
    stage.proves(f"the process ended by signal {-code}, under {len(lost)} bots", code == -9 and bool(lost))
    stage.figure("all know", await stage.all_know(seconds=5, among=lost), 1)
    await stage.crowd.until_all_fresh()
    await victim.node.start()


async def stopped(stage: Stage) -> None:
    """SIGSTOP: sockets stay open and say nothing; clients find out by themselves."""
    await stage.watch(_BEFORE_SECONDS)
    victim = stage.sites[0]
    held = stage.crowd.on(victim.address)
    victim.node.send(signal.SIGSTOP)
    try:
        await stage.until(lambda: _is_stopped(stage), seconds=2)
        stage.proves(
            f"the kernel says {victim.node.state!r}, {len(held)} bots are held",
            victim.node.state == "T" and bool(held),
        )
        stage.figure("all know", await stage.all_know(seconds=20, among=held), 15.5)
    finally:
        victim.node.send(signal.SIGCONT)
    stage.healed()


async def _is_stopped(stage: Stage) -> bool:
    await asyncio.sleep(0)
    return stage.sites[0].node.state == "T"
