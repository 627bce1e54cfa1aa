"""docs/integration.md: every statement is executed and its outcome compared, and every table agrees with the code."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import pytest

from queries.channels import LIVE_QUERIES
from queries.migrations.existing import READ_COLUMNS
from tests.inbox import apply_inbox
from tests.protocol.document import ROOT, all_blocks, table

TEXT: Final = (ROOT / "docs/integration.md").read_text("utf-8")
ACCOUNT: Final = UUID("0e1550bf-b861-4cc3-875b-4b54a426f907")
#: Columns of the log that a new platform gets, and that Guardwire does not read.
UNREAD: Final = {"signal_id", "approval_id", "slippage_pips", "pnl_percent"}
ANY: Final = "…"

_DEFAULTS: Final = """
SELECT column_name, coalesce(column_default, 'null') FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = 'guard_limits' AND column_name <> 'user_id'
"""
_COMMENTS: Final = """
SELECT c.relname || '.' || a.attname, col_description(c.oid, a.attnum)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = ANY ($1::regclass[])
"""


class Case(NamedTuple):
    """A statement of the page, the cases that it follows, and its outcome."""

    after: tuple[str, ...]
    statement: str
    outcome: dict[str, Any]


def cases() -> dict[str, Case]:
    """The cases of the page by name: a block of SQL with a name, and the block of JSON behind it."""
    found: dict[str, Case] = {}
    named = [block for block in all_blocks(TEXT) if (block.language, block.purpose) != ("sql", "")]
    for statement, outcome in zip(named[::2], named[1::2], strict=True):
        assert (statement.language, outcome.language) == ("sql", "json"), statement.text
        name, _, after = statement.purpose.partition(" after ")
        assert name not in found
        found[name] = Case(tuple(after.split()), statement.text, json.loads(outcome.text))
    return found


CASES: Final = cases()


def chain(name: str) -> Iterator[str]:
    """The statements before a case, and its own."""
    for before in CASES[name].after:
        yield from chain(before)
    yield CASES[name].statement


def differences(expected: Any, found: Any, path: str = "") -> Iterator[str]:
    """The differences between ``found`` and the page; fields that the page does not name are left out."""
    if expected == ANY and found is not None:
        return
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected == {} and found:
            yield f"{path} is not empty: {found}"
        if ANY in expected and len(found) == 1:
            expected = dict(zip(found, expected.values(), strict=True))
        elif ANY in expected:
            # The page means the newest of them.
            expected = {max(found, key=lambda key: found[key]["created_at"]): expected[ANY]}
        for key, value in expected.items():
            yield from differences(value, found.get(key), f"{path}/{key}")
    elif expected != found:
        yield f"{path} is {found!r} and not {expected!r}"


@pytest.fixture
async def connection(migrated_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("name", CASES)
async def test_a_statement_has_the_outcome_that_the_page_says(connection: Any, name: str) -> None:
    for statement in chain(name):
        await connection.execute(statement)
        await apply_inbox(connection)
    (evaluation,) = await LIVE_QUERIES.evaluate(connection, [ACCOUNT])
    ignored = await connection.fetch("SELECT source, reason FROM guardwire.ignored_rows")
    found = {**evaluation.state, "ignored_rows": [list(row) for row in ignored]}
    expected = {"ignored_rows": [], **CASES[name].outcome}
    assert list(differences(expected, found)) == []
    assert await connection.fetchval("SELECT count(*) FROM guardwire.set_aside") == 0


def test_the_page_has_a_case_for_each_thing_that_a_platform_writes() -> None:
    assert {
        "sync", "partial-close", "close", "close-in-place", "divergence", "unmatched", "failed-sync", "gap", "spread",
        "liquidity", "other-condition", "flat-account", "equity", "withdrawal", "rate", "instrument", "limits",
        "no-user", "no-ticket", "no-equity", "no-rate",
    } <= set(CASES)  # fmt: skip
    assert {event for event, *_ in event_types()} >= set(
        re.findall(r"'(sync|close|divergence|unmatched_position|guard_trigger)'", TEXT)
    )


async def test_the_statements_without_a_name_are_ones_that_run(connection: Any) -> None:
    loose = [block for block in all_blocks(TEXT) if (block.language, block.purpose) == ("sql", "")]
    assert loose
    for block in loose:
        await connection.fetch(block.text)


def event_types() -> list[tuple[str, str, str]]:
    return [
        (event.strip("`"), about, counts)
        for event, about, counts in table("Event types", level=3, text=TEXT)
        if event.startswith("`")
    ]


async def test_the_event_types_are_read_as_the_page_says(connection: Any) -> None:
    kinds = {"an open position": "open", "a close": "close", "a market condition": "guard"}
    for event, about, counts in event_types():
        row = json.dumps({"event_type": event})
        read = await connection.fetchrow(
            "SELECT r.kind, r.is_sync, r.matched FROM guardwire.read_log($1::jsonb, now(), 0, 0, true) AS r",
            row,
        )
        assert read["kind"] == kinds[about.partition(";")[0]], event
        assert read["is_sync"] == (counts == "yes"), event
        assert (read["matched"] == 2) == ("`matched` is 2" in about), event
    assert await connection.fetchval("SELECT guardwire.log_kind('margin_call', NULL)") is None
    assert await connection.fetchval("SELECT guardwire.log_kind('sync', 'tp')") == "close"


def columns(name: str) -> dict[str, list[str]]:
    """The cells of each column in the table of a table's columns."""
    rows = table(f"Columns of {name}", level=3, text=TEXT)
    return {column.strip("`"): rest for column, *rest in rows}


@pytest.mark.parametrize("name", READ_COLUMNS)
def test_every_column_that_is_read_is_described_with_the_types_that_it_may_have(name: str) -> None:
    groups = {
        word.strip("`"): {"enum"} if word == "`enum`" else set(re.findall(r"`([^`]+)`", types))
        for word, types in table("Types", level=3, text=TEXT)
    }
    described = {
        column: {each for word in cells[0].split(", ") for each in groups[word]}
        for column, cells in columns(name).items()
        if cells[0]
    }
    assert described == READ_COLUMNS[name]


async def test_every_column_of_a_new_platforms_tables_is_described_and_has_a_comment(connection: Any) -> None:
    comments = dict(await connection.fetch(_COMMENTS, [f"public.{name}" for name in READ_COLUMNS]))
    assert set(comments) == {f"{name}.{column}" for name in READ_COLUMNS for column in columns(name)}
    assert [column for column, comment in comments.items() if not comment] == []
    assert {column for column, cells in columns("reconciliation_logs").items() if not cells[0]} == UNREAD


async def test_the_defaults_of_limits_are_those_that_the_page_says(connection: Any) -> None:
    described = {column: cells[1] for column, cells in columns("guard_limits").items() if column != "user_id"}
    assert described == dict(await connection.fetch(_DEFAULTS))
