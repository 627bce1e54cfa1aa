"""Every fault, in the order of injection: its name, the function that injects it, and whether it is short."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.scenarios import (
    appliers,
    clients,
    commits,
    memory,
    network,
    nodes,
    postgres,
    site,
    thousands,
)
from tests.faults.stage import Stage

ALL: Final[list[tuple[str, Callable[[Stage], Awaitable[None]], bool]]] = [
    ("no fault", network.none, False),
    ("node: kill -9", nodes.killed, True),
    ("node: SIGSTOP", nodes.stopped, False),
    ("node: rolling restart, with ten stuck readers", nodes.rolling_restart, False),
    ("nodes behind nginx: rolling restart under 500 clients", site.rolling_restart_behind_nginx, False),
    ("node: clocks an hour ahead and behind", nodes.wrong_clocks, False),
    ("node: event loop blocked for 2 s", nodes.busy, False),
    ("node: out of file descriptors", nodes.no_files_left, True),
    ("node: disk full for logs", nodes.no_room_for_logs, False),
    ("node: log is a pipe that nobody reads", nodes.nobody_reads_the_log, False),
    ("applier: kill -9, three times", appliers.killed, True),
    ("applier: SIGSTOP, and back", appliers.stopped, False),
    ("applier: SIGSTOP with a batch open, and back", appliers.stopped_in_batch, True),
    ("applier: cut off, and neither end notices", appliers.cut_off, False),
    ("applier: its backend terminated, again and again", appliers.terminated, False),
    ("applier: a backlog of 100,000 rows", appliers.backlog, False),
    ("applier: transactions that stay open for an hour", appliers.long_transactions, False),
    ("applier: a night without nodes", appliers.night, False),
    ("network: slow", network.slow, False),
    ("network: everything cut, three times", network.cut, True),
    ("network: half-open both ways", network.half_open, False),
    ("network: half-open one way", network.one_way, False),
    ("clients: 100 slow readers", clients.slow_readers, False),
    ("clients: all come back at once", clients.homecoming, False),
    ("clients: 5,000 of a killed node come at once", thousands.homeless, False),
    ("clients: cancellation storm", clients.storm, True),
    ("PostgreSQL: restart", postgres.restarted, False),
    ("PostgreSQL: kill -9 of the postmaster", postgres.postmaster_killed, False),
    ("PostgreSQL: kill -9 of one backend", postgres.backend_killed, True),
    ("PostgreSQL: listeners terminated", postgres.listeners_terminated, False),
    ("PostgreSQL: listeners half-open", postgres.listeners_half_open, False),
    ("PostgreSQL: every connection taken", postgres.connections_used_up, False),
    ("PostgreSQL: hangs", postgres.hanging, False),
    ("PostgreSQL: restored to an earlier point", postgres.restored, False),
    ("commits: late, in the opposite order", commits.late, True),
    ("commits: forged, doubled and endless NOTIFY", commits.notifications, False),
    ("commits: two nodes race at one account", commits.race, True),
    ("Redis: FLUSHALL", memory.emptied, True),
    ("Redis: restart", memory.restarted, False),
    ("Redis: SIGSTOP", memory.stopped, False),
    ("Redis: eviction", memory.evicting, False),
    ("Redis: disk full", memory.full, False),
    ("Redis: poisoned values", memory.poisoned, False),
]
