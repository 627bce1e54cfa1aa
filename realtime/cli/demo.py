"""`guardwire demo`: real servers on one machine, and a simulated trading platform that writes real rows."""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import shlex
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
import typer

from realtime import logs
from realtime.cli.database import check_database, open_database
from realtime.cli.development import data_folder, development_key, read_settings
from realtime.cli.process import allow_many_connections, check_port, collect_garbage_seldom, report_progress
from realtime.cli.simulate import CLOCK_HELP, platform_clock
from realtime.errors import ConfigurationError
from realtime.settings import Settings

if TYPE_CHECKING:
    from auth.development import DevelopmentKey
    from realtime.simulator import SimulatorOptions

USERS: Final = 3
FOREIGN_ROWS: Final = "SELECT EXISTS (SELECT FROM public.reconciliation_logs WHERE user_id::text <> ALL ($1))"

_SERVER_LOGIN: Final = "guardwire_server_demo"
_MAKE_SERVER_LOGIN: Final = """
DO $$ BEGIN
    CREATE ROLE {login} LOGIN IN ROLE guardwire_server;
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $$;
ALTER ROLE {login} PASSWORD '{password}';
"""


def demo(
    port: Annotated[
        int | None,
        typer.Option(help="Port of the dashboard.", show_default="GUARDWIRE_PORT, else 8000", min=1),
    ] = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Start from an empty database.")] = False,
    clock: Annotated[str, typer.Option(help=CLOCK_HELP, show_default="right")] = "",
) -> None:
    """Show a live trading dashboard, fed by the rows of a simulated platform.

    Starts PostgreSQL and Redis, migrates, serves on 127.0.0.1 only, and
    prints the addresses and some commands to paste. Ctrl-C ends all of it.

    An example bot attends the first account and acts on its alerts. The
    dashboard has a panel that stops it: then an alarm is raised, and alerts
    go to a webhook and to a person, whose messages the page /demo/webhooks
    lists. That account's policy of escalation is set to a few seconds.

    Uses DATABASE_URL and REDIS_URL when they are set. Otherwise the data stays
    in the folder GUARDWIRE_DATA until --wipe.

    [bold]Example[/bold]

    GUARDWIRE_PORT=8001 guardwire demo --wipe
    """
    from realtime import simulator

    began = time.monotonic()
    read = read_settings()
    read = msgspec.structs.replace(read, port=port or read.port)
    options = simulator.SimulatorOptions(users=USERS, clock=platform_clock(clock))
    if "MAKELEVEL" in os.environ:  # when make is killed, its commands run on
        from realtime.embedded.child import end_with_parent

        end_with_parent()
    check_port(read.host, read.port, command=" make demo")
    allow_many_connections()
    signal.signal(signal.SIGTERM, _interrupt)
    logs.configure(level="WARNING", style="text", node="demo")
    with _imported_meanwhile("app"):  # the import takes as long as the start of the servers
        _with_servers(read, wipe, began, options)


@contextmanager
def _imported_meanwhile(name: str) -> Iterator[None]:
    thread = threading.Thread(target=importlib.import_module, args=(name,))
    thread.start()
    try:
        yield
    finally:
        thread.join()  # an interpreter that exits during an import prints long tracebacks


def _with_servers(read: Settings, wipe: bool, began: float, options: SimulatorOptions) -> None:
    from realtime.embedded import EmbeddedServers

    folder = data_folder(read)
    with EmbeddedServers.start(
        folder,
        database_url=read.database_url,
        redis_url=read.redis_url,
        source=read.server_binaries,
        wipe=wipe,
    ) as servers:
        if read.database_url:
            _run(_refuse_foreign_rows(read.database_url))
        read = msgspec.structs.replace(read, database_url=servers.database_url, redis_url=servers.redis_url)
        _run(_demo(read, folder, began, options, ours=servers.postgres is not None))


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(main: Coroutine[Any, Any, None]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def _demo(read: Settings, folder: Path, began: float, options: SimulatorOptions, *, ours: bool) -> None:
    from queries.migrations.run import migrate

    stop = _stop_on_signals()
    await check_database(read.database_url)
    await migrate(read.database_url, roles=ours, progress=report_progress)
    # Only in a PostgreSQL that the demo started itself is the login certain to be allowed to make logins.
    served = (
        msgspec.structs.replace(read, database_url=await server_login(read.database_url)) if ours else read
    )
    collect_garbage_seldom()
    playing = play(served, read.database_url, options, key=development_key(folder), stop=stop)
    async with playing as (url, platform):
        announcing = asyncio.create_task(_announce(url, read, folder, began), name="announce")
        try:
            await _wait_for_end(platform, asyncio.create_task(stop.wait(), name="stop"), announcing)
            stop.set()
            await platform
        finally:
            announcing.cancel()


@asynccontextmanager
async def play(
    settings: Settings,
    database_url: str,
    options: SimulatorOptions,
    *,
    key: DevelopmentKey,
    stop: asyncio.Event,
) -> AsyncIterator[tuple[str, asyncio.Task[Any]]]:
    """Serve the demo on a migrated database, with its bot and a platform that runs until ``stop``.

    Gives the server's URL and the platform's task. ``database_url`` is that of the login that owns the tables.
    """
    import app
    from realtime.demo.demonstration import Demonstration
    from realtime.simulator import demo_user_id, simulate

    user_id = demo_user_id()
    demonstration = Demonstration(user_id=user_id, key=key)
    development = app.Development(key=key, demo_user=user_id, demonstration=demonstration)
    # The receiver is on this machine.
    settings = msgspec.structs.replace(settings, webhook_allow_private=True)
    async with app.serving(settings, development=development) as url:
        connection = await open_database(database_url)
        try:
            await demonstration.begin(connection, url)
        finally:
            await connection.close()
        try:
            simulating = simulate(database_url, options, stop=stop, orders=demonstration.orders)
            yield url, asyncio.create_task(simulating, name="platform")
        finally:
            await demonstration.end()


async def _wait_for_end(
    platform: asyncio.Task[Any], stop: asyncio.Task[Any], announcing: asyncio.Task[Any]
) -> None:
    """Wait until the platform has ended or a signal asks for the end; raises the error of a failed task."""
    tasks = {platform, stop, announcing}
    while not (platform.done() or stop.done()):
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    stop.cancel()


def _stop_on_signals() -> asyncio.Event:
    """An event that the first Ctrl-C or SIGTERM sets; the second one interrupts at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def request_stop() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, _interrupt)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, request_stop)
    return stop


async def _refuse_foreign_rows(database_url: str) -> None:
    """Raise ConfigurationError when the database holds rows of a real platform."""
    from realtime.simulator import demo_user_id

    users = [demo_user_id(index) for index in range(USERS)]
    connection = await open_database(database_url)
    try:
        exists = await connection.fetchval("SELECT to_regclass('public.reconciliation_logs') IS NOT NULL")
        if exists and await connection.fetchval(FOREIGN_ROWS, [str(user) for user in users]):
            raise ConfigurationError(
                ["DATABASE_URL holds rows that are not the demo's: name an empty database, or unset it."]
            )
    finally:
        await connection.close()


async def _announce(url: str, read: Settings, folder: Path, began: float) -> None:
    """Wait until a client has the first position, then print the addresses."""
    from guardwire import connect
    from realtime.simulator import demo_user_id

    token = development_key(folder).issue(demo_user_id())
    async with connect(url, token=token) as account:
        async for _ in account.changes("positions"):
            if account.state.positions is not None and account.state.positions.total_positions:
                break
    print(announcement(url, read, folder, ready_seconds=time.monotonic() - began), flush=True)


def announcement(url: str, read: Settings, folder: Path, *, ready_seconds: float) -> str:
    """The addresses of the demo, and commands that can be pasted into a terminal in any folder."""
    programs = Path(sys.executable).parent
    named = f"GUARDWIRE_DATA={shlex.quote(str(folder))} " if read.data_folder else ""
    guardwire = named + shlex.quote(str(programs / "guardwire"))
    websockets = shlex.quote(str(programs / "websockets"))
    hello = f"""printf '{{"type":"hello","token":"%s"}}\\n' "$({guardwire} token)\""""
    stream = url.replace("http", "ws", 1) + "/ws"
    return f"""
Guardwire's demo is ready, after {ready_seconds:.1f} s.

  Dashboard    {url}/
  Receiver     {url}/demo/webhooks
  PostgreSQL   {read.database_url}
  Redis        {read.redis_url}
  Data         {folder}

One account over HTTP:
  curl -sH "Authorization: Bearer $({guardwire} token)" {url}/api/v1/guards/status

Its stream, with another project's client:
  {{ {hello}; cat; }} | {websockets} {stream}

Its live view in a terminal:
  {guardwire} watch {url}

Ctrl-C ends the demo and its servers; the data stays (guardwire demo --wipe starts anew).
"""


async def server_login(database_url: str) -> str:
    """The URL of the same database for a login that is a member of guardwire_server.

    The demo's server thus has the rights of a server in production. Each call sets a new password. The login of
    ``database_url`` must be allowed to make logins, and `migrate(roles=True)` must have run.
    """
    password = secrets.token_hex(16)
    connection = await open_database(database_url)
    try:
        await connection.execute(_MAKE_SERVER_LOGIN.format(login=_SERVER_LOGIN, password=password))
    finally:
        await connection.close()
    parts = urlsplit(database_url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{_SERVER_LOGIN}:{password}@{address}"))
