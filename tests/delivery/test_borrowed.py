"""Each attribute of uvicorn and websockets that is used and is not documented, by name.

When an upgrade of one of them renames or drops such an attribute, these tests fail before a node does. Then read what
has changed, adapt `realtime/delivery/server` or `websocket/connection.py`, and raise the bound in `pyproject.toml`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.server import ServerProtocol

from realtime.delivery.server.handover import HandoverProtocol
from realtime.delivery.server.http_protocol import HttpProtocol, _Flow
from realtime.delivery.server.request_cycle import RequestCycle
from realtime.delivery.server.server import Server

#: Our class, the class of uvicorn that it extends, and the attributes of that class that ours uses or replaces.
BORROWED: dict[type, tuple[type, set[str]]] = {
    HttpProtocol: (
        HttpToolsProtocol,
        {
            "_should_upgrade",
            "_start_asgi_task",
            "_unset_keepalive_if_required",
            "access_logger",
            "app",
            "app_state",
            "config",
            "connection_lost",
            "connection_made",
            "connections",
            "cycle",
            "data_received",
            "expect_100_continue",
            "flow",
            "headers",
            "logger",
            "loop",
            "on_body",
            "on_headers_complete",
            "on_message_begin",
            "on_message_complete",
            "on_response_complete",
            "parser",
            "pause_writing",
            "pipeline",
            "resume_writing",
            "scope",
            "server_state",
            "transport",
            "url",
        },
    ),
    _Flow: (
        FlowControl,
        {
            "read_paused",
            "resume_reading",
        },
    ),
    RequestCycle: (
        RequestResponseCycle,
        {
            "chunked_encoding",
            "default_headers",
            "disconnected",
            "expected_content_length",
            "flow",
            "keep_alive",
            "message_event",
            "on_response",
            "response_complete",
            "response_started",
            "scope",
            "send",
            "transport",
            "waiting_for_100_continue",
        },
    ),
    HandoverProtocol: (
        WebSocketsSansIOProtocol,
        {
            "app",
            "close_sent",
            "conn",
            "connection_lost",
            "connections",
            "data_received",
            "disconnected",
            "handle_connect",
            "handshake_complete",
            "initial_response",
            "loop",
            "request",
            "run_asgi",
            "scope",
            "send",
            "shutdown",
            "stop_keepalive",
            "transport",
        },
    ),
    Server: (
        uvicorn.Server,
        {
            "capture_signals",
            "handle_exit",
            "serve",
            "servers",
            "should_exit",
            "shutdown",
            "started",
        },
    ),
}

#: Attributes of the parser of websockets.
OF_THE_PARSER = (
    "close_rcvd", "close_sent", "handshake_exc", "max_message_size", "parser_exc", "reject", "state",
)  # fmt: skip


def names(kind: type) -> set[str]:
    """The attributes of `self` that the source of ``kind`` names, and its methods."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        on_self = (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        )
        on_super = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "super()"
        if on_self or on_super:
            found.add(node.attr)  # type: ignore[attr-defined]
    return found - {"__init__"}


@pytest.mark.parametrize("ours", BORROWED, ids=lambda kind: kind.__name__)
def test_what_is_borrowed_of_a_class_is_what_is_named_here(ours: type) -> None:
    base, named = BORROWED[ours]
    assert names(ours) & names(base) == named


def test_the_parser_has_the_attributes_that_are_used() -> None:
    parser = ServerProtocol()
    assert [name for name in OF_THE_PARSER if not hasattr(parser, name)] == []


def test_the_status_lines_of_uvicorn_are_where_they_are_taken_from() -> None:
    assert httptools_impl.STATUS_LINE[200].startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("name", ["uvicorn", "websockets"])
def test_the_bound_of_the_version_is_the_next_minor_one(name: str) -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    (wanted,) = [
        each for each in tomllib.loads(text)["project"]["dependencies"] if each.startswith(f"{name}>=")
    ]
    major, minor = version(name).split(".")[:2]
    assert wanted == f"{name}>={major}.{minor},<{major}.{int(minor) + 1}"
