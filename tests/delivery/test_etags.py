"""Entity tags: which positions count as the same answer."""

from __future__ import annotations

import re

import pytest

from realtime.delivery import etags


@pytest.mark.parametrize(
    "held",
    [
        '"16:7"',
        'W/"16:7"',
        "*",
        " * ",
        '"16:6", "16:7"',
        '"16:6",W/"16:7" , "x"',
        '"a, b", "16:7"',
    ],
)
def test_a_list_that_names_the_tag_in_either_strength_matches(held: str) -> None:
    assert etags.matches(held, etags.strong(16, 7))
    assert etags.matches(held, etags.weak(16, 7))


@pytest.mark.parametrize(
    "held", ["", '"16:8"', '"17:7"', "16:7", '"116:7"', '"16:77"', '"*"', "nonsense", '"16:7', '"16:7:9"']
)
def test_another_tag_or_nonsense_does_not(held: str) -> None:
    assert not etags.matches(held, etags.strong(16, 7))
    assert not etags.matches(held, etags.weak(16, 7))


def test_a_countdown_that_moved_on_is_another_answer() -> None:
    held = etags.weak(16, 7, 42)
    assert etags.matches(held, etags.weak(16, 7, 42))
    assert not etags.matches(held, etags.weak(16, 7, 41))
    assert not etags.matches(etags.weak(16, 7), held)


def test_every_tag_looks_as_the_openapi_document_says() -> None:
    for tag in (etags.strong(0, 0), etags.weak(2**53 - 1, 2**53 - 1), etags.weak(1, 2, 0)):
        assert re.fullmatch(etags.PATTERN, tag)
