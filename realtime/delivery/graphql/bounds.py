"""How large an operation may be. Its text is bounded before it is validated, and its depth and cost after."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLObjectType,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
)
from graphql.type import SchemaMetaFieldDef, TypeMetaFieldDef

from realtime.delivery.graphql.schema import SCHEMA

#: Bytes of a request, or of a WebSocket's message.
MAX_REQUEST_BYTES: Final = 16_384
MAX_TOKENS: Final = 1_000
#: Fields of one document, fragments counted once. Validation compares fields of one name pairwise.
MAX_FIELDS: Final = 200
MAX_ALIASES: Final = 30
#: The introspection of tools is 15 deep, the state 5.
MAX_DEPTH: Final = 16
#: A field costs 1, and the fields of a list cost this many times.
_ENTRIES: Final = 10
#: The whole account costs 1,100.
MAX_COST: Final = 5_000
#: The introspection of GraphiQL and other tools costs 52,000.
MAX_INTROSPECTION_COST: Final = 60_000
SUBSCRIPTIONS_PER_SOCKET: Final = 5

_INTROSPECTION: Final = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef}


def check_text(document: DocumentNode) -> None:
    """Raise GraphQLError for a document with too many fields or aliases; it need not be valid."""
    stack: list[Node] = list(document.definitions)
    counted: Counter[str] = Counter()
    while stack:
        node = stack.pop()
        if isinstance(node, FieldNode):
            counted["fields"] += 1
            counted["aliases"] += node.alias is not None
        selected: SelectionSetNode | None = getattr(node, "selection_set", None)
        if selected is not None:
            stack += selected.selections
    for what, most in (("fields", MAX_FIELDS), ("aliases", MAX_ALIASES)):
        if counted[what] > most:
            raise GraphQLError(f"A document may have {most} {what}, and this one has {counted[what]}.")


class Size(NamedTuple):
    """The depth of a selection, and what its fields cost: those of the state, and those of the schema itself."""

    depth: int
    cost: int
    introspection_cost: int = 0


def check_size(document: DocumentNode, operation: OperationDefinitionNode) -> None:
    """Raise GraphQLError when a valid ``operation`` is too deep or too expensive."""
    size = size_of(document, operation)
    if size.depth > MAX_DEPTH:
        raise GraphQLError(f"A selection may be {MAX_DEPTH} fields deep, and this one is {size.depth}.")
    for cost, most in ((size.cost, MAX_COST), (size.introspection_cost, MAX_INTROSPECTION_COST)):
        if cost > most:
            raise GraphQLError(f"An operation may cost {most:,}, and this one costs {cost:,}: select less.")


def size_of(document: DocumentNode, operation: OperationDefinitionNode) -> Size:
    """The size of a valid operation, with each fragment counted where it is spread."""
    fragments = {
        each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
    }
    root = SCHEMA.get_root_type(operation.operation)
    assert root is not None
    return _Measure(fragments).of(operation.selection_set, root)


class _Measure:
    """Measures selections; each fragment once, so that fragments which spread each other cost no time."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._measured: dict[str, Size] = {}

    def of(self, selected: SelectionSetNode, kind: Any) -> Size:
        """The size of a selection of ``kind``."""
        depth = cost = introspection_cost = 0
        for node in selected.selections:
            size = self._of_node(node, kind)
            depth = max(depth, size.depth)
            cost += size.cost
            introspection_cost += size.introspection_cost
        return Size(depth, cost, introspection_cost)

    def _of_node(self, node: Any, kind: Any) -> Size:
        if isinstance(node, FieldNode):
            return self._of_field(node, kind)
        if not isinstance(node, FragmentSpreadNode):
            return self.of(node.selection_set, kind)
        name = node.name.value
        if name not in self._measured:
            self._measured[name] = self.of(self._fragments[name].selection_set, kind)
        return self._measured[name]

    def _of_field(self, node: FieldNode, kind: Any) -> Size:
        if node.selection_set is None:
            return Size(1, 1)
        name = node.name.value
        field = _INTROSPECTION.get(name) or kind.fields[name]
        inner = self.of(node.selection_set, get_named_type(field.type))
        assert isinstance(kind, GraphQLObjectType)
        times = _ENTRIES if is_list_type(get_nullable_type(field.type)) else 1
        cost = 1 + times * inner.cost
        if name in _INTROSPECTION:
            return Size(inner.depth + 1, 0, cost)
        return Size(inner.depth + 1, cost, times * inner.introspection_cost)
