"""The schema of `/graphql`, generated from the structs of the public state (`guardwire/state.py`), so that the two
cannot differ.

A field of a struct is a field of a type, in camel case. A dictionary is a list, whose entries carry their key in a
field of its own, the newest entry first. A value that is absent in the state is null.

    python -m realtime.delivery.graphql.schema > schema.graphql
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
    print_schema,
)

from guardwire.patch import State
from guardwire.state import (
    CHANNELS,
    DEFAULT_CHANNELS,
    AccountState,
    Alert,
    Attendant,
    Breach,
    ConditionType,
    Event,
    EventType,
    MarketAlert,
    Position,
)
from realtime.delivery.graphql.book import find_position, restrict
from realtime.delivery.http.responses import FRESH_MS
from realtime.delivery.watched_account import UNKNOWN_AGE_MS
from realtime.snapshot import Channels, Freshness, Snapshot


class EntryKey(NamedTuple):
    """How entries of a dictionary are listed: the field that carries the key, and the one that says how new it is."""

    name: str
    time: str


#: The structs that stand in dictionaries; a new one is given its key here.
KEYS: Final[dict[type, EntryKey]] = {
    Alert: EntryKey("id", "raised_at"),
    Attendant: EntryKey("name", "since"),
    Breach: EntryKey("id", "raised_at"),
    Event: EntryKey("id", "created_at"),
    MarketAlert: EntryKey("id", "detected_at"),
    Position: EntryKey("ticket", "entry_time"),
}
#: The enumerations that several structs share; others are named for their struct and field.
_SHARED_ENUMERATIONS: Final = {EventType: "EventType", ConditionType: "ConditionType"}

_LONG: Final = GraphQLScalarType(
    "Long", description="A whole number below 2^53, as a JSON number: GraphQL's Int ends at 2^31."
)
_JSON: Final = GraphQLScalarType("JSON", description="Any JSON value, as it is.")
_SCALARS: Final[dict[type, GraphQLScalarType]] = {
    bool: GraphQLBoolean,
    float: GraphQLFloat,
    int: _LONG,
    str: GraphQLString,
}

#: Gives the value of a field: of its source, GraphQL's info (None in a `Plan`), and the arguments by name.
Resolve = Callable[..., Any]


@dataclass(frozen=True)
class Shown:
    """The source of an answer: a snapshot, its freshness, and the snapshot that a patch begins at, None for a whole."""

    snapshot: Snapshot
    fresh: Freshness
    is_stale: bool
    base: Snapshot | None = None

    @cached_property
    def state(self) -> State:
        """Every channel of the snapshot, which would be unpacked each time."""
        return self.snapshot.state


class Part(NamedTuple):
    """A part of the state, and its key where it stands in a dictionary."""

    state: State
    key: str = ""


class _Types:
    """Makes the GraphQL types of structs, each once."""

    def __init__(self) -> None:
        self._objects: dict[type, GraphQLObjectType] = {}
        self._enumerations: dict[str, GraphQLEnumType] = {}

    def object_of(self, struct: type[msgspec.Struct]) -> GraphQLObjectType:
        """The type of ``struct``, with the field of its key where it has one."""
        known = self._objects.get(struct)
        if known is None:
            fields = {}
            if struct in KEYS:
                fields[KEYS[struct].name] = GraphQLField(GraphQLNonNull(GraphQLID), resolve=_key)
            for field in msgspec.structs.fields(struct):
                fields[camel_case(field.name)] = self.field_of(struct, field)
            known = GraphQLObjectType(struct.__name__, fields, description=_description(struct))
            self._objects[struct] = known
        return known

    def field_of(self, struct: type, field: msgspec.structs.FieldInfo) -> GraphQLField:
        """The field of a type for ``field`` of ``struct``: null only where the state has no value and no default."""
        kind = _without_none(field.type)
        default = None if field.default is msgspec.NODEFAULT else field.default
        is_optional = kind is not field.type
        if get_origin(kind) is dict:
            entry = get_args(kind)[1]
            output: Any = GraphQLList(GraphQLNonNull(self.object_of(entry)))
            resolve = _entries(field.name, KEYS[entry].time)
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            output, resolve = self.object_of(kind), _part(field.name)
        else:
            output, resolve = self._leaf(struct, field.name, kind), _value(field.name, default)
        return GraphQLField(output if is_optional else GraphQLNonNull(output), resolve=resolve)

    def _leaf(self, struct: type, name: str, kind: Any) -> GraphQLScalarType | GraphQLEnumType:
        if get_origin(kind) is not Literal:
            return _SCALARS[kind]
        values = get_args(kind)
        if not all(isinstance(value, str) for value in values):
            return _LONG
        title = _SHARED_ENUMERATIONS.get(kind) or struct.__name__ + camel_case(f"_{name}")
        if title not in self._enumerations:
            self._enumerations[title] = GraphQLEnumType(title, {value: value for value in values})
        return self._enumerations[title]


def _without_none(kind: Any) -> Any:
    """``kind`` without None; the same object where it has none."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    (rest,) = (each for each in get_args(kind) if each is not NoneType)
    return rest


def camel_case(name: str) -> str:
    """``name`` as GraphQL writes it: ``pnl_currency`` is ``pnlCurrency``."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def _description(struct: type) -> str:
    return (inspect.getdoc(struct) or "").replace("``", "`")


def _key(part: Part, info: object) -> str:
    return part.key


def _value(name: str, default: object) -> Resolve:
    return lambda part, info: part.state.get(name, default)


def _part(name: str) -> Resolve:
    return lambda part, info: None if (state := part.state.get(name)) is None else Part(state)


def _entries(name: str, time: str) -> Resolve:
    def resolve(part: Part, info: object) -> list[Part] | None:
        entries: dict[str, State] | None = part.state.get(name)
        if entries is None:
            return None
        newest_first = sorted(entries.items(), key=lambda entry: (entry[1][time], entry[0]), reverse=True)
        return [Part(state, key) for key, state in newest_first]

    return resolve


# The account, which carries the state and what is known about it.


def _as_of(shown: Shown, info: object) -> str | None:
    return shown.fresh.as_of or None


def _age_ms(shown: Shown, info: object) -> int | None:
    return None if shown.fresh.age_ms >= UNKNOWN_AGE_MS else shown.fresh.age_ms


def _is_stale(shown: Shown, info: object) -> bool:
    return shown.is_stale or shown.fresh.age_ms > FRESH_MS


def _channel(name: str) -> Resolve:
    return lambda shown, info: Part(shown.state[name])


def _positions(shown: Shown, info: object, symbol: str | None = None) -> Part:
    positions = shown.state["positions"]
    return Part(positions if symbol is None else restrict(positions, symbol))


def _position(shown: Shown, info: object, id: str) -> Part | None:  # noqa: A002 - the name of GraphQL's argument
    found = find_position(shown.state["positions"], id)
    return None if found is None else Part(found[1], found[0])


def _base(shown: Shown, info: object) -> int | None:
    return None if shown.base is None else shown.base.revision


def _patch(shown: Shown, info: object, channels: Channels) -> msgspec.Raw:
    wanted = tuple(channel for channel in CHANNELS if channel in channels)
    if shown.base is None:
        return msgspec.Raw(shown.snapshot.encoded(wanted))
    if shown.base is shown.snapshot:
        return msgspec.Raw(b"{}")
    return msgspec.Raw(shown.snapshot.patch_from(shown.base, wanted))


_PATCH: Final = (
    "A JSON Merge Patch (RFC 7396) that leads from the state at `base` to this one, with the names of `/ws`;"
    " without a base the whole state, which replaces what is held."
)
_AGE: Final = "Milliseconds since `asOf`, by a monotonic clock; null where that is not known."
_FOUND: Final = "The open position of this `positionId`; null where none has it."


def _account() -> GraphQLObjectType:
    types = _Types()
    names: tuple[str, ...] = CHANNELS
    channel = GraphQLEnumType("Channel", {name: name for name in names})
    known = {
        "userId": GraphQLField(
            GraphQLNonNull(GraphQLID), resolve=lambda shown, info: str(shown.snapshot.user_id)
        ),
        "epoch": GraphQLField(
            GraphQLNonNull(_LONG),
            description="The number of the database's history; revisions of two epochs do not compare.",
            resolve=lambda shown, info: shown.snapshot.epoch,
        ),
        "revision": GraphQLField(
            GraphQLNonNull(_LONG),
            description="The number of the account's last change; equal revisions mean equal state.",
            resolve=lambda shown, info: shown.snapshot.revision,
        ),
        "asOf": GraphQLField(
            GraphQLString,
            description="The database's time when it last showed this to be the newest state.",
            resolve=_as_of,
        ),
        "ageMs": GraphQLField(_LONG, description=_AGE, resolve=_age_ms),
        "stale": GraphQLField(
            GraphQLNonNull(GraphQLBoolean),
            description="The server itself doubts the state, or it is older than 5 s.",
            resolve=_is_stale,
        ),
        **{
            name: GraphQLField(GraphQLNonNull(types.object_of(_struct_of(name))), resolve=_channel(name))
            for name in names
        },
        "positions": GraphQLField(
            GraphQLNonNull(types.object_of(_struct_of("positions"))),
            args={"symbol": GraphQLArgument(GraphQLString, description="Only this one; totals are of it.")},
            resolve=_positions,
        ),
        "position": GraphQLField(
            types.object_of(Position),
            args={"id": GraphQLArgument(GraphQLNonNull(GraphQLID))},
            description=_FOUND,
            resolve=_position,
        ),
        "base": GraphQLField(
            _LONG, description="The revision that `patch` begins at; null for a whole.", resolve=_base
        ),
        "patch": GraphQLField(
            GraphQLNonNull(_JSON),
            args={
                "channels": GraphQLArgument(
                    GraphQLNonNull(GraphQLList(GraphQLNonNull(channel))), default_value=list(DEFAULT_CHANNELS)
                )
            },
            description=_PATCH,
            resolve=_patch,
        ),
    }
    return GraphQLObjectType("Account", known, description="The account of the token, at one revision.")


def _struct_of(channel: str) -> Any:
    (field,) = (each for each in msgspec.structs.fields(AccountState) if each.name == channel)
    return _without_none(field.type)


def _schema() -> GraphQLSchema:
    account = GraphQLField(GraphQLNonNull(_account()), resolve=lambda shown, info: shown)
    return GraphQLSchema(
        query=GraphQLObjectType("Query", {"account": account}),
        subscription=GraphQLObjectType(
            "Subscription",
            {"account": account},
            description="The account now, and again after each change of what is selected.",
        ),
    )


#: The schema; its resolvers take a `Shown`.
SCHEMA: Final = _schema()


def schema_text() -> str:
    """The schema in GraphQL's language, as `schema.graphql` holds it."""
    return print_schema(SCHEMA) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
