"""Words, codes and symbols are the same in every locale: only ASCII letters are folded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from queries.migrations.run import migrate
from tests.audit.auditing import differences
from tests.databases import Databases
from tests.queries.database_writer import DatabaseWriter, connected


@pytest.fixture(params=["tr-TR", "de-DE", "lt-LT"])
def url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """An empty database of a locale, in which letters have other upper cases than elsewhere."""
    if databases.major_version < 15:
        pytest.skip("databases with a locale of ICU came with PostgreSQL 15")
    url = databases.make(icu_locale=request.param)
    yield url
    databases.drop(url)


@pytest.fixture
async def writer(url: str) -> AsyncIterator[DatabaseWriter]:
    await migrate(url)
    async with connected(url) as connection:
        yield DatabaseWriter(connection)


async def test_keywords_in_capitals_are_read_and_codes_are_folded_as_everywhere(
    writer: DatabaseWriter,
) -> None:
    await writer.sync(ticket=1, event_type="SYNC", direction="BUY", status="FAILED")
    await writer.sync(1, ticket=1, event_type="SYNC", direction="SELL")
    await writer.sync(2, ticket=2, event_type="DIVERGENCE")
    await writer.close(3, ticket=2, event_type="POSITION_CLOSED")
    await writer.guard("PRICE GAP", 100, 115, 4, event_type="GUARD_TRIGGER")
    await writer.equity(1000, 5, currency="inr")
    assert set(await writer.book()) == {"1"}
    assert (await writer.position())["direction"] == "sell"
    guards = (await writer.state())["guards"]
    assert list(guards["alerts"]) == ["XAUUSD:price_gap"]
    assert guards["drawdown"]["currency"] == "INR"
    assert await differences(writer.connection, writer.user_id) == []


@pytest.mark.parametrize("symbol", ["xiusd", "Großbank", "öl", "ﬁat", "İŞ"])
async def test_a_symbol_finds_its_instrument_in_any_case_of_its_ascii_letters(
    writer: DatabaseWriter, symbol: str
) -> None:
    listed = symbol.encode().upper().decode()
    await writer.execute("ALTER TABLE public.instruments DROP CONSTRAINT symbol_is_upper_case")
    await writer.execute(f"INSERT INTO public.instruments VALUES ('{listed}', 100, 0.1, 'USD')")
    await writer.sync(symbol=symbol)
    await writer.equity(1000, 1, currency="öl")
    await writer.rate("öl", "USD", 2, 2)
    position = await writer.position()
    assert (position["contract_size"], position["contract_size_assumed"]) == (100, False)
    await writer.execute("UPDATE public.instruments SET contract_size = 10")
    assert (await writer.position())["contract_size"] == 10
    assert await differences(writer.connection, writer.user_id) == []
