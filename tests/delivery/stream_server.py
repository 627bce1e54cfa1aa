"""The streams of a node on a real server, fed by the test instead of a database."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from uuid import UUID

from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect

from auth.authenticator import Authenticator
from auth.development import DevelopmentKey
from auth.identity import Identity
from auth.tokens import Verifier
from realtime.delivery.drain import Drain
from realtime.delivery.http.application import Application
from realtime.delivery.http.poll import StateEndpoint
from realtime.delivery.http.stream import EventStreamEndpoint
from realtime.delivery.hub import Hub
from realtime.delivery.limits import Admission, Strangers
from realtime.delivery.server.server import Server
from realtime.delivery.websocket.conversation import Streams
from realtime.delivery.websocket.endpoint import WebSocketEndpoint
from realtime.delivery.websocket.heartbeat import Pulse
from realtime.history import Step
from realtime.snapshot import Snapshot
from tests.snapshots import AS_OF, USER


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
    ) -> None:
        heartbeat_seconds, deadline_seconds = (60.0, 60.0) if quiet else (1.5, 1.0)
        self.key = DevelopmentKey(secrets.token_hex(32))
        self.revoked: set[str] = set()
        verifier = self.verifier = Verifier(
            keys=[self.key.source], rules=self.key.rules, is_revoked=self.is_revoked
        )
        #: Which accounts are to be read, one mark after the other.
        self.marks: asyncio.Queue[UUID] = asyncio.Queue()
        self.hub = Hub(mark_dirty=self.marks.put_nowait, stale_seconds=2.0, claims_burst=claims_burst)
        self.admission = Admission(leases=None, most_per_user=3)
        self.streams = Streams(
            hub=self.hub,
            verify=verifier.verify,
            store=None,
            heartbeat_seconds=heartbeat_seconds,
            admission=self.admission,
            strangers=Strangers(most=400, most_per_address=300),
            max_frames_per_second=10,
        )
        self.drain = Drain(self.streams)
        self.pulse = Pulse(
            hub=self.hub,
            streams=self.streams,
            heartbeat_seconds=heartbeat_seconds,
            hello_seconds=deadline_seconds,
            send_deadline_seconds=deadline_seconds,
            ping_seconds=60.0 if quiet else ping_seconds,
            recheck=verifier.recheck,
            changes=lambda: len(self.revoked),
        )
        authenticator = Authenticator(verifier=verifier)
        stream = EventStreamEndpoint(
            hub=self.hub,
            store=None,
            authenticate=authenticator.from_headers_or_ticket,
            recheck=verifier.recheck,
            drain=self.drain,
            heartbeat_seconds=1.5,
            send_deadline_seconds=1.0,
            admission=self.admission,
        )
        state = StateEndpoint(
            hub=self.hub,
            store=None,
            authenticate=authenticator.require,
            known=authenticator.known,
            recheck=verifier.recheck,
            admission=self.admission,
            drain=self.drain,
        )
        self._server = Server(
            Application(
                [
                    WebSocketRoute(
                        "/ws",
                        WebSocketEndpoint(streams=self.streams, authenticate=authenticator.from_headers),
                    ),
                    Route("/api/v1/stream", stream),
                    Route("/api/v1/state", state, methods=["GET"]),
                ]
            ),
            host="127.0.0.1",
            port=0,
            max_frame_bytes=16_384,
            drain=self.leave,
            signals=False,
            trusted_proxies=trusted_proxies,
            max_waiting=max_waiting,
        )

    async def leave(self) -> None:
        """See `Drain`."""
        await self.drain.run(notice_seconds=0.0, spread_seconds=0.1)

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
        """Of all open connections, of whichever protocol."""
        others = (one.transport for one in self._server.server_state.connections)
        return [*(one.transport for one in self.streams), *others]

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
) -> AsyncIterator[StreamServer]:
    """Serve while the context lasts."""
    server = StreamServer(
        ping_seconds=ping_seconds, quiet=quiet, trusted_proxies=trusted_proxies, max_waiting=max_waiting
    )
    async with server._server.running():
        pulse = asyncio.create_task(server.pulse.run(), name="pulse")
        server.hub.confirm(AS_OF, time.monotonic(), changed=[])
        try:
            yield server
        finally:
            await server.leave()
            pulse.cancel()
            await asyncio.gather(pulse, return_exceptions=True)
            await server.streams.close()
