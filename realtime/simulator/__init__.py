"""A trading platform that writes real rows: for the demo, the tests, and anyone who has no MT5 at hand.

options.py         what it is asked to do, and its report
market.py          prices
account.py         a book and its money
incidents.py       what happens to an account, and when (guard_triggers.py, squeeze.py, odd_rows.py)
platform.py        all accounts, step by step: which rows are committed when
writer.py run.py   the only files that touch the database and the clock
"""

from __future__ import annotations

from realtime.simulator.options import SimulatorOptions, SimulatorReport, demo_user_id
from realtime.simulator.run import simulate

__all__ = ["SimulatorOptions", "SimulatorReport", "demo_user_id", "simulate"]
