"""The audit: what an account's state must be, reduced from the raw history in plain Python.

Written from the contract's rules alone, it shares no code with the server. When it and the server disagree,
one of them has a bug, or somebody has altered what the capture made.

    history.py     what happened: versions of rows in the order in which they were committed
    values.py      what counts as a number, a time, a ticket, a user
    ticket.py      is a ticket open, and which row is its state
    book.py        positions and what they are worth
    money.py       equity, its peak, the drawdown
    market.py      market alerts
    occurrences.py what is listed as a recent event, and which breaches are latched
    state.py       the whole state of one account, as it stands on the wire

On a database that is in use:

    sources.py     how the platform's tables are read, whatever types their columns have
    record.py      what is on record about one account
    doubt.py       what that record cannot tell, and why
    difference.py  a path where the record and what is shown do not agree
    judgement.py   compares the two
    verdict.py     one account, read in one snapshot and judged
    capture.py     is the capture itself whole: triggers, notes, histories
"""

from __future__ import annotations
