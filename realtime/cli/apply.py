"""`guardwire apply`: the applier, in a process that serves no clients."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from typing import Final

from realtime import logs
from realtime.cli.database import open_database, read_database_settings
from realtime.errors import ConfigurationError, UnavailableError
from realtime.settings import fanout_problems

_MAY_APPLY: Final = """
SELECT has_schema_privilege('guardwire', 'USAGE')
       AND coalesce(has_function_privilege(to_regproc('guardwire.apply'), 'EXECUTE'), true)
"""
_NO_RIGHTS: Final = (
    "this login may not apply the platform's rows; GRANT guardwire_server TO it"
    " (`guardwire migrate --roles` makes that role)"
)


def apply() -> None:
    """Apply the platform's rows, without serving clients, until Ctrl-C or SIGTERM.

    Each row that the platform writes waits in the table guardwire.inbox until
    the applier makes account state of it. Every [bold]guardwire serve[/bold] can be the
    applier, and one process at a time is. This command runs an applier that
    serves no clients, so that the nodes keep their CPU for clients. The nodes
    still compete for the role, so one of them applies rows when no such
    process is left.

    Run two of them on different machines. When the applier ends, another
    process takes over within a second, and within 3 s when it is killed or
    hangs. No row is lost, and none is applied twice.

    Needs DATABASE_URL, migrated, with a login that is a member of
    guardwire_server. Where that is a pooler such as pgbouncer, set
    LISTEN_DATABASE_URL to PostgreSQL itself. GUARDWIRE_NODE names the process
    in its log lines and in guardwire.applier. It exports no metrics. With
    GUARDWIRE_FANOUT=relay it publishes changes to REDIS_URL.

    [bold]Example[/bold]

    export DATABASE_URL=postgresql://node:secret@db.example/platform
    GUARDWIRE_NODE=applier-1 guardwire apply
    """
    read = read_database_settings("to apply rows in")
    if problems := fanout_problems(read):
        raise ConfigurationError(problems)
    name = read.node or f"{platform.node()}:apply:{os.getpid()}"
    url = read.listen_database_url or read.database_url
    asyncio.run(_check(url))
    logs.configure(level=read.log_level, style=read.log_format, node=name)
    asyncio.run(_apply(url, name, relay_url=read.redis_url if read.fanout == "relay" else ""))


async def _check(url: str) -> None:
    """Raise a GuardwireError in one sentence when this process could apply nothing."""
    import asyncpg

    from realtime.feed.self_test import check_revision

    connection = await open_database(url)
    try:
        refusal = await check_revision(connection)
        if refusal is None and not await connection.fetchval(_MAY_APPLY):
            refusal = _NO_RIGHTS
    except asyncpg.InsufficientPrivilegeError:
        refusal = _NO_RIGHTS
    finally:
        await connection.close()
    if refusal is not None:
        raise UnavailableError(refusal)


async def _apply(url: str, name: str, *, relay_url: str) -> None:
    """Compete for the lease, and apply rows while this process holds the lease, until SIGINT or SIGTERM.

    With a ``relay_url`` the process publishes to that Redis, and listens only while it holds the lease.
    """
    from realtime.feed.applier import Applier
    from realtime.feed.listener import Listener, listen_while
    from realtime.feed.relay.publisher import Publisher
    from realtime.supervise import Supervisor

    is_heard = False

    def set_hearing(hearing: bool) -> None:
        nonlocal is_heard
        is_heard = hearing

    publisher = Publisher(redis_url=relay_url, name=name) if relay_url else None
    # This process has no clients, so it publishes by the relay or from within the database (guardwire.publish) alone.
    applier = Applier(
        database_url=url,
        name=name,
        on_changes=lambda changes: None,
        is_woken=lambda: is_heard,
        relay=publisher,
        listener_pid=lambda: listener.backend_pid,
    )
    listener = Listener(
        database_url=url,
        on_deltas=lambda notification: None,
        on_notice=lambda account, revision: (
            None if publisher is None else publisher.publish_notice(account, revision)
        ),
        on_inbox=applier.wake,
        on_secret=lambda secret: None,
        on_hearing=set_hearing,
        is_own=lambda pid: pid == applier.backend_pid,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor()
    if publisher is None:
        supervisor.start("listen", listener.run)
    else:
        supervisor.start("listen", lambda: listen_while(lambda: applier.term is not None, listener))
        supervisor.start("relay", publisher.run)
    supervisor.start("apply", applier.run)
    try:
        await stop.wait()
    finally:
        await supervisor.stop()
