"""Closes positions when an alert says so: TOKEN=… python examples/close_on_guard.py https://guardwire.example"""

import asyncio
import os
import sys
from collections.abc import Callable

from guardwire import Account, OpenAlert, connect
from guardwire.state import Position

NAME = os.environ.get("BOT_NAME", "closer-1")  # a bot that is restarted under its name goes on where it died


async def close_position(ticket: str, position: Position) -> None:
    """Yours: close it at your broker. Raise if that fails; closing a closed position must do no harm."""
    print("close", ticket, position.symbol, flush=True)


def to_close(account: Account, alert: OpenAlert) -> dict[str, Position]:
    alerts, book = account.state.alerts, account.state.positions
    now = alerts.open.get(alert.id) if alerts else None
    if now is None or now.resolved_at is not None or book is None:  # it is over by now
        return {}
    open_positions = {**book.open, **(book.unmatched or {})}
    return {ticket: each for ticket, each in open_positions.items() if alert.concerns(each)}


async def act(account: Account, alert: OpenAlert, beat: Callable[[], None]) -> None:
    async with alert.acting():  # an exception ends the bot, and Guardwire looks for somebody else
        await account.until_fresh()
        for ticket, position in to_close(account, alert).items():
            await close_position(ticket, position)
            beat()


async def main(url: str) -> None:
    channels = ["positions", "alerts"]
    async with (
        connect(url, token=lambda: os.environ["TOKEN"], channels=channels) as account,
        account.attend(NAME, lease_seconds=15) as beat,
    ):
        async for alert in account.alerts(beat=beat):
            await act(account, alert, beat)


if len(sys.argv) != 2 or "TOKEN" not in os.environ:
    sys.exit(f"usage: TOKEN=… python {sys.argv[0]} https://guardwire.example")
asyncio.run(main(sys.argv[1]))
