"""The audit: an account's state, reduced from the raw history in plain Python.

The audit is written from the rules of the contract alone, and shares no code with the server. When audit and server
disagree, one of them has a bug, or somebody has altered derived rows.

    history.py     versions of rows in the order in which they were applied
    values.py      reads numbers, times, tickets and users
    ticket.py      whether a ticket is open, and which row is its state
    book.py        positions and their profit
    money.py       equity, its peak, the drawdown
    market.py      market alerts
    occurrences.py recent events and latched breaches
    state.py       the whole state of one account, as it stands on the wire

On a database that is in use:

    sources.py     statements that read the platform's tables, whose columns have any of several types
    record.py      the platform's rows of one account, and the order in which they were applied
    doubt.py       differences that the record cannot settle
    difference.py  a path where the record and the live queries do not agree
    judgement.py   compares the two
    verdict.py     one account, read in one snapshot and judged
    capture.py     whether the capture itself is whole: triggers, rows set aside, histories
"""

from __future__ import annotations
