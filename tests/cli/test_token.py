"""`guardwire token` prints a token and nothing else, in development mode alone."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from auth.development import DevelopmentKey
from auth.identity import Identity
from auth.tokens import Verifier
from realtime.simulator import demo_user_id
from tests.cli.conftest import Guardwire


async def verify(folder: Path, printed: str) -> Identity:
    key = DevelopmentKey.open(folder)
    return await Verifier(keys=[key.source], rules=key.rules).verify(printed.removesuffix("\n"))


async def test_it_prints_a_token_of_the_demos_first_user_and_nothing_else(
    guardwire: Guardwire, tmp_path: Path
) -> None:
    DevelopmentKey.open(tmp_path)
    done = guardwire("token", GUARDWIRE_DATA=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) == 1
    assert (await verify(tmp_path, done.stdout)).user_id == demo_user_id()


def test_a_key_that_is_new_is_warned_of_once(guardwire: Guardwire, tmp_path: Path) -> None:
    first, second = (guardwire("token", GUARDWIRE_DATA=tmp_path) for _ in range(2))
    assert "warning" in first.stderr
    assert str(tmp_path) in first.stderr
    assert len(first.stdout.split()) == len(second.stdout.split()) == 1
    assert second.stderr == ""


async def test_it_is_made_for_the_given_user_and_lifetime(guardwire: Guardwire, tmp_path: Path) -> None:
    user = uuid4()
    identity = await verify(
        tmp_path, guardwire("token", "--user", str(user), "--ttl", "90", GUARDWIRE_DATA=tmp_path).stdout
    )
    assert identity.user_id == user
    assert 0 < identity.expires_at - time.time() <= 90


async def test_it_carries_the_scopes_that_are_named(guardwire: Guardwire, tmp_path: Path) -> None:
    named = guardwire("token", "--scope", "guards:ack", "--scope", "guards:manage", GUARDWIRE_DATA=tmp_path)
    assert (await verify(tmp_path, named.stdout)).scopes == {"guards:ack", "guards:manage"}
    assert (await verify(tmp_path, guardwire("token", GUARDWIRE_DATA=tmp_path).stdout)).scopes == frozenset()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GUARDWIRE_MODE", "production"),
        ("GUARDWIRE_JWT_SECRET", "a secret"),
        ("GUARDWIRE_JWKS_URL", "https://issuer.example/keys"),
    ],
)
def test_it_refuses_where_the_settings_say_production(
    guardwire: Guardwire, tmp_path: Path, variable: str, value: str
) -> None:
    done = guardwire("token", **{"GUARDWIRE_DATA": tmp_path, variable: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert variable in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_user_that_is_no_uuid_is_a_usage_error(guardwire: Guardwire, tmp_path: Path) -> None:
    done = guardwire("token", "--user", "me", GUARDWIRE_DATA=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "UUID" in done.stderr


def test_the_demos_first_user_is_the_same_for_ever() -> None:
    assert demo_user_id() == UUID("76a33560-4087-584a-a21c-71150e379533")
