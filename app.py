"""The composition root: settings become parts, parts become routes and tasks. Nothing imports this but the
command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.routing import BaseRoute, Route, WebSocketRoute

from auth.access import Access, key_sources
from auth.claims import Rules
from auth.development import DevelopmentKey
from auth.identity import ACK_SCOPE
from auth.keys import KeySource
from auth.origins import policy as origin_policy
from guardwire.state import CHANNELS
from realtime.database import engine_for
from realtime.delivery.alerts import Alerts
from realtime.delivery.balance import Balance
from realtime.delivery.drain import Drain
from realtime.delivery.http import account
from realtime.delivery.http.access import StreamAccess
from realtime.delivery.http.alerts import alert_routes
from realtime.delivery.http.application import Application
from realtime.delivery.http.poll import StateEndpoint
from realtime.delivery.http.service import credential_routes, operation_routes, page_routes
from realtime.delivery.http.stream import EventStreamEndpoint, EventStreams
from realtime.delivery.hub import Hub
from realtime.delivery.limits import Admission, AnonymousLimit
from realtime.delivery.server.server import Server
from realtime.delivery.stream import Timing
from realtime.delivery.websocket.connection import Socket
from realtime.delivery.websocket.conversation import OpenSockets
from realtime.delivery.websocket.endpoint import UpgradeRequired, WebSocketEndpoint
from realtime.delivery.websocket.heartbeat import SocketTimer
from realtime.errors import ConfigurationError
from realtime.escalation.escalation import WORKED_SECONDS, Escalation
from realtime.feed.connection import KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.feed.intake import Intake
from realtime.feed.relay.subscriptions import Subscriptions
from realtime.feed.trouble import Trouble
from realtime.metrics import METRICS
from realtime.settings import Settings, graphql_problems
from realtime.store.leases import Leases
from realtime.store.nodes import Nodes
from realtime.store.redis_pool import connect
from realtime.store.snapshots import SnapshotStore, SnapshotWriter
from realtime.supervise import Supervisor

if TYPE_CHECKING:
    from realtime.demo.demonstration import Demonstration

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_DRAIN_SECONDS = 5.0
#: How long a node that is leaving only says so, for a balancer to see it before its clients do.
_NOTICE_SECONDS = 1.0
#: How long each part may take to end; a database that has stopped answering would keep the process for ever.
_ENDING_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Development:
    """Parts for development alone: tokens that the server itself signs. ``demo_user`` opens the
    dashboard, and ``demonstration`` adds its panel to it.
    """

    key: DevelopmentKey
    demo_user: UUID | None = None
    demonstration: Demonstration | None = None


class Node:
    """One whole server: sockets, feed and REST. Nodes share PostgreSQL and Redis, and nothing else."""

    def __init__(self, settings: Settings, *, development: Development | None = None) -> None:
        if development is not None and settings.mode == "production":
            raise ConfigurationError(
                ["Development tokens cannot be used in production: unset GUARDWIRE_MODE."]
            )
        if problems := graphql_problems(settings):
            raise ConfigurationError(problems)
        self.settings = settings
        self._development = development
        self._engine, self._primary = _engines(settings)
        self._redis = connect(settings.redis_url) if settings.redis_url else None
        METRICS.redis_configured.set(float(self._redis is not None))
        self._store = None if self._redis is None else SnapshotStore(self._redis, channels=CHANNELS)
        self._writer = None if self._store is None else SnapshotWriter(self._store)
        dirty, trouble = DirtySet(), Trouble()
        subscriptions = Subscriptions()
        name = settings.node or f"{platform.node()}:{settings.port}:{os.getpid()}"
        self.hub = Hub(
            mark_dirty=dirty.mark,
            stale_seconds=settings.timing.stale_seconds,
            on_watched=subscriptions.add,
            on_forgotten=subscriptions.discard,
        )
        self._intake = Intake(
            settings=settings,
            engine=self._engine,
            primary=self._primary,
            redis=self._redis,
            dirty=dirty,
            subscriptions=subscriptions,
            hub=self.hub,
            memory=self._store,
            remember=None if self._writer is None else self._writer.remember,
            on_deliveries=self._wake_deliverer,
            trouble=trouble,
            name=name,
        )
        self._escalation = Escalation(
            settings=settings,
            connection=KeptConnection(self._primary),
            node=name,
            trouble=trouble,
            problem=self._problem,
        )
        self._access = Access(
            keys=_key_sources(settings, development),
            rules=_rules(settings, development),
            origins=origin_policy(settings.allowed_origins, production=settings.mode == "production"),
            engine=self._primary,
            standby=self._engine if settings.primary_url else None,
            redis=self._redis,
        )
        self._admission = Admission(
            leases=None
            if self._redis is None
            else Leases(self._redis, most_per_user=settings.max_sockets_per_user),
            most_per_user=settings.max_sockets_per_user,
        )
        self._drain = Drain()
        self._timing = Timing(
            heartbeat_seconds=settings.heartbeat_seconds,
            hello_seconds=settings.timing.hello_seconds,
            send_deadline_seconds=settings.send_deadline_seconds,
            ping_seconds=settings.ping_seconds,
        )
        self._alerts = Alerts(engine=self._primary)
        self.sockets = self._open_sockets()
        self._stream_access = StreamAccess(
            hub=self.hub,
            store=self._store,
            recheck=self._access.recheck,
            admission=self._admission,
            drain=self._drain,
        )
        self._streams = EventStreams(self._stream_access, timing=self._timing)
        self._timer = SocketTimer(
            hub=self.hub,
            sockets=self.sockets,
            recheck=self._access.recheck,
            changes=self._access.changes,
        )
        self._supervisor = Supervisor()

    def _open_sockets(self) -> OpenSockets:
        settings = self.settings
        return OpenSockets(
            hub=self.hub,
            verify=self._access.verifier.verify,
            store=self._store,
            timing=self._timing,
            admission=self._admission,
            anonymous=AnonymousLimit(
                most=settings.max_anonymous_sockets,
                most_per_address=settings.max_anonymous_sockets_per_address,
            ),
            drain=self._drain,
            perform=self._alerts.perform,
        )

    # Routes.

    def routes(self) -> list[BaseRoute]:
        """Everything that this server answers."""
        access = self._access
        authenticate = access.authenticator.require
        sockets = WebSocketEndpoint(sockets=self.sockets, authenticate=access.authenticate_handshake)
        return [
            WebSocketRoute("/ws", sockets),
            Route("/ws", UpgradeRequired(), methods=["GET"]),
            *account.routes(
                hub=self.hub,
                store=self._store,
                engine=self._engine,
                authenticate=authenticate,
                replayed=self._intake.replayed,
            ),
            *alert_routes(
                alerts=self._alerts, authenticate=authenticate, url_problem=self._escalation.url_problem
            ),
            *self._stream_routes(),
            *self._graphql_routes(),
            *credential_routes(
                authenticate=authenticate, tickets=access.tickets, revocations=access.revocations
            ),
            *operation_routes(not_ready=self.not_ready),
            *self._page_routes(),
        ]

    def _page_routes(self) -> list[BaseRoute]:
        folder = STATIC / "demo"
        demonstration = None if self._development is None else self._development.demonstration
        if demonstration is None:
            panel, routes = "", []
        else:
            panel = (folder / "panel.html").read_text("utf-8")
            routes = demonstration.routes(authenticate=self._access.authenticator.require, folder=folder)
        pages = page_routes(
            STATIC, demo_token=self._demo_token(), token_url=self.settings.token_url, panel=panel
        )
        return [*pages, *routes]

    def _stream_routes(self) -> list[BaseRoute]:
        authenticator = self._access.authenticator
        stream = EventStreamEndpoint(self._streams, authenticate=authenticator.from_headers_or_ticket)
        state = StateEndpoint(self._stream_access, authenticate=authenticator.require)
        return [
            Route("/api/v1/stream", stream, methods=["GET"], name="stream"),
            Route("/api/v1/state", state, methods=["GET"], name="state"),
        ]

    def _graphql_routes(self) -> list[BaseRoute]:
        if self.settings.graphql == "off":
            return []
        # The extra `guardwire[graphql]`, which is loaded only where it is asked for.
        from realtime.delivery.graphql.routes import graphql_routes

        return graphql_routes(
            reader=account.SnapshotReader(hub=self.hub, store=self._store),
            streams=self._streams,
            sockets=self.sockets,
            authenticate=self._access.authenticator.require,
            authenticate_handshake=self._access.authenticate_handshake,
        )

    def not_ready(self) -> str | None:
        """Why this node should get no new clients now; None when it should."""
        if self._drain.begun:
            return "draining"
        if self._intake.refusal is not None:
            return self._intake.refusal
        if self.hub.blind(time.monotonic()):
            state = "blind" if self.hub.swept_at > 0 else "starting"
            return f"{state}: {self._intake.trouble or 'the database has not been read lately'}"
        if self._access.revocations.age_seconds is None:
            return "starting: revocations have not been read"
        return None

    def _problem(self) -> str | None:
        """Why this node does not do all of its work, as far as the feed knows; None when it does."""
        quiet_seconds = time.monotonic() - self._intake.housekept_at
        if quiet_seconds > WORKED_SECONDS:
            return "housekeeping has not succeeded lately"
        return self.not_ready()

    def _wake_deliverer(self) -> None:
        self._escalation.deliverer.wake()

    def _demo_token(self) -> Callable[[], str] | None:
        development = self._development
        if development is None or development.demo_user is None:
            return None
        key, user = development.key, development.demo_user
        return lambda: key.issue(user, scopes=(ACK_SCOPE,))

    # Life.

    async def start(self) -> None:
        """Start what runs for ever; a database or Redis that is not there yet is waited for."""
        start = self._supervisor.start
        for name, run in (*self._intake.tasks(), *self._access.tasks(), *self._escalation.tasks()):
            start(name, run)
        start("pulse", self._timer.run)
        start("admission", self._admission.run)
        start("attendance", self._alerts.attendance.run)
        if self._writer is not None:
            start("remember", self._writer.run)
        if self._redis is not None:
            balance = Balance(
                sockets=self.sockets.all,
                nodes=Nodes(self._redis),
                takes_clients=lambda: self.not_ready() is None,
            )
            start("balance", balance.run)

    async def drain(self) -> None:
        """Ask every client to go elsewhere, before the listening socket is closed."""
        production = self.settings.mode == "production"
        await self._drain.run(
            self.sockets.all,
            say_goodbye=Socket.drain,
            cut=Socket.abort,
            notice_seconds=_NOTICE_SECONDS if production else 0.0,
            spread_seconds=_DRAIN_SECONDS,
        )

    async def stop(self) -> None:
        """End every task and connection; what does not end in time is left to the end of the process."""
        endings = [self.sockets.close, self._supervisor.stop, self._intake.close, self._escalation.close]
        endings += [self._engine.dispose, self._primary.dispose]
        endings += [self._access.close, *([] if self._redis is None else [self._redis.aclose])]
        for ending in endings:
            try:
                async with asyncio.timeout(_ENDING_SECONDS):
                    await ending()
            except TimeoutError:
                log.warning("%s did not end within %g s", ending.__qualname__, _ENDING_SECONDS)


def _engines(settings: Settings) -> tuple[AsyncEngine, AsyncEngine]:
    """For reading and for writing: the same one, unless this node reads a standby."""
    size, pooled = settings.database_pool_size, settings.database_pooled
    engine = engine_for(settings.database_url, pool_size=size, pooled=pooled)
    METRICS.primary_up.set(float(not settings.primary_url))
    if not settings.primary_url:
        return engine, engine
    return engine, engine_for(settings.primary_url, pool_size=size, pooled=pooled)


def _rules(settings: Settings, development: Development | None) -> Rules:
    if development is not None:
        return development.key.rules
    return Rules(issuer=settings.jwt_issuer, audiences=settings.jwt_audience)


def _key_sources(settings: Settings, development: Development | None) -> list[KeySource]:
    if development is not None:
        return [development.key.source]
    return key_sources(
        secrets=settings.jwt_secrets,
        jwks_url=settings.jwks_url,
        jwks_refresh_seconds=settings.jwks_refresh_seconds,
    )


def build(settings: Settings, *, development: Development | None = None) -> Application:
    """The whole application, for an ASGI server that runs its lifespan; see `server_for`."""
    return _application(Node(settings, development=development))


def server_for(settings: Settings, *, development: Development | None = None, signals: bool = True) -> Server:
    """A server of the whole application on ``settings.hosts`` and ``settings.port``."""
    node = Node(settings, development=development)
    return Server(
        _application(node),
        host=settings.hosts,
        port=settings.port,
        drain=node.drain,
        trusted_proxies=settings.trusted_proxies,
        max_waiting=settings.max_anonymous_sockets,
        signals=signals,
    )


@contextlib.asynccontextmanager
async def serving(settings: Settings, *, development: Development | None = None) -> AsyncIterator[str]:
    """Serve in this event loop while the context lasts; gives the base URL. Signals are the caller's."""
    server = server_for(settings, development=development, signals=False)
    async with server.running():
        yield f"http://{settings.hosts[0]}:{server.port}"


def _application(node: Node) -> Application:
    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        await node.start()
        try:
            yield
        finally:
            await node.stop()

    return Application(node.routes(), lifespan=lifespan, allowed_origins=node.settings.allowed_origins)
