"""The routes of `/graphql`."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route, WebSocketRoute

from realtime.delivery.graphql.endpoint import GraphQLEndpoint
from realtime.delivery.graphql.operations import Operations
from realtime.delivery.graphql.transport_ws import GraphQLSocketEndpoint
from realtime.delivery.http.account import SnapshotReader
from realtime.delivery.http.parameters import Authenticate
from realtime.delivery.http.stream import EventStreams
from realtime.delivery.websocket.conversation import OpenSockets
from realtime.delivery.websocket.endpoint import AuthenticateHandshake

PATH = "/graphql"


def graphql_routes(
    *,
    reader: SnapshotReader,
    streams: EventStreams,
    sockets: OpenSockets,
    authenticate: Authenticate,
    authenticate_handshake: AuthenticateHandshake,
) -> list[BaseRoute]:
    """Queries and event streams by POST, and WebSockets, at one path."""
    operations = Operations()
    endpoint = GraphQLEndpoint(
        reader=reader, streams=streams, operations=operations, authenticate=authenticate
    )
    socket = GraphQLSocketEndpoint(
        sockets=sockets, authenticate=authenticate_handshake, operations=operations
    )
    return [WebSocketRoute(PATH, socket), Route(PATH, endpoint, methods=["POST"], name="graphql")]
