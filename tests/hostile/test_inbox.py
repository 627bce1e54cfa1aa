"""Attacks on the inbox: what a writer's session can do to the copies of rows, and what their waiting can hold up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from tests.databases import Databases
from tests.hostile.logins import WRITES, Logins, Stage, staged


@pytest.fixture(scope="module")
def logins(databases: Databases, migrated_template: str) -> Iterator[Logins]:
    made = Logins(databases, migrated_template)
    yield made
    made.drop()


@pytest.fixture
async def stage(request: pytest.FixtureRequest, databases: Databases, logins: Logins) -> AsyncIterator[Stage]:
    """A stage for the role that a test names."""
    url = databases.make(like=logins.template)
    try:
        async with staged(logins, url, request.param) as stage:
            yield stage
    finally:
        databases.drop(url)


WRITERS: Final = pytest.mark.parametrize("stage", list(WRITES), indirect=True)

# ---------------------------------------------------------------- what is copied

#: Settings that change how PostgreSQL writes a value as text.
_WRITTEN_FORMS: Final = (
    *(f"extra_float_digits = {digits}" for digits in (-15, -1, 0, 1, 3)),
    *(f"DateStyle = '{style}'" for style in ("ISO, MDY", "SQL, DMY", "German", "Postgres, YMD")),
    *(f"IntervalStyle = '{style}'" for style in ("postgres", "sql_standard", "iso_8601", "postgres_verbose")),
    *(f"TimeZone = '{zone}'" for zone in ("Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu", '<a"b>-3')),
    "bytea_output = 'escape'",
    "lc_numeric = 'C'",
    "lc_monetary = 'C'",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "transform_null_equals = on",
    "row_security = off",
    "plpgsql.extra_errors = 'all'",
)
_FLOATS: Final = """
ALTER TABLE public.reconciliation_logs ALTER volume TYPE double precision, ALTER entry_price TYPE double precision,
    ALTER current_price TYPE double precision;
ALTER TABLE public.equity_snapshots ALTER equity TYPE double precision, ALTER balance TYPE double precision;
ALTER TABLE public.fx_rates ALTER rate TYPE double precision;
ALTER TABLE public.instruments ALTER contract_size TYPE double precision;
ALTER TABLE public.guard_limits ALTER minimum_equity TYPE double precision
"""


@WRITERS
async def test_no_form_of_writing_values_changes_what_is_copied(stage: Stage) -> None:
    """Also where the platform keeps its amounts in floating point."""
    await stage.owner.execute(_FLOATS)
    for form in _WRITTEN_FORMS:
        await stage.attacker.execute(f"SET {form}")
        name = form.partition(" =")[0]
        before = await stage.attacker.fetchval(f"SHOW {name}")
        async with stage.attacker.transaction():
            await stage.write()
            assert await stage.attacker.fetchval(f"SHOW {name}") == before
        await stage.is_right()
        await stage.attacker.execute(f"RESET {name}")
