"""Limits of REST: the parameters, and the number of requests."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from realtime.delivery.http.parameters import position_id_parameter, symbol_parameter
from realtime.delivery.limits import RateLimit

ANN, BOB = uuid4(), uuid4()


@pytest.mark.parametrize("symbol", ["XAUUSD", "x", "US500.cash", "#AAPL", "BTC-USD", "EUR_USD", "A" * 20])
def test_what_can_name_an_instrument_is_taken(symbol: str) -> None:
    assert symbol_parameter(f"symbol={quote(symbol)}".encode()) == symbol
    assert symbol_parameter(f"_=1&symbol={quote(symbol)}&x".encode()) == symbol


@pytest.mark.parametrize("query", [b"", b"symbl=XAUUSD", b"Symbol=XAUUSD", b"&&", b"="])
def test_without_a_symbol_there_is_none(query: bytes) -> None:
    assert symbol_parameter(query) is None


@pytest.mark.parametrize(
    "query",
    [
        b"symbol",
        b"symbol=",
        b"symbol=" + b"A" * 21,
        b"symbol=XAU%20USD",
        b"symbol=XAU+USD",
        b"symbol=XAU/USD",
        b"symbol=%00",
        b"symbol=XAUUSD%0A",
        b"symbol=%C3%89UR",
        b"symbol=\xff\xfe",
        b"symbol=%FF",
        b"symbol='%3B--",
        b"symbol=A&symbol=B",
        b"symbol=A&symbol=A",
        b"&".join(b"p%d=1" % n for n in range(17)),
    ],
)
def test_what_cannot_is_a_422_that_says_how_to_mend_it(query: bytes) -> None:
    with pytest.raises(HTTPException) as caught:
        symbol_parameter(query)
    assert caught.value.status_code == 422
    assert "symbol" in caught.value.detail or "parameters" in caught.value.detail


@given(st.binary(max_size=200))
def test_no_query_at_all_breaks_it(query: bytes) -> None:
    with contextlib.suppress(HTTPException):
        symbol = symbol_parameter(query)
        assert symbol is None or re.fullmatch(r"[A-Za-z0-9._#-]{1,20}", symbol)


def test_a_position_id_is_a_uuid_in_either_case() -> None:
    text = "0b8f5a52-4f0e-4d6f-9a57-2f1c3f6a7b2e"
    assert position_id_parameter(text) == position_id_parameter(text.upper()) == UUID(text)


@pytest.mark.parametrize(
    "text",
    [
        "opne",
        "1",
        "0b8f5a524f0e4d6f9a572f1c3f6a7b2e",
        "{0b8f5a52-4f0e-4d6f-9a57-2f1c3f6a7b2e}",
        "",
        "0b8f5a52-4f0e-4d6f-9a57-2f1c3f6a7b2e ",
        "٣b8f5a52-4f0e-4d6f-9a57-2f1c3f6a7b2e",
    ],
)
def test_any_other_position_id_is_a_422(text: str) -> None:
    with pytest.raises(HTTPException) as caught:
        position_id_parameter(text)
    assert caught.value.status_code == 422


def test_a_burst_passes_and_requests_beyond_it_get_a_time_to_wait() -> None:
    limit = RateLimit(per_second=2, burst=4)
    assert [limit.wait_seconds(ANN, 100.0) for _ in range(6)] == [0, 0, 0, 0, 1, 1]


def test_the_limit_recovers_at_its_rate() -> None:
    limit = RateLimit(per_second=2, burst=4)
    for _ in range(4):
        assert limit.wait_seconds(ANN, 100.0) == 0
    assert [limit.wait_seconds(ANN, 100.5) for _ in range(2)] == [0, 1]
    assert [limit.wait_seconds(ANN, 200.0) for _ in range(5)] == [0, 0, 0, 0, 1]


def test_waiting_as_long_as_the_answer_says_is_enough() -> None:
    limit = RateLimit(per_second=0.1, burst=1)
    assert limit.wait_seconds(ANN, 100.0) == 0
    wait_seconds = limit.wait_seconds(ANN, 101.5)
    assert limit.wait_seconds(ANN, 101.5 + wait_seconds) == 0


def test_one_user_does_not_use_up_anothers_limit() -> None:
    limit = RateLimit(per_second=1, burst=1)
    assert [limit.wait_seconds(user, 100.0) for user in (ANN, ANN, BOB)] == [0, 1, 0]


def test_users_that_are_idle_are_forgotten() -> None:
    limit = RateLimit(per_second=1, burst=2)
    for n in range(1000):
        limit.wait_seconds(UUID(int=n), 100.0)
    limit.wait_seconds(ANN, 200.0)
    assert len(limit._free_at) == 1
