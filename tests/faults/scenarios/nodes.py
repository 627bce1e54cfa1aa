"""Faults of nodes: killed, stopped, restarted, busy, with a wrong clock, or at the limits of the system."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import termios
import time
from collections.abc import Sequence
from typing import Final

from tests.faults.bad_clients import opened, vanish
from tests.faults.bot import BLIND_SECONDS
from tests.faults.ground import Site
from tests.faults.scenarios.clients import fat_accounts, stuck_bytes, stuck_readers
from tests.faults.stage import Stage

_BEFORE_SECONDS: Final = 1.0
_PUSH_SECONDS: Final = 3.0
_STUCK: Final = 10
_PIPE_BYTES: Final = 4096


async def killed(stage: Stage) -> None:
    """Kill a node with SIGKILL: its clients change to other nodes, and a new process takes its place."""
    await stage.watch(_BEFORE_SECONDS)
    victim = stage.sites[0]
    lost = stage.crowd.on(victim.address)
    code = await victim.node.kill()
    killed_at = time.monotonic()
    stage.leases_may_run_out = True
    stage.proves(f"the process ended by signal {-code}, under {len(lost)} bots", code == -9 and bool(lost))
    stage.figure("all know", await stage.all_know(seconds=5, among=lost), 1)
    await stage.crowd.until_all_fresh()
    stage.figure("all fresh elsewhere", time.monotonic() - killed_at, BLIND_SECONDS)
    await victim.node.start()
    stage.healed()


async def stopped(stage: Stage) -> None:
    """Stop a node with SIGSTOP: sockets stay open and silent, and clients notice by themselves."""
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


async def rolling_restart(stage: Stage) -> None:
    """SIGTERM to one node after the other, with ten clients that do not read; no client loses anything."""
    readers = await stuck_readers(stage, stage.sites[0], await fat_accounts(stage, 2), _STUCK)
    stage.leases_may_run_out = True
    slowest, codes = 0.0, []
    await stage.watch(_BEFORE_SECONDS)
    stuck = stuck_bytes(stage.sites[0])
    for site in stage.sites:
        began = time.monotonic()
        site.node.send(signal.SIGTERM)
        codes.append(await site.node.ended())
        slowest = max(slowest, time.monotonic() - began)
        await site.node.start()
        await stage.crowd.until_all_fresh()
    stage.healed()
    closed = stage.crowd.counted("ends")["1012"]
    stage.proves(
        f"nodes ended with {codes}; {closed} clients were closed with 1012; {stuck} B waited for the slow readers",
        closed > 0 and stuck > 0,
    )
    stage.figure("exit", slowest, 25)
    # After its shutdown uvicorn ends by the signal that it received: systemd sees success, and a shell 143.
    stage.figure("ended otherwise", sum(code not in (0, -signal.SIGTERM) for code in codes), 0, "")
    for reader in readers:
        reader.close()


async def wrong_clocks(stage: Stage) -> None:
    """Set the clock of one node an hour ahead, and that of another behind; clients use every node."""
    stage.leases_may_run_out = True
    sizes = [site.node.log.stat().st_size for site in stage.sites]
    for site, hours in zip(stage.sites[:2], (1, -1), strict=False):
        await site.node.kill()
        await site.node.start(clock_seconds=3600 * hours)
        off = (await site.node.ask("report"))["time"] - time.time()
        stage.proves(f"node {site.node.name} is {off / 3600:+.2f} h off", abs(off - 3600 * hours) < 60)
    await stage.crowd.until_all_fresh()
    for site in stage.sites[:2]:
        # Every client visits every node, so that the nodes read each other's stored steps.
        site.front.cut()
        await stage.watch(1.5)
    await stage.crowd.until_all_fresh()
    began = time.monotonic()
    await stage.watch(2)
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _PUSH_SECONDS)
    stage.figure("backlogs reported that were none", await _backlogs_reported(stage, sizes), 0, "")
    for site in stage.sites[:2]:
        await site.node.kill()
        await site.node.start()
    stage.healed()


async def _backlogs_reported(stage: Stage, sizes: Sequence[int]) -> int:
    """Run the fault while each of the two nodes in turn is the applier; ``sizes`` are those of the logs before."""
    for site in stage.sites[:2]:
        others = [other for other in stage.sites if other is not site]
        for other in others:
            other.node.send(signal.SIGSTOP)
        try:
            led = await stage.until(lambda site=site: _leads(stage, site), seconds=20)  # type: ignore[misc]
            stage.proves(f"node {site.node.name} was the applier", led < float("inf"))
            await stage.watch(_BEFORE_SECONDS)
        finally:
            for other in others:
                other.node.send(signal.SIGCONT)
    await stage.crowd.until_all_fresh()
    logs = [site.node.log.read_bytes()[size:] for site, size in zip(stage.sites, sizes, strict=True)]
    return sum(log.count(b"a backlog of") for log in logs)


async def _leads(stage: Stage, site: Site) -> bool:
    leader, _ = await stage.ground.leader()
    return leader is site


async def busy(stage: Stage) -> None:
    """The event loop of one node computes for two seconds and does nothing else."""
    await stage.watch(_BEFORE_SECONDS)
    site, began = stage.sites[0], time.monotonic()
    await site.node.ask("block", seconds=2)
    await site.node.metrics()
    took = time.monotonic() - began
    stage.healed()
    stage.proves(f"a request took {took:.2f} s", took > 1.9)
    await stage.watch(1)
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _PUSH_SECONDS)


async def no_files_left(stage: Stage) -> None:
    """One node may open no more files. It serves its present clients, and new ones when files are closed."""
    await stage.watch(_BEFORE_SECONDS)
    site = stage.sites[0]
    there = stage.crowd.on(site.address)
    await site.node.ask("limit_files", spare=3)
    began = time.monotonic()
    comers = [await opened(site.node) for _ in range(20)]
    await stage.watch(2)
    answered = await asyncio.gather(*(_is_answered(comer) for comer in comers))
    seen = stage.crowd.latency_ms(1.0, since=began) / 1000
    stage.proves(
        f"of {len(comers)} that came {sum(answered)} were answered", sum(answered) < len(comers) // 2
    )
    stage.figure("who was there lost", sum(bot.connection is None for bot in there), 0, f"of {len(there)}")
    stage.figure("slowest push", seen, _PUSH_SECONDS)
    for comer in comers:
        vanish(comer)
    await site.node.ask("unlimit_files")
    stage.healed()
    await site.node.until_ready()
    stage.figure("serves again", time.monotonic() - stage.healed_at, 5)


async def _is_answered(comer: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(1):
            await loop.sock_sendall(comer, b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return (await loop.sock_recv(comer, 12)).endswith(b"200")
    except (OSError, TimeoutError):
        return False


async def no_room_for_logs(stage: Stage) -> None:
    """The disk of one node's log takes no writes, while there is much to log."""
    site = stage.sites[1]
    size = site.node.log.stat().st_size
    await site.node.ask("limit_file_size", size_bytes=size)
    began = time.monotonic()
    others = stage.sites[0].node.log.stat().st_size
    for _ in range(3):
        for each in stage.sites:
            each.database.cut()
            each.listener.cut()
        await stage.watch(1)
    # The applier's clients come back too, and it then applies the rows that were written meanwhile.
    await stage.watch(2)
    grew = stage.sites[0].node.log.stat().st_size - others
    stage.proves(
        f"another node said {grew} B of the same, this one {site.node.log.stat().st_size - size}",
        grew > 0 and site.node.log.stat().st_size <= size,
    )
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _PUSH_SECONDS)
    await site.node.ask("limit_file_size", size_bytes=-1)
    stage.healed()


async def nobody_reads_the_log(stage: Stage) -> None:
    """The log of one node is a full pipe without a reader."""
    site = stage.sites[1]
    stage.leases_may_run_out = True
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"-" * _PIPE_BYTES)
    # The node gets a blocking pipe, as from a shell.
    os.set_blocking(writing, True)
    await site.node.kill()
    await site.node.start(stderr=writing)
    os.close(writing)
    await stage.crowd.until_all_fresh()
    began, others = time.monotonic(), stage.sites[0].node.log.stat().st_size
    for _ in range(3):
        for each in stage.sites:
            each.database.cut()
            each.listener.cut()
        await stage.watch(1)
    # The applier's clients come back too, and it then applies the rows that were written meanwhile.
    await stage.watch(2)
    grew = stage.sites[0].node.log.stat().st_size - others
    waiting = array.array("i", [0])
    fcntl.ioctl(reading, termios.FIONREAD, waiting)
    stage.proves(
        f"{waiting[0]} B of {_PIPE_BYTES} wait in the pipe, another node said {grew} B meanwhile",
        waiting[0] == _PIPE_BYTES and grew > 0,
    )
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _PUSH_SECONDS)
    await site.node.kill()
    os.close(reading)
    await site.node.start()
    stage.healed()
