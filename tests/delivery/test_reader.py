"""A reader may only be let go of where a new one would know the same."""

from __future__ import annotations

import pytest

from realtime.delivery.websocket.connection import Allowance, Reader
from tests.hostile.wire import CLOSE, CONT, PING, PONG, TEXT, frame

#: Each is whole, and between it and the next there is nothing.
WHOLE = {
    "a short text": frame(TEXT, b"{}"),
    "no text": frame(TEXT),
    "a text with a long head": frame(TEXT, b"x" * 200),
    "a text with the longest head": frame(TEXT, b"x" * 200, width=8),
    "a ping": frame(PING, b"12"),
    "the answer to a ping": frame(PONG),
    "a pong with something in it": frame(PONG, b"123"),
    "fragments with a ping among them": frame(TEXT, b"a", fin=False) + frame(PING) + frame(CONT, b"b"),
}


def taken(reader: Reader, sent: bytes) -> tuple[list[bytes], list[bytes]]:
    """Whole messages, and what is to be written in answer."""
    return list(reader.messages(sent, Allowance(1000, 0.0))), reader.parser.data_to_send()


def after(sent: bytes) -> Reader:
    """A reader after ``sent``, of which everything was taken that it gives."""
    reader = Reader(16_384)
    taken(reader, sent)
    return reader


def test_a_new_reader_is_at_rest() -> None:
    assert Reader(16_384).is_at_rest()


@pytest.mark.parametrize("whole", WHOLE)
def test_it_is_at_rest_after_a_whole_message_and_at_no_byte_of_it(whole: str) -> None:
    sent = WHOLE[whole]
    assert [end for end in range(1, len(sent) + 1) if after(sent[:end]).is_at_rest()] == [len(sent)]


@pytest.mark.parametrize("whole", WHOLE)
def test_what_comes_next_is_taken_by_a_new_one_as_by_the_old(whole: str) -> None:
    old, new = after(WHOLE[whole]), Reader(16_384)
    for sent in WHOLE.values():
        assert taken(old, sent) == taken(new, sent)


@pytest.mark.parametrize(
    "end", [frame(CLOSE), frame(TEXT, b"x" * 20_000), frame(PING, fin=False), frame(PONG, mask=False)]
)
def test_a_connection_that_is_ending_keeps_its_reader(end: bytes) -> None:
    assert not after(end).is_at_rest()
