"""The AsyncAPI 3 document of the stream, made from the types of the frames and the examples of PROTOCOL.md.

python -m tests.protocol.asyncapi > asyncapi.json
"""

from __future__ import annotations

import json
from typing import Any, Final, get_args

import msgspec

from guardwire.messages import SUBPROTOCOL, ClientFrame, ServerFrame
from guardwire.state import CHANNELS, DEFAULT_CHANNELS, AccountState
from tests.protocol.document import blocks

Json = dict[str, Any]

CLIENT_FRAMES: Final = get_args(ClientFrame)
SERVER_FRAMES: Final = get_args(ServerFrame)
#: Frames that only a WebSocket brings.
IN_BAND: Final = ("auth_ok", "move", "ack_ok", "snooze_ok")
_SCHEMAS: Final = "#/components/schemas/"


def document() -> Json:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Guardwire",
            "version": "1.0.0",
            "description": "The live state of one account, pushed. PROTOCOL.md says what the frames mean.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {"socket": _socket(), "events": _events()},
        "operations": _operations(),
        "components": {
            "messages": {tag(frame): _message(frame) for frame in (*CLIENT_FRAMES, *SERVER_FRAMES)},
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def tag(frame: type[msgspec.Struct]) -> str:
    """The value of a frame's ``type``."""
    return str(frame.__struct_config__.tag)


def schemas() -> Json:
    """JSON Schemas of the frames and of all types in the state."""
    _, components = msgspec.json.schema_components(
        (*CLIENT_FRAMES, *SERVER_FRAMES, AccountState), ref_template=_SCHEMAS + "{name}"
    )
    made: Json = without_null(components)
    made["SnapshotFrame"]["properties"]["state"] = {"$ref": _SCHEMAS + "AccountState"}
    return made


def without_null(schema: Any) -> Any:
    """``schema`` with optional fields absent and never null, as on the wire."""
    if isinstance(schema, list):
        return [without_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if not (name == "default" and part is None)}
    if "anyOf" in kept:
        arms = [arm for arm in kept["anyOf"] if arm != {"type": "null"}]
        if len(arms) == 1:
            del kept["anyOf"]
            kept |= arms[0]
    if None in kept.get("enum", ()):
        kept["enum"] = [value for value in kept["enum"] if value is not None]
    return {name: without_null(part) for name, part in kept.items()}


def _servers() -> Json:
    security = [{"$ref": "#/components/securitySchemes/token"}]
    host = {"default": "guardwire.example", "description": "Where it is served."}
    return {
        "production": {
            "host": "{host}",
            "protocol": "wss",
            "variables": {"host": host},
            "security": security,
        },
        "demo": {"host": "127.0.0.1:8000", "protocol": "ws", "security": security},
    }


def _query() -> Json:
    channels = f"Comma-separated choice of {', '.join(CHANNELS)}; {', '.join(DEFAULT_CHANNELS)} without it."
    return {
        "type": "object",
        "properties": {
            "channels": {"type": "string", "description": channels},
            "since": {
                "type": "string",
                "pattern": "^[0-9]{1,16}:[0-9]{1,16}$",
                "description": "epoch:revision held.",
            },
        },
    }


def _socket() -> Json:
    return {
        "address": "/ws",
        "title": "WebSocket",
        "description": f"JSON text frames; the subprotocol {SUBPROTOCOL} may be offered.",
        "messages": {tag(frame): _reference(frame) for frame in (*CLIENT_FRAMES, *SERVER_FRAMES)},
        "bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": "0.1.0"}},
    }


def _events() -> Json:
    return {
        "address": "/api/v1/stream",
        "title": "Server-Sent Events",
        "description": "The same frames, one an event, over plain HTTP. Last-Event-ID resumes.",
        "messages": {tag(frame): _reference(frame) for frame in SERVER_FRAMES if tag(frame) not in IN_BAND},
    }


def _operations() -> Json:
    """From the server's side: it receives the frames of clients."""
    received = {f"receive_{tag(frame)}": _operation("receive", "socket", frame) for frame in CLIENT_FRAMES}
    sent = {f"send_{tag(frame)}": _operation("send", "socket", frame) for frame in SERVER_FRAMES}
    events = {
        f"send_event_{name}": _operation("send", "events", frame)
        for frame in SERVER_FRAMES
        if (name := tag(frame)) not in IN_BAND
    }
    return {**received, **sent, **events}


def _operation(action: str, channel: str, frame: type[msgspec.Struct]) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": _summary(frame),
        "messages": [{"$ref": f"#/channels/{channel}/messages/{tag(frame)}"}],
    }


def _reference(frame: type[msgspec.Struct]) -> Json:
    return {"$ref": f"#/components/messages/{tag(frame)}"}


def _message(frame: type[msgspec.Struct]) -> Json:
    return {
        "name": tag(frame),
        "title": frame.__name__,
        "summary": _summary(frame),
        "payload": {"$ref": _SCHEMAS + frame.__name__},
        "examples": [{"payload": example} for example in examples(tag(frame))],
    }


def _summary(frame: type[msgspec.Struct]) -> str:
    return " ".join((frame.__doc__ or "").replace("``", "`").split())


def examples(name: str) -> list[Json]:
    """The examples of a frame in PROTOCOL.md."""
    lines = [
        line
        for purpose in ("client-frame", "server-frame")
        for block in blocks(purpose)
        for line in block.text.splitlines()
    ]
    return [frame for frame in map(json.loads, lines) if frame["type"] == name]


if __name__ == "__main__":
    print(json.dumps(document(), indent=2, ensure_ascii=False))
