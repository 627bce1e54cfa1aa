"""Every table of PROTOCOL.md agrees with the code, and leaves nothing out."""

from __future__ import annotations

import ast
import asyncio
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import pytest

from auth.claims import MAX_TOKEN_ID_CHARACTERS
from auth.compact import MAX_TOKEN_BYTES
from auth.keys import SharedSecret
from auth.tokens import Verifier
from guardwire import messages, state
from guardwire.endings import from_close
from guardwire.errors import CloseCode
from realtime.delivery.http import poll
from realtime.delivery.http.responses import freshness_headers
from realtime.delivery.limits import MAX_FRAME_BYTES, MAX_FRAMES_PER_SECOND
from realtime.delivery.server.deadlines import HttpTiming
from realtime.delivery.server.request_heads import HEAD_BYTES
from realtime.delivery.websocket.connection import CONTROL_PER_MESSAGE
from realtime.errors import AuthenticationError
from realtime.settings import Settings
from realtime.snapshot import Freshness
from tests.auth.issuer import RULES, SECRET, secret_token
from tests.protocol.document import ROOT, section, table, tables

FRAMES = [*get_args(messages.ClientFrame), *get_args(messages.ServerFrame)]
#: Each struct of the state, by the heading of its description.
STATE_PARTS: dict[str, tuple[int, type[msgspec.Struct]]] = {
    "The whole": (3, state.AccountState),
    "status": (3, state.Status),
    "event": (4, state.Event),
    "positions": (3, state.Positions),
    "position": (4, state.Position),
    "guards": (3, state.Guards),
    "drawdown": (4, state.Drawdown),
    "market alert": (4, state.MarketAlert),
    "breach": (4, state.Breach),
    "alerts": (3, state.Alerts),
    "alert": (4, state.Alert),
    "attendance": (4, state.Attendance),
    "attendant": (4, state.Attendant),
}
NAMES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    messages.Resume: "resume",
    messages.Offers: "offers",
    tuple[state.ChannelName, ...]: "list of channels",
    tuple[str, ...]: "list of texts",
    dict[str, int]: "object of generation by alert",
    dict[messages.AlertId, messages.Generation]: "object of generation by alert",
    dict[str, Any]: "object",
    **{struct: title for title, (_, struct) in STATE_PARTS.items()},
}
KEYS = {
    state.Event: "id",
    state.Position: "ticket",
    state.MarketAlert: "`SYMBOL:condition_type`",
    state.Breach: "id",
    state.Alert: "id",
    state.Attendant: "name",
}


def described(annotation: Any) -> str:
    """A field's type in the words of the tables; "present" covers None among its values."""
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [arm for arm in get_args(annotation) if arm is not type(None)]
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in NAMES:
        return NAMES[annotation]
    if get_origin(annotation) is Literal:
        *values, last = [f"`{value}`" for value in get_args(annotation)]
        return f"{', '.join(values)} or {last}"
    key, value = get_args(annotation)
    assert get_origin(annotation) is dict
    assert key is str
    return f"object of {NAMES[value]} by {KEYS[value]}"


def fields_of(struct: type[msgspec.Struct]) -> dict[str, tuple[str, bool]]:
    """Each field's type in words, and whether it is always present."""
    fields = msgspec.structs.fields(struct)
    return {field.encode_name: (described(field.type), field.required) for field in fields}


def fields_in(rows: list[list[str]]) -> dict[str, tuple[str, bool]]:
    """The same, from a table."""
    told = {name.strip("`"): (words, present == "always") for name, words, present, _ in rows}
    assert len(told) == len(rows), "a field is listed twice"
    return told


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.__name__)
def test_a_frame_has_the_fields_of_its_table(frame: type[msgspec.Struct]) -> None:
    assert fields_in(table(str(frame.__struct_config__.tag), level=4)) == fields_of(frame)


def test_no_frame_is_described_that_does_not_exist() -> None:
    headings = re.findall(r"^#### (.+)$", section_between("## Frames", "## The mirror"), re.MULTILINE)
    assert sorted(headings) == sorted(str(frame.__struct_config__.tag) for frame in FRAMES)


def test_the_position_in_a_hello_has_the_fields_of_its_table() -> None:
    assert fields_in(tables(section("hello", level=4))[1]) == fields_of(messages.Resume)


def test_the_offers_of_a_welcome_have_the_fields_of_their_table() -> None:
    assert fields_in(tables(section("welcome", level=4))[1]) == fields_of(messages.Offers)
    types = {str(frame.__struct_config__.tag) for frame in get_args(messages.AlertFrame)}
    assert set(messages.OFFERED_FRAMES) == types


@pytest.mark.parametrize("title", STATE_PARTS)
def test_a_part_of_the_state_has_the_fields_of_its_table(title: str) -> None:
    level, struct = STATE_PARTS[title]
    assert fields_in(table(title, level=level)) == fields_of(struct)


def test_no_part_of_the_state_is_left_out_or_made_up() -> None:
    structs = {
        value
        for value in vars(state).values()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and not value.__name__.startswith("_")
    }
    assert {struct for _, struct in STATE_PARTS.values()} == structs - {msgspec.Struct}
    headings = re.findall(r"^####? (.+)$", section_between("## The state", "## Freshness"), re.MULTILINE)
    assert headings == list(STATE_PARTS)


def section_between(first: str, after: str) -> str:
    text = (ROOT / "PROTOCOL.md").read_text()
    return text.split(f"\n{first}\n")[1].split(f"\n{after}\n")[0]


def test_the_close_codes_are_those_of_the_code_and_so_is_what_they_ask_of_a_client() -> None:
    rows = table("Close codes", level=2)
    assert {(int(code), name) for code, name, _, _ in rows} == {(code.value, code.name) for code in CloseCode}
    for code, _, _, reconnect in rows:
        verdict = from_close(int(code), "").ending.verdict
        assert (verdict == "refused") == (reconnect == "no"), code
        assert (verdict == "token") == ("with a new token" in reconnect), code


def test_the_clients_take_the_codes_of_the_library_as_documented() -> None:
    text = section("Close codes", level=2)
    final, others = re.search(r"own: (.*) are final; (.*) are not\.", text, re.DOTALL).groups()  # type: ignore[union-attr]
    for words, verdict in ((final, "refused"), (others, "retry")):
        for code in re.findall(r"\b1\d\d\d\b", words):
            assert from_close(int(code), "").ending.verdict == verdict
    assert from_close(4999, "").ending.verdict == "retry"


def claims_that_the_server_reads() -> set[str]:
    """Names of claims: every such text where `auth/claims.py` reads from a token."""
    source = (ROOT / "auth" / "claims.py").read_text()
    read = re.findall(r"""claims(?:\.get\(|\[|, )"(\w+)\"""", source)
    kinds = re.search(r"_KIND_CLAIMS: Final = \((.*)\)", source)
    assert kinds is not None
    return {*read, *re.findall(r'"(\w+)"', kinds[1]), "scope", "scp"}


def test_the_claims_are_those_that_the_server_reads_and_requires() -> None:
    rows = {name.strip("`"): (required, limit) for name, required, _, limit in table("Tokens", level=2)}
    assert set(rows) == claims_that_the_server_reads()
    verifier = Verifier(keys=[SharedSecret(SECRET)], rules=RULES)
    for name, (required, _) in rows.items():
        left_out: dict[str, Any] = {name: ...}
        token = secret_token(**left_out)
        if required == "yes":
            with pytest.raises(AuthenticationError, match=f"The token has no `{name}`."):
                asyncio.run(verifier.verify(token))
        else:
            asyncio.run(verifier.verify(token))
    for name in ("iat", "nbf"):
        assert f"at most {RULES.leeway_seconds:.0f} s ahead" in rows[name][1]
    assert f"at most {RULES.max_lifetime_seconds / 3600:.0f} h after" in rows["exp"][1]
    assert f"1 to {MAX_TOKEN_ID_CHARACTERS} " in rows["jti"][1]
    assert f"at most {MAX_TOKEN_BYTES:,} bytes" in section("Tokens", level=2)


def codes_said_in_error_frames() -> set[str]:
    """The codes in the server's own calls of ``Error(code=…)``."""
    said: set[str] = set()
    for path in (ROOT / "realtime" / "delivery").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Error":
                (code,) = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                if isinstance(code, ast.Constant):
                    said.add(str(code.value))
                else:
                    # In the one call where it is not a literal, a token was refused.
                    assert ast.unparse(code) == "error.code", path
                    said.add(AuthenticationError.code)
    return said


def test_the_error_codes_are_those_that_the_server_says() -> None:
    assert {code.strip("`") for code, _ in table("Error codes", level=2)} == codes_said_in_error_frames()


def test_the_limits_are_the_defaults_of_the_settings() -> None:
    settings = Settings()
    told = {what: (limit, beyond) for what, limit, beyond in table("Limits", level=2)}
    numbers = {what: re.sub(r"\D", "", limit) for what, (limit, _) in told.items()}
    assert numbers == {
        "time to `hello`": f"{settings.timing.hello_seconds:.0f}",
        "connections that have sent no `hello` yet, of one address": str(
            settings.max_anonymous_sockets_per_address
        ),
        "connections that have sent no `hello` yet, in all on a node": str(settings.max_anonymous_sockets),
        "pings, pongs and unfinished fragments from the client": str(
            MAX_FRAMES_PER_SECOND * CONTROL_PER_MESSAGE
        ),
        "request line and headers, of a handshake too": str(HEAD_BYTES),
        "a request with its body; again for the decision on a handshake": f"{HttpTiming().head_seconds:.0f}",
        "frame from the client": str(MAX_FRAME_BYTES),
        "frames from the client": str(MAX_FRAMES_PER_SECOND),
        "connections of a user, all transports and nodes": str(settings.max_sockets_per_user),
        "a socket that takes nothing": f"{settings.send_deadline_seconds:.0f}",
        "quiet time before a ping": f"{settings.ping_seconds:.0f}",
        "frame to the client": "360",
    }
    assert told["time to `hello`"][1] == str(CloseCode.NO_HELLO.value)


def test_the_headers_of_an_answer_are_the_documented_ones() -> None:
    told = {name.strip("`").lower() for name, _ in table("The state, once or waited for", level=3)}
    sent = {name.decode() for name, _ in freshness_headers('"8:1"', 1, Freshness("", 0), stale=False)}
    assert told == sent - {"cache-control", "vary"}
    longest = re.search(r"`wait=` seconds \(0 to (\d+)\)", section("The state, once or waited for", level=3))
    assert longest is not None
    assert float(longest[1]) == poll.MAX_WAIT_SECONDS


def test_every_link_leads_to_a_heading_or_a_file() -> None:
    text = (ROOT / "PROTOCOL.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / target).exists(), target
