"""`guardwire apply`: the applier, in a process that serves nobody."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from typing import Final

from realtime import logs, settings
from realtime.cli.reaching import open_database
from realtime.errors import ConfigurationError, UnavailableError

_MAY_APPLY: Final = """
SELECT has_schema_privilege('guardwire', 'USAGE')
       AND coalesce(has_function_privilege(to_regprocedure('guardwire.apply(bigint, integer)'), 'EXECUTE'), true)
"""
_MAY_NOT: Final = (
    "this login may not apply the platform's rows; GRANT guardwire_server TO it"
    " (`guardwire migrate --roles` makes that role)"
)


def apply() -> None:
    """Apply the platform's rows and serve nobody, until Ctrl-C or SIGTERM.

    Each row that the platform writes waits in the table guardwire.inbox until
    the applier makes account state of it. Every [bold]guardwire serve[/bold] can be the
    applier, and one process at a time is. This command runs a process that
    is nothing else, for nodes that should keep their CPU for clients. Nodes
    still compete, so they go on where no such process is left.

    Run two of them on different machines. When the applier ends, another
    process takes over within a second, and within 3 s when it is killed or
    hangs. No row is lost, and none is applied twice.

    Needs DATABASE_URL, migrated, with a login that is a member of
    guardwire_server. Where that is a pooler such as pgbouncer, set
    LISTEN_DATABASE_URL to PostgreSQL itself. GUARDWIRE_NODE names the process
    in its log lines and in guardwire.applier. It exports no metrics.

    [bold]Example[/bold]

    export DATABASE_URL=postgresql://node:secret@db.example/platform
    GUARDWIRE_NODE=applier-1 guardwire apply
    """
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError(["DATABASE_URL is not set: it names the database whose rows to apply."])
    name = read.node or f"{platform.node()}:apply:{os.getpid()}"
    url = read.listen_database_url or read.database_url
    asyncio.run(_check(url))
    logs.configure(level=read.log_level, style=read.log_format, node=name)
    asyncio.run(_apply(url, name))


async def _check(url: str) -> None:
    """Raise a GuardwireError, one sentence, where this process could apply nothing."""
    import asyncpg

    from realtime.feed.self_test import check_revision

    connection = await open_database(url)
    try:
        refusal = await check_revision(connection)
        if refusal is None and not await connection.fetchval(_MAY_APPLY):
            refusal = _MAY_NOT
    except asyncpg.InsufficientPrivilegeError:
        refusal = _MAY_NOT
    finally:
        await connection.close()
    if refusal is not None:
        raise UnavailableError(refusal)


async def _apply(url: str, name: str) -> None:
    """Compete for the lease, and apply rows while this process holds it, until a signal says stop."""
    from realtime.feed.applier import Applier
    from realtime.feed.listener import Listener
    from realtime.supervise import Supervisor

    is_heard = False

    def set_hearing(hearing: bool) -> None:
        nonlocal is_heard
        is_heard = hearing

    # guardwire.apply notifies the nodes in the transaction of each batch, so there is nothing to publish here.
    applier = Applier(database_url=url, name=name, on_changes=lambda changes: None, is_woken=lambda: is_heard)
    listener = Listener(
        database_url=url,
        on_deltas=lambda notification: None,
        on_notice=lambda account, revision: None,
        on_inbox=applier.wake,
        on_secret=lambda secret: None,
        on_hearing=set_hearing,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor()
    supervisor.start("listen", listener.run)
    supervisor.start("apply", applier.run)
    try:
        await stop.wait()
    finally:
        await supervisor.stop()
