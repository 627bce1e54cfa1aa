"""The oracle: what an account's state must be, reduced from the raw history in plain Python.

Written from the contract's rules alone, it shares no code with the server, and is clear rather than quick: it
looks through the whole history for each answer. When it and the server disagree, one of them has a bug.

    history.py     what happened: versions of rows in the order in which they were committed
    values.py      what counts as a number, a time, a ticket, a user
    ticket.py      is a ticket open, and which row is its state
    book.py        positions and what they are worth
    money.py       equity, its peak, the drawdown
    market.py      market alerts
    occurrences.py what is listed as a recent event, and which breaches are latched
    state.py       the whole state of one account, as it stands on the wire
"""

from __future__ import annotations
