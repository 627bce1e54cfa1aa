"""The development key: made once, readable by its owner alone, and refused in production."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from auth.development import FILE_NAME, MAX_TTL_SECONDS, DevelopmentKey
from auth.keys import SharedSecret
from auth.tokens import Rules, Verifier
from realtime.errors import ConfigurationError
from tests.auth.issuer import SECRET, USER
from tests.auth.refused import refused


def verifier_of(key: DevelopmentKey) -> Verifier:
    return Verifier(keys=[key.source], rules=key.rules)


async def test_a_token_issued_with_the_key_proves_its_user(tmp_path: Path) -> None:
    key = DevelopmentKey.open(tmp_path)
    identity = await verifier_of(key).verify(key.issue(USER, ttl_seconds=60, scopes=["guardwire:admin"]))
    assert identity.user_id == USER
    assert identity.scopes == {"guardwire:admin"}
    assert 58 <= identity.expires_at - time.time() <= 60


async def test_tokens_outlive_the_process_that_issued_them(tmp_path: Path) -> None:
    token = DevelopmentKey.open(tmp_path).issue(USER)
    assert (await verifier_of(DevelopmentKey.open(tmp_path)).verify(token)).user_id == USER


async def test_tokens_of_two_folders_do_not_mix(tmp_path: Path) -> None:
    token = DevelopmentKey.open(tmp_path / "a").issue(USER)
    with refused("bad_signature", secret=token):
        await verifier_of(DevelopmentKey.open(tmp_path / "b")).verify(token)


async def test_an_expired_token_can_be_issued_for_tests(tmp_path: Path) -> None:
    key = DevelopmentKey.open(tmp_path)
    with refused("expired"):
        await verifier_of(key).verify(key.issue(USER, ttl_seconds=60, now=time.time() - 61))


@pytest.mark.parametrize("ttl_seconds", [0, -1, MAX_TTL_SECONDS + 1, float("nan")])
def test_a_token_that_would_never_be_accepted_is_not_issued(tmp_path: Path, ttl_seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="must live"):
        DevelopmentKey.open(tmp_path).issue(USER, ttl_seconds=ttl_seconds)


def test_the_key_is_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "deeper"
    before = os.umask(0)
    try:
        DevelopmentKey.open(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_a_key_that_others_can_read_is_refused_with_a_remedy(tmp_path: Path) -> None:
    DevelopmentKey.open(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        DevelopmentKey.open(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "short", "guardwire-development-short", "guardwire-development-" + "a" * 31]
)
def test_a_file_that_is_no_key_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / FILE_NAME
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        DevelopmentKey.open(tmp_path)
    assert path.read_text() == text


def test_a_link_in_place_of_the_key_is_not_followed(tmp_path: Path) -> None:
    elsewhere = DevelopmentKey.open(tmp_path / "elsewhere")
    assert elsewhere is not None
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere" / FILE_NAME)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        DevelopmentKey.open(tmp_path)
    dangling = tmp_path / "dangling"
    dangling.mkdir()
    (dangling / FILE_NAME).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        DevelopmentKey.open(dangling)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=str(tmp_path / "file")):
        DevelopmentKey.open(tmp_path / "file")


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        secrets = pool.map(_secret_of, [tmp_path] * 8)
    assert set(secrets) == {_secret_of(tmp_path)}


def _secret_of(folder: Path) -> str:
    return DevelopmentKey.open(folder)._secret


def test_the_text_of_the_file_is_refused_as_a_production_secret(tmp_path: Path) -> None:
    DevelopmentKey.open(tmp_path)
    with pytest.raises(ConfigurationError, match="is a development key"):
        SharedSecret((tmp_path / FILE_NAME).read_text().strip())


async def test_a_development_token_is_nothing_to_a_production_verifier(tmp_path: Path) -> None:
    key = DevelopmentKey.open(tmp_path)
    rules = Rules(issuer="https://issuer.example", audiences=("guardwire",))
    with refused("bad_signature"):
        await Verifier(keys=[SharedSecret(SECRET)], rules=rules).verify(key.issue(USER))
    # The issuer is not the platform's, so the token would be refused even if the keys were the same.
    with refused("wrong_issuer", claims=["iss"]):
        await Verifier(keys=[key.source], rules=rules).verify(key.issue(USER))


def test_the_key_does_not_show_its_secret(tmp_path: Path) -> None:
    key = DevelopmentKey.open(tmp_path)
    assert key._secret not in f"{key!r} {key.source!r} {key.rules!r}"
