"""The composition root: settings become parts, parts become routes and tasks. Nothing imports this but the
command line.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from starlette.routing import BaseRoute, Route, WebSocketRoute

from auth.access import Access, key_sources
from auth.claims import Rules
from auth.development import DevelopmentKey
from auth.keys import KeySource
from auth.origins import policy as origin_policy
from queries.channels import LIVE_QUERIES
from realtime.database import engine_for
from realtime.delivery import rest
from realtime.delivery.admission import Admission
from realtime.delivery.application import Application
from realtime.delivery.credentials import credential_routes
from realtime.delivery.drain import Drain
from realtime.delivery.hub import Hub
from realtime.delivery.operations import operation_routes
from realtime.delivery.pages import page_routes
from realtime.delivery.pulse import Pulse
from realtime.delivery.server import Server
from realtime.delivery.sse import EventStreamEndpoint
from realtime.delivery.state_endpoint import StateEndpoint
from realtime.delivery.strangers import Strangers
from realtime.delivery.streams import Streams
from realtime.delivery.websocket import WebSocketEndpoint
from realtime.errors import ConfigurationError
from realtime.feed.auditor import Auditor
from realtime.feed.connection import KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.feed.housekeeping import Housekeeper
from realtime.feed.listener import Listener
from realtime.feed.loop import Feed
from realtime.feed.self_test import SelfTest
from realtime.feed.sweep import Sweeper
from realtime.settings import Settings
from realtime.state import CHANNELS
from realtime.store.leases import Leases
from realtime.store.snapshots import SnapshotStore, connect
from realtime.store.writer import SnapshotWriter
from realtime.supervise import Supervisor

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_DRAIN_SECONDS = 5.0
#: How long a node that is leaving only says so, for a balancer to see it before its clients do.
_NOTICE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Development:
    """What exists outside production only: tokens that the server itself signs. ``demo_user`` opens the
    dashboard.
    """

    key: DevelopmentKey
    demo_user: UUID | None = None


class Node:
    """One whole server: sockets, feed and REST. Nodes share PostgreSQL and Redis, and nothing else."""

    def __init__(self, settings: Settings, *, development: Development | None = None) -> None:
        if development is not None and settings.mode == "production":
            raise ConfigurationError(
                ["Development tokens cannot be used in production: unset GUARDWIRE_MODE."]
            )
        self.settings = settings
        self._development = development
        self._engine = engine_for(
            settings.database_url, pool_size=settings.database_pool_size, pooled=settings.database_pooled
        )
        self._redis = connect(settings.redis_url) if settings.redis_url else None
        self._store = None if self._redis is None else SnapshotStore(self._redis, channels=CHANNELS)
        self._writer = None if self._store is None else SnapshotWriter(self._store)
        self._dirty = DirtySet()
        self.hub = Hub(mark_dirty=self._dirty.mark, stale_seconds=settings.stale_seconds)
        self._access = Access(
            keys=_key_sources(settings, development),
            rules=_rules(settings, development),
            origins=origin_policy(settings.allowed_origins, production=settings.mode == "production"),
            engine=self._engine,
            redis=self._redis,
        )
        self._admission = Admission(
            leases=None
            if self._redis is None
            else Leases(self._redis, most_per_user=settings.max_sockets_per_user),
            most_per_user=settings.max_sockets_per_user,
        )
        self.streams = self._streams()
        self._drain = Drain(self.streams)
        self._pulse = Pulse(
            hub=self.hub,
            streams=self.streams,
            heartbeat_seconds=settings.heartbeat_seconds,
            hello_seconds=settings.hello_seconds,
            send_deadline_seconds=settings.send_deadline_seconds,
            ping_seconds=settings.ping_seconds,
            is_revoked=self._access.is_revoked,
        )
        self._supervisor = Supervisor()
        self._kept = [KeptConnection(self._engine) for _ in range(3)]
        self._self_test: SelfTest | None = None

    def _streams(self) -> Streams:
        settings = self.settings
        return Streams(
            hub=self.hub,
            verify=self._access.verifier.verify,
            store=self._store,
            heartbeat_seconds=settings.heartbeat_seconds,
            admission=self._admission,
            strangers=Strangers(
                most=settings.max_anonymous_sockets,
                most_per_address=settings.max_anonymous_sockets_per_address,
            ),
            max_frames_per_second=settings.max_frames_per_second,
        )

    # Requests.

    def routes(self) -> list[BaseRoute]:
        """Everything that this server answers."""
        access = self._access
        authenticate = access.authenticator.require
        sockets = WebSocketEndpoint(streams=self.streams, authenticate=access.of_handshake)
        return [
            WebSocketRoute("/ws", sockets),
            *rest.routes(
                hub=self.hub,
                store=self._store,
                engine=self._engine,
                authenticate=authenticate,
            ),
            *self._stream_routes(),
            *credential_routes(
                authenticate=authenticate, tickets=access.tickets, revocations=access.revocations
            ),
            *operation_routes(not_ready=self.not_ready),
            *page_routes(STATIC, demo_token=self._demo_token()),
        ]

    def _stream_routes(self) -> list[BaseRoute]:
        settings = self.settings
        stream = EventStreamEndpoint(
            hub=self.hub,
            store=self._store,
            authenticate=self._access.authenticator.from_headers_or_ticket,
            is_revoked=self._access.is_revoked,
            drain=self._drain,
            heartbeat_seconds=settings.heartbeat_seconds,
            send_deadline_seconds=settings.send_deadline_seconds,
            admission=self._admission,
        )
        state = StateEndpoint(
            hub=self.hub,
            store=self._store,
            authenticate=self._access.authenticator.require,
            admission=self._admission,
            drain=self._drain,
        )
        return [
            Route("/api/v1/stream", stream, methods=["GET"], name="stream"),
            Route("/api/v1/state", state, methods=["GET"], name="state"),
        ]

    def not_ready(self) -> str | None:
        """Why this node should get no new clients now; None when it should."""
        if self._drain.begun:
            return "draining"
        if self._self_test is None or self._self_test.refusal is not None:
            return "starting" if self._self_test is None else self._self_test.refusal
        if self.hub.blind(time.monotonic()):
            return "blind: the database has not been read lately" if self.hub.swept_at > 0 else "starting"
        if self._access.revocations.age_seconds is None:
            return "starting"  # who is revoked is not known yet
        return None

    def _demo_token(self) -> Callable[[], str] | None:
        development = self._development
        if development is None or development.demo_user is None:
            return None
        key, user = development.key, development.demo_user
        return lambda: key.issue(user)

    # Life.

    async def start(self) -> None:
        """Start what runs for ever; a database or Redis that is not there yet is waited for."""
        evaluation, sweeping, housekeeping = self._kept
        feed = Feed(
            connection=evaluation,
            live_queries=LIVE_QUERIES,
            dirty=self._dirty,
            hub=self.hub,
            memory=self._store,
            writer=self._writer,
        )
        sweeper = Sweeper(
            connection=sweeping,
            hub=self.hub,
            dirty=self._dirty,
            interval_seconds=self.settings.sweep_seconds,
        )
        listener = Listener(
            database_url=self.settings.listen_database_url or self.settings.database_url,
            on_hint=self._on_hint,
            on_hearing=lambda hearing: setattr(sweeper, "hearing", hearing),
            notify=sweeper.notify,
        )
        self._self_test = SelfTest(
            engine=self._engine,
            redis=self._redis,
            hearing=lambda: sweeper.hearing,
            listens_directly=bool(self.settings.listen_database_url) or not self.settings.database_pooled,
        )
        start = self._supervisor.start
        start("self-test", self._self_test.run)
        start("sweep", sweeper.run)
        start("listen", listener.run)
        start("feed", feed.run)
        start("housekeeping", Housekeeper(connection=housekeeping).run)
        self._start_audit()
        start("pulse", self._pulse.run)
        start("admission", self._admission.run)
        if self._writer is not None:
            start("remember", self._writer.run)
        for name, run in self._access.tasks():
            start(name, run)

    def _start_audit(self) -> None:
        if self.settings.audit_seconds > 0:
            auditor = Auditor(
                engine=self._engine,
                hub=self.hub,
                live_queries=LIVE_QUERIES,
                interval_seconds=self.settings.audit_seconds,
                most_rows=self.settings.audit_rows,
            )
            self._supervisor.start("audit", auditor.run)

    def _on_hint(self, user_id: UUID, revision: int) -> None:
        if self.hub.is_news(user_id, revision):
            self._dirty.mark(user_id)

    async def drain(self) -> None:
        """Ask every client to go elsewhere, before the listening socket is closed."""
        production = self.settings.mode == "production"
        await self._drain.run(
            notice_seconds=_NOTICE_SECONDS if production else 0.0, spread_seconds=_DRAIN_SECONDS
        )

    async def stop(self) -> None:
        """End every task and connection."""
        await self.streams.close()
        await self._supervisor.stop()
        for kept in self._kept:
            await kept.close()
        await self._engine.dispose()
        await self._access.close()
        if self._redis is not None:
            await self._redis.aclose()


def _rules(settings: Settings, development: Development | None) -> Rules:
    if development is not None:
        return development.key.rules
    return Rules(issuer=settings.jwt_issuer, audiences=settings.jwt_audience)


def _key_sources(settings: Settings, development: Development | None) -> list[KeySource]:
    if development is not None:
        return [development.key.source]
    return key_sources(secret=settings.jwt_secret, jwks_url=settings.jwks_url)


def build(settings: Settings, *, development: Development | None = None) -> Application:
    """The whole application, for an ASGI server that runs its lifespan; see `server_for`."""
    return _application(Node(settings, development=development))


def server_for(settings: Settings, *, development: Development | None = None, signals: bool = True) -> Server:
    """A server of the whole application on ``settings.host`` and ``settings.port``."""
    node = Node(settings, development=development)
    return Server(
        _application(node),
        host=settings.host,
        port=settings.port,
        max_frame_bytes=settings.max_frame_bytes,
        drain=node.drain,
        trusted_proxies=settings.trusted_proxies,
        max_waiting=settings.max_anonymous_sockets,
        signals=signals,
    )


@contextlib.asynccontextmanager
async def serving(settings: Settings, *, development: Development | None = None) -> AsyncIterator[str]:
    """Serve in this event loop while the context lasts; gives the base URL. Signals are left to the caller.
    """
    server = server_for(settings, development=development, signals=False)
    async with server.running():
        yield f"http://{settings.host}:{server.port}"


def _application(node: Node) -> Application:
    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        await node.start()
        try:
            yield
        finally:
            await node.stop()

    return Application(node.routes(), lifespan=lifespan, allowed_origins=node.settings.allowed_origins)
