"""Closes positions when a guard says so: TOKEN=… python examples/close_on_guard.py https://guardwire.example"""

import asyncio
import os
import sys

from guardwire import Account, connect
from guardwire.state import AccountState, Breach, Guards, Position


def must_go(position: Position, breach: Breach, guards: Guards) -> bool:
    if breach.cleared_at is not None:  # it came and went while this bot was away
        return False
    if breach.kind == "drawdown":
        return guards.drawdown.should_close_all
    named = (breach.symbol or "*").upper()  # symbols are compared without case
    meant = [
        a
        for a in guards.alerts.values()
        if (a.symbol.upper(), a.condition_type) == (named, breach.condition_type)
    ]
    # A broker's decorated symbol means an instrument, which an alert may name.
    names = ("*", (position.symbol or "").upper(), position.instrument)
    return any(a.should_close_positions for a in meant) and named in names


def orders(state: AccountState) -> set[tuple[str, str]]:
    guards, book = state.guards, state.positions
    if guards is None or book is None:
        return set()
    pairs = [(breach, ticket) for breach in guards.breaches for ticket in book.open]
    return {(b, ticket) for b, ticket in pairs if must_go(book.open[ticket], guards.breaches[b], guards)}


async def close(account: Account, ticket: str) -> None:
    limit = account.state.guards and account.state.guards.drawdown.liquidation_at
    seconds_left = account.seconds_until(limit) if limit else None
    print("close", ticket, seconds_left, flush=True)  # your broker's API; raise if it fails, and be restarted


async def main(url: str) -> None:
    done: set[tuple[str, str]] = set()  # a breach stays in the state, but acts once on each position
    async with connect(url, token=lambda: os.environ["TOKEN"], channels=["guards", "positions"]) as account:
        async for _ in account.fresh_states():
            while account.fresh and (todo := orders(account.state) - done):
                done.add(order := todo.pop())
                await close(account, order[1])


if len(sys.argv) != 2 or "TOKEN" not in os.environ:
    sys.exit(f"usage: TOKEN=… python {sys.argv[0]} https://guardwire.example")
asyncio.run(main(sys.argv[1]))
