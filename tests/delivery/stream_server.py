"""The streams of a node on a real server, fed by the test instead of a database."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect

from auth.authenticator import Authenticator
from auth.development import DevelopmentKey
from auth.identity import Identity
from auth.tokens import Verifier
from guardwire.messages import AlertFrame, Error
from realtime.delivery.alerts import unavailable
from realtime.delivery.drain import Drain
from realtime.delivery.graphql.routes import graphql_routes
from realtime.delivery.http.access import StreamAccess
from realtime.delivery.http.account import SnapshotReader
from realtime.delivery.http.application import Application
from realtime.delivery.http.poll import StateEndpoint
from realtime.delivery.http.stream import EventStreamEndpoint, EventStreams
from realtime.delivery.hub import Hub
from realtime.delivery.limits import Admission, AnonymousLimit
from realtime.delivery.server.deadlines import HttpTiming
from realtime.delivery.server.server import Server
from realtime.delivery.stream import Timing
from realtime.delivery.websocket.connection import Socket
from realtime.delivery.websocket.conversation import OpenSockets
from realtime.delivery.websocket.endpoint import WebSocketEndpoint
from realtime.delivery.websocket.heartbeat import SocketTimer
from realtime.history import Step
from realtime.snapshot import Snapshot
from tests.snapshots import AS_OF, USER

#: Deadlines that a test can wait for.
SHORT: Final = Timing(heartbeat_seconds=1.5, hello_seconds=1.0, send_deadline_seconds=1.0, ping_seconds=1.0)
#: Nothing is due for a minute.
QUIET: Final = Timing(
    heartbeat_seconds=60.0, hello_seconds=60.0, send_deadline_seconds=60.0, ping_seconds=60.0
)


async def _without_database(_: UUID, frame: AlertFrame) -> list[Error]:
    return unavailable(frame)


class StreamServer:
    """A node without a feed: `publish` plays it. Deadlines are short, so that tests need not be long, unless
    it is ``quiet``: then nothing is due for a minute.
    """

    def __init__(
        self,
        *,
        ping_seconds: float = 1.0,
        quiet: bool = False,
        trusted_proxies: tuple[str, ...] = (),
        max_waiting: int = 1000,
        claims_burst: int = 20,
        anonymous: AnonymousLimit | None = None,
        http_timing: HttpTiming | None = None,
    ) -> None:
        timing = QUIET if quiet else dataclasses.replace(SHORT, ping_seconds=ping_seconds)
        self.key = DevelopmentKey(secrets.token_hex(32))
        self.revoked: set[str] = set()
        verifier = self.verifier = Verifier(
            keys=[self.key.source], rules=self.key.rules, is_revoked=self.is_revoked
        )
        #: Which accounts are to be read, one mark after the other.
        self.marks: asyncio.Queue[UUID] = asyncio.Queue()
        self.hub = Hub(mark_dirty=self.marks.put_nowait, stale_seconds=2.0, claims_burst=claims_burst)
        self.admission = Admission(leases=None, most_per_user=3)
        self.drain = Drain()
        self.sockets = OpenSockets(
            hub=self.hub,
            verify=verifier.verify,
            store=None,
            timing=timing,
            admission=self.admission,
            anonymous=anonymous or AnonymousLimit(most=400, most_per_address=300),
            drain=self.drain,
            perform=_without_database,
        )
        self.timer = SocketTimer(
            hub=self.hub,
            sockets=self.sockets,
            recheck=verifier.recheck,
            changes=lambda: len(self.revoked),
        )
        authenticator = Authenticator(verifier=verifier)
        access = StreamAccess(
            hub=self.hub,
            store=None,
            recheck=verifier.recheck,
            admission=self.admission,
            drain=self.drain,
        )
        streams = EventStreams(access, timing=SHORT)
        stream = EventStreamEndpoint(streams, authenticate=authenticator.from_headers_or_ticket)
        state = StateEndpoint(access, authenticate=authenticator.require)
        self._server = Server(
            Application(
                [
                    WebSocketRoute(
                        "/ws",
                        WebSocketEndpoint(sockets=self.sockets, authenticate=authenticator.from_headers),
                    ),
                    Route("/api/v1/stream", stream),
                    Route("/api/v1/state", state, methods=["GET"]),
                    *graphql_routes(
                        reader=SnapshotReader(hub=self.hub, store=None),
                        streams=streams,
                        sockets=self.sockets,
                        authenticate=authenticator.require,
                        authenticate_handshake=authenticator.from_headers,
                    ),
                ]
            ),
            host="127.0.0.1",
            port=0,
            drain=self.leave,
            signals=False,
            trusted_proxies=trusted_proxies,
            max_waiting=max_waiting,
            timing=http_timing,
        )

    async def leave(self) -> None:
        """See `Drain`."""
        await self.drain.run(
            self.sockets.all,
            say_goodbye=Socket.drain,
            cut=Socket.abort,
            notice_seconds=0.0,
            spread_seconds=0.1,
        )

    def is_revoked(self, identity: Identity) -> bool:
        """See `Verifier`."""
        return identity.token_id in self.revoked

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.port}"

    def token(self, user_id: UUID = USER, *, ttl_seconds: float = 3600) -> str:
        """A good token."""
        return self.key.issue(user_id, ttl_seconds=ttl_seconds)

    def headers(self, user_id: UUID = USER, *, ttl_seconds: float = 3600) -> dict[str, str]:
        """The header of a program."""
        return {"Authorization": f"Bearer {self.token(user_id, ttl_seconds=ttl_seconds)}"}

    def connect(self, query: str = "", *, headers: dict[str, str] | None = None) -> connect:
        """A program's WebSocket; without ``headers`` a browser's."""
        return connect(f"ws://{self.address}/ws{query}", additional_headers=headers, compression=None)

    def publish(self, new: Snapshot, base: Snapshot | None = None) -> None:
        """Play the feed, and the sweep that goes with it."""
        now = time.monotonic()
        self.hub.publish([Step(new, base)], as_of=AS_OF, read_at=now)
        self.hub.confirm(AS_OF, now, changed=[])

    def transports(self) -> list[asyncio.Transport]:
        """The transports of all open connections."""
        others = (one.transport for one in self._server.server_state.connections)
        return [*(one.transport for one in self.sockets.all()), *others]

    def clients(self, user_id: UUID = USER) -> int:
        """How many clients of this account are attached."""
        return len(self.hub.reading(user_id).subscribers)

    async def watched(self, user_id: UUID = USER, *, clients: int = 1) -> None:
        """Wait until so many clients are attached."""
        while self.clients(user_id) != clients:
            await asyncio.sleep(0.005)

    async def opened(self, first: Snapshot, connection: ClientConnection) -> None:
        """Publish the first snapshot once its account is watched, and read welcome and snapshot."""
        await self.watched(first.user_id, clients=max(1, self.clients(first.user_id)))
        self.publish(first)
        assert '"welcome"' in str(await connection.recv())
        assert '"snapshot"' in str(await connection.recv())


@contextlib.asynccontextmanager
async def stream_server(
    *,
    ping_seconds: float = 1.0,
    quiet: bool = False,
    trusted_proxies: tuple[str, ...] = (),
    max_waiting: int = 1000,
    anonymous: AnonymousLimit | None = None,
    http_timing: HttpTiming | None = None,
) -> AsyncIterator[StreamServer]:
    """Serve while the context lasts."""
    server = StreamServer(
        ping_seconds=ping_seconds,
        quiet=quiet,
        trusted_proxies=trusted_proxies,
        max_waiting=max_waiting,
        anonymous=anonymous,
        http_timing=http_timing,
    )
    async with server._server.running():
        timer = asyncio.create_task(server.timer.run(), name="timer")
        server.hub.confirm(AS_OF, time.monotonic(), changed=[])
        try:
            yield server
        finally:
            await server.leave()
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
            await server.sockets.close()
