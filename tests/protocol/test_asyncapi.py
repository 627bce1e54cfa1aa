"""The AsyncAPI document agrees with the code, and its schemas accept the server's frames."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.client.states import breach, guards, whole
from tests.protocol.asyncapi import CLIENT_FRAMES, SERVER_FRAMES, document, tag
from tests.protocol.document import ROOT, blocks

PUBLISHED: dict[str, Any] = json.loads((ROOT / "asyncapi.json").read_text())
FRAMES = [tag(frame) for frame in (*CLIENT_FRAMES, *SERVER_FRAMES)]


def test_the_published_document_is_the_one_that_the_code_makes() -> None:
    assert document() == PUBLISHED, "run: python -m tests.protocol.asyncapi > asyncapi.json"


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def test_every_reference_leads_somewhere() -> None:
    found = set(references(PUBLISHED))
    assert found
    for reference in found:
        target: Any = PUBLISHED
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_every_frame_is_a_message_of_the_channel_and_of_one_operation() -> None:
    assert sorted(PUBLISHED["components"]["messages"]) == sorted(FRAMES)
    assert sorted(PUBLISHED["channels"]["socket"]["messages"]) == sorted(FRAMES)
    for frame in FRAMES:
        action = "receive" if frame in [tag(each) for each in CLIENT_FRAMES] else "send"
        operation = PUBLISHED["operations"][f"{action}_{frame}"]
        assert operation["action"] == action
        assert operation["messages"] == [{"$ref": f"#/channels/socket/messages/{frame}"}]


def validator(schema: str) -> jsonschema.Draft7Validator:
    root = {"$ref": f"#/components/schemas/{schema}", "components": PUBLISHED["components"]}
    jsonschema.Draft7Validator.check_schema(root)
    return jsonschema.Draft7Validator(root)


@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_has_an_example_that_its_schema_takes(name: str) -> None:
    message = PUBLISHED["components"]["messages"][name]
    assert message["examples"]
    for example in message["examples"]:
        validator(message["title"]).validate(example["payload"])


def test_a_frame_of_a_client_may_have_no_field_that_is_not_there() -> None:
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        validator("Resync").validate({"type": "resync", "now": True})


def test_the_schema_of_the_state_takes_states_and_no_nulls() -> None:
    schema = validator("AccountState")
    (block,) = blocks("state")
    state = json.loads(block.text)
    for good in (state, whole(), {"guards": guards(b1=breach())}, {}):
        schema.validate(good)
    for path in (("status", "error_message"), ("guards", "drawdown", "currency"), ("positions", "open")):
        bad = copy.deepcopy(state)
        inner = bad
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = None
        assert not schema.is_valid(bad), path


def types(part: Any) -> Iterator[Any]:
    if isinstance(part, dict):
        yield part.get("type")
        yield from (value for inner in part.values() for value in types(inner))
    elif isinstance(part, list):
        yield from (value for inner in part for value in types(inner))


def test_no_schema_allows_null() -> None:
    told = list(types(PUBLISHED["components"]["schemas"]))
    assert "string" in told
    assert "null" not in told
