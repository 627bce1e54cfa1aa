"""GET /api/v1/positions/{position_id}: one position, open or closed, from the database.

Closed positions are not part of the state that is kept in memory, so this is the one read that costs a
statement each time, and the one that is limited for each user.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from auth.identity import Identity
from guardwire.messages import encode
from queries.position_by_id import FoundPosition, find_position
from realtime.delivery import etags
from realtime.delivery.answer import Answer, respond
from realtime.delivery.parameters import position_id_parameter
from realtime.delivery.rate_limit import RateLimit
from realtime.delivery.rest_documents import PositionRecord
from realtime.owners import blocked
from realtime.store.snapshot import Freshness

PER_SECOND: Final = 20
BURST: Final = 40


class PositionEndpoint:
    """Answers for one position of the caller's; another user's is not told from an unknown one."""

    def __init__(self, *, engine: AsyncEngine, authenticate: Callable[[Scope], Awaitable[Identity]]) -> None:
        self._engine = engine
        self._authenticate = authenticate
        self._limit = RateLimit(per_second=PER_SECOND, burst=BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity = await self._authenticate(scope)
        position_id = position_id_parameter(scope["path_params"]["position_id"])
        began_at = time.monotonic()
        wait_seconds = self._limit.wait_seconds(identity.user_id, began_at)
        if wait_seconds:
            raise HTTPException(429, headers={"retry-after": str(wait_seconds)})
        found = await find_position(self._engine, user_id=identity.user_id, position_id=position_id)
        if found is not None and found.user_id != identity.user_id:
            blocked("position", identity.user_id)
            found = None
        if found is None:
            raise HTTPException(404, "No position of yours has this id, nor has a log row of one.")
        answer = Answer(etags.strong(found.epoch, found.revision), found.revision, encode(record_of(found)))
        age_ms = int((time.monotonic() - began_at) * 1000)
        await respond(scope, send, answer, Freshness(found.as_of, age_ms), stale=found.is_behind)


def record_of(found: FoundPosition) -> PositionRecord:
    """The document of one position; a closed one has nothing unrealized, and the price that it closed at."""
    last_price = found.current_price if found.is_open or found.closed_price is None else found.closed_price
    return PositionRecord(
        position_id=str(found.position_id),
        ticket=found.ticket,
        symbol=found.symbol,
        direction=found.direction,
        volume=found.volume,
        entry_price=found.entry_price,
        entry_time=found.entry_time,
        current_price=found.entry_price if last_price is None else last_price,
        unrealized_pnl=found.pnl if found.is_open else None,
        unrealized_pnl_pct=found.pnl_pct if found.is_open else None,
        pnl_currency=found.pnl_currency,
        contract_size_assumed=found.contract_size_assumed,
        take_profit=found.take_profit,
        stop_loss=found.stop_loss,
        status="open" if found.is_open else "closed",
        matched_with_bot=found.matched == 1,
        last_updated_at=found.updated_at,
    )
