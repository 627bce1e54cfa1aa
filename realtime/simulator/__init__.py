"""A simulated trading platform that writes real rows, for the demo, the tests, and developers without MT5.

    options.py    the options and the report
    market.py     prices
    account.py    the open positions and the money of an account
    incidents.py  the events of an account beside its ordinary syncs
    orders.py     what bots and visitors ask of it: to close positions, to widen a spread
    clock.py      what stamps the rows: it may be off, or step back
    rows.py       the rows that the platform writes
    platform.py   all accounts, step by step: the transactions of each moment
    writer.py     commits transactions
    run.py        runs the platform in real time; only this file and writer.py do I/O

No node imports this package, and import-linter checks that.
"""

from __future__ import annotations

from realtime.simulator.clock import PlatformClock
from realtime.simulator.options import SimulatorOptions, SimulatorReport, demo_user_id
from realtime.simulator.orders import Orders
from realtime.simulator.run import simulate

__all__ = ["Orders", "PlatformClock", "SimulatorOptions", "SimulatorReport", "demo_user_id", "simulate"]
