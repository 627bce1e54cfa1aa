"""REST: the documents of one account, for clients that poll. The routes answer from the watched account's snapshot in
memory.

A read makes its account watched for a while, so the next read costs neither SQL nor Redis. Each document is encoded
once for each snapshot. Endpoints are plain ASGI, because a request object and a response object would double the cost
of an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from guardwire.messages import encode
from queries.position_by_id import FoundPosition, find_position
from queries.positions import fold
from queries.timestamps import iso
from realtime.delivery.http import documents
from realtime.delivery.http.alert_operations import ALERT_OPERATIONS
from realtime.delivery.http.documents import PositionRecord, TradingHealth
from realtime.delivery.http.openapi import OpenApi
from realtime.delivery.http.operations import REST_OPERATIONS, SERVICE_OPERATIONS, STREAM_OPERATIONS
from realtime.delivery.http.parameters import Authenticate, position_id_parameter, symbol_parameter
from realtime.delivery.http.problems import TYPES_PATH, ProblemTypes
from realtime.delivery.http.responses import Answer, respond, send_json, strong_tag, weak_tag
from realtime.delivery.hub import Hub
from realtime.delivery.limits import RateLimit
from realtime.delivery.watched_account import UNKNOWN_AGE_MS
from realtime.history import Store
from realtime.owners import count_blocked
from realtime.snapshot import Freshness, Snapshot


class Reading(NamedTuple):
    """An account's newest snapshot, its freshness, and whether it is stale."""

    snapshot: Snapshot
    fresh: Freshness
    stale: bool


#: Gives the primary's time until which a standby has replayed its commits, and when that was on the monotonic clock.
Replayed = Callable[[], tuple[str, float]]
#: Makes a document from a reading and the request's query string.
View = Callable[[Reading, bytes], Answer]


def routes(
    *,
    hub: Hub,
    store: Store | None,
    engine: AsyncEngine,
    authenticate: Authenticate,
    replayed: Replayed | None = None,
) -> list[Route]:
    """The documents of one account, the description of the server, and the explanations of its problems.

    ``store`` is asked when the database is out of reach and no snapshot is in memory; ``engine`` reads single
    positions. ``replayed`` says how far the standby behind ``engine`` has replayed the primary; None without a standby.
    """
    reader = SnapshotReader(hub=hub, store=store)
    openapi = OpenApi([*REST_OPERATIONS, *ALERT_OPERATIONS, *STREAM_OPERATIONS, *SERVICE_OPERATIONS])

    def of_snapshot(path: str, view: View, name: str) -> Route:
        endpoint = SnapshotEndpoint(reader=reader, authenticate=authenticate, view=view)
        return Route(path, endpoint, methods=["GET"], name=name)

    position = PositionEndpoint(hub=hub, engine=engine, authenticate=authenticate, replayed=replayed)
    return [
        of_snapshot("/api/v1/reconciliation/status", status_answer, "reconciliation_status"),
        of_snapshot("/api/v1/positions/open", positions_answer, "open_positions"),
        Route("/api/v1/positions/{position_id}", position, methods=["GET"], name="position"),
        of_snapshot("/api/v1/guards/status", guards_answer, "guards_status"),
        Route("/api/v1/trading/health", HealthEndpoint(), methods=["GET"], name="trading_health"),
        Route("/api/v1/openapi.json", openapi, methods=["GET"], name="openapi"),
        Route(TYPES_PATH, ProblemTypes(), methods=["GET"], name="problem_types"),
        Route(TYPES_PATH + "/{name}", ProblemTypes(), methods=["GET"], name="problem_type"),
    ]


class SnapshotReader:
    """Reads the newest snapshot of an account, and makes the account watched."""

    def __init__(self, *, hub: Hub, store: Store | None) -> None:
        self._hub = hub
        self._store = store

    async def read(self, user_id: UUID) -> Reading:
        """The newest snapshot of ``user_id``; raises UnavailableError when neither database nor snapshot
        can answer.
        """
        watch = self._hub.reading(user_id)
        snapshot = watch.snapshot or await watch.first_snapshot(self._store, time.monotonic())
        if snapshot.user_id != user_id:
            raise count_blocked("read", user_id)
        return Reading(snapshot, watch.freshness(time.monotonic()), watch.stale)


class SnapshotEndpoint:
    """GET of a document that is made from the snapshot alone."""

    def __init__(self, *, reader: SnapshotReader, authenticate: Authenticate, view: View) -> None:
        self._reader = reader
        self._authenticate = authenticate
        self._view = view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity = await self._authenticate(scope)
        reading = await self._reader.read(identity.user_id)
        answer = self._view(reading, scope["query_string"])
        # Documents are kept beside their snapshot, so each document itself names its owner.
        if not answer.body.startswith(b'{"user_id":"%s"' % str(identity.user_id).encode()):
            raise count_blocked("document", identity.user_id)
        await respond(scope, send, answer, reading.fresh, stale=reading.stale)


def status_answer(reading: Reading, query_string: bytes) -> Answer:
    """GET /api/v1/reconciliation/status."""
    snapshot = reading.snapshot
    body = snapshot.documents.get("status")
    if body is None:
        document = documents.reconciliation_status(str(snapshot.user_id), snapshot.state["status"])
        body = snapshot.documents["status"] = encode(document)
    return Answer(strong_tag(snapshot.epoch, snapshot.revision), snapshot.revision, body)


def positions_answer(reading: Reading, query_string: bytes) -> Answer:
    """GET /api/v1/positions/open, whole or of one symbol."""
    snapshot = reading.snapshot
    symbol = symbol_parameter(query_string)
    # Only the whole book is kept: a caller may name any symbol, and must not fill the memory with documents.
    body = snapshot.documents.get("positions") if symbol is None else None
    if body is None:
        document = documents.open_positions(str(snapshot.user_id), snapshot.state["positions"], symbol=symbol)
        body = encode(document)
        if symbol is None:
            snapshot.documents["positions"] = body
    return Answer(strong_tag(snapshot.epoch, snapshot.revision), snapshot.revision, body)


def guards_answer(reading: Reading, query_string: bytes) -> Answer:
    """GET /api/v1/guards/status."""
    snapshot, as_of = reading.snapshot, reading.fresh.as_of
    guards = snapshot.state["guards"]
    countdown_seconds = documents.countdown_seconds(guards, _database_now(reading.fresh))
    # The countdown is kept beside the document, which is encoded again when the countdown has changed.
    clock = f"{as_of} {countdown_seconds}".encode()
    if snapshot.documents.get("guards.clock") != clock:
        document = documents.guards_status(
            str(snapshot.user_id), guards, as_of=as_of, countdown_seconds=countdown_seconds
        )
        snapshot.documents["guards"] = encode(document)
        snapshot.documents["guards.clock"] = clock
    tag = weak_tag(snapshot.epoch, snapshot.revision, countdown_seconds)
    return Answer(tag, snapshot.revision, snapshot.documents["guards"])


def _database_now(fresh: Freshness) -> datetime:
    """The database's clock, by which liquidation is announced; this machine's only where the age is not
    known.
    """
    if fresh.age_ms >= UNKNOWN_AGE_MS:
        return datetime.now(UTC)
    return datetime.fromisoformat(fresh.as_of) + timedelta(milliseconds=fresh.age_ms)


class HealthEndpoint:
    """GET /api/v1/trading/health: public, and reads no account."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = TradingHealth(status="healthy", timestamp=iso(datetime.now(UTC)), service="trading-api")
        await send_json(scope, send, encode(document), [(b"cache-control", b"no-store")])


PER_SECOND: Final = 20
BURST: Final = 40


class PositionEndpoint:
    """GET of one position. A position of another user is answered like an unknown one."""

    def __init__(
        self, *, hub: Hub, engine: AsyncEngine, authenticate: Authenticate, replayed: Replayed | None
    ) -> None:
        self._hub = hub
        self._engine = engine
        self._replayed = replayed
        self._authenticate = authenticate
        self._limit = RateLimit(per_second=PER_SECOND, burst=BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity = await self._authenticate(scope)
        position_id = position_id_parameter(scope["path_params"]["position_id"])
        began_at = time.monotonic()
        wait_seconds = self._limit.wait_seconds(identity.user_id, began_at)
        if wait_seconds:
            raise HTTPException(429, headers={"retry-after": str(wait_seconds)})
        replayed = None if self._replayed is None else self._replayed()
        found = await find_position(self._engine, user_id=identity.user_id, position_id=position_id)
        if found is not None and found.user_id != identity.user_id:
            count_blocked("position", identity.user_id)
            found = None
        if found is None:
            raise HTTPException(404, "No position of yours has this id, nor has a log row of one.")
        answer = Answer(strong_tag(found.epoch, found.revision), found.revision, encode(record_of(found)))
        as_of, read_at = (found.as_of, began_at) if replayed is None else replayed
        now = time.monotonic()
        age_ms = UNKNOWN_AGE_MS if read_at == float("-inf") else int((now - read_at) * 1000)
        is_stale = found.is_behind or (replayed is not None and self._hub.blind(now))
        await respond(scope, send, answer, Freshness(as_of, age_ms), stale=is_stale)


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
        instrument=None if found.instrument == fold(found.symbol or "") else found.instrument,
        divergence_reason=None if found.matched == 1 else found.divergence_reason,
        unconfirmed_since=found.unconfirmed_since,
    )
