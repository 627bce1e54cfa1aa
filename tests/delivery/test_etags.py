"""Entity tags: which positions count as the same answer."""

from __future__ import annotations

import re

import pytest

from realtime.delivery.http.responses import TAG_PATTERN, is_tag_named, strong_tag, weak_tag


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
    assert is_tag_named(held, strong_tag(16, 7))
    assert is_tag_named(held, weak_tag(16, 7))


@pytest.mark.parametrize(
    "held", ["", '"16:8"', '"17:7"', "16:7", '"116:7"', '"16:77"', '"*"', "nonsense", '"16:7', '"16:7:9"']
)
def test_another_tag_or_nonsense_does_not(held: str) -> None:
    assert not is_tag_named(held, strong_tag(16, 7))
    assert not is_tag_named(held, weak_tag(16, 7))


def test_a_countdown_that_moved_on_is_another_answer() -> None:
    held = weak_tag(16, 7, 42)
    assert is_tag_named(held, weak_tag(16, 7, 42))
    assert not is_tag_named(held, weak_tag(16, 7, 41))
    assert not is_tag_named(weak_tag(16, 7), held)


def test_every_tag_looks_as_the_openapi_document_says() -> None:
    for tag in (strong_tag(0, 0), weak_tag(2**53 - 1, 2**53 - 1), weak_tag(1, 2, 0)):
        assert re.fullmatch(TAG_PATTERN, tag)
