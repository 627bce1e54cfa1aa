"""`guardwire simulate`: a trading platform that writes rows."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from realtime.cli.database import check_database, read_database_settings
from realtime.cli.process import report_progress
from realtime.errors import ConfigurationError

if TYPE_CHECKING:
    from realtime.simulator import PlatformClock, SimulatorOptions, SimulatorReport

HOURLY = "Events an hour"
CLOCK_HELP = "The platform's clock: +3h, -2h, or step, which goes back an hour after half a minute."


def simulate(
    users: Annotated[int, typer.Option(help="Accounts.", min=1)] = 3,
    positions: Annotated[
        int, typer.Option(help="Open positions that each account tends towards.", min=0)
    ] = 8,
    rate: Annotated[float, typer.Option(help="Log rows in one second, over all accounts.", min=0.01)] = 20.0,
    seconds: Annotated[
        float | None, typer.Option(help="How long.", min=0.1, show_default="until interrupted")
    ] = None,
    speed: Annotated[float, typer.Option(help="Market seconds in one second of the clock.", min=0.01)] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = 1,
    divergences: Annotated[float, typer.Option(min=0, rich_help_panel=HOURLY)] = 30.0,
    closes: Annotated[float, typer.Option(min=0, rich_help_panel=HOURLY)] = 60.0,
    drawdowns: Annotated[float, typer.Option(min=0, rich_help_panel=HOURLY)] = 6.0,
    guard_triggers: Annotated[float, typer.Option(min=0, rich_help_panel=HOURLY)] = 40.0,
    clock: Annotated[str, typer.Option(help=CLOCK_HELP, show_default="right")] = "",
) -> None:
    """Write a trading platform's rows to the database at DATABASE_URL.

    For a database of your own, to try things on. Never use it on a database
    with real accounts.

    [bold]Example[/bold]

    export DATABASE_URL=postgresql://me@127.0.0.1/trial
    guardwire simulate --users 100 --rate 200 --seconds 60
    """
    from realtime.simulator import SimulatorOptions

    database_url = read_database_settings("to write to").database_url
    options = SimulatorOptions(
        users=users,
        positions=positions,
        rows_per_second=rate,
        seconds=seconds,
        speed=speed,
        seed=seed,
        divergences=divergences,
        closes=closes,
        drawdowns=drawdowns,
        guard_triggers=guard_triggers,
        clock=platform_clock(clock),
    )
    report = asyncio.run(_until_interrupted(database_url, options))
    report_progress(
        f"{report.log_rows:,} log rows in {report.seconds:.0f} s, {report.rows_per_second:,.1f} a second"
    )


def platform_clock(text: str) -> PlatformClock:
    """The clock that an option ``--clock`` names; raises ConfigurationError where that is none."""
    from realtime.simulator import PlatformClock

    try:
        return PlatformClock.parse(text) if text else PlatformClock()
    except ValueError as error:
        raise ConfigurationError([f"--clock: {error}."]) from error


async def _until_interrupted(database_url: str, options: SimulatorOptions) -> SimulatorReport:
    from realtime.simulator import simulate as run

    await check_database(database_url, with_settings=False)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run(database_url, options, stop=stop, progress=report_progress)
