"""The channels of this release; a new one is a new file and a line here."""

from __future__ import annotations

from queries.alerts import ALERTS
from queries.guards import GUARDS
from queries.live_query import LiveQueries
from queries.positions import BOOK, POSITIONS
from queries.status import STATUS

LIVE_QUERIES = LiveQueries((STATUS, POSITIONS, GUARDS, ALERTS), book=BOOK)
