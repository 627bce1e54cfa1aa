"""A wrong configuration ends `serve` before it starts, with all problems at once."""

from __future__ import annotations

import pytest

from realtime.cli.serve import named_after, read_production
from realtime.delivery.limits import MAX_FRAME_BYTES, MAX_FRAMES_PER_SECOND
from realtime.errors import ConfigurationError
from realtime.feed.auditor import AUDIT_ROWS
from realtime.settings import FORMER_SETTINGS, SETTINGS, Settings, ignored
from tests.auth.issuer import AUDIENCE, ISSUER, SECRET

GOOD = {
    "DATABASE_URL": "postgresql://guardwire:dbpassword@db/platform",
    "REDIS_URL": "redis://:redispassword@cache/0",
    "GUARDWIRE_JWT_SECRET": SECRET,
    "GUARDWIRE_JWT_ISSUER": ISSUER,
    "GUARDWIRE_JWT_AUDIENCE": AUDIENCE,
}
SECRETS = (SECRET, "dbpassword", "redispassword")

WRONG = {
    "GUARDWIRE_MODE": "development",
    "DATABASE_URL": "mysql://guardwire:dbpassword@db/platform",
    "LISTEN_DATABASE_URL": "db:5432",
    "DATABASE_POOLED": "perhaps",
    "GUARDWIRE_LOG_CONNECTIONS": "perhaps",
    "GUARDWIRE_DATABASE_POOL_SIZE": "0",
    "REDIS_URL": "http://:redispassword@cache",
    "GUARDWIRE_FANOUT": "multicast",
    "GUARDWIRE_HOST": ", ,",
    "GUARDWIRE_PORT": "65536",
    "GUARDWIRE_JWT_SECRET": "short",
    "GUARDWIRE_JWKS_URL": "ftp://issuer.example/keys",
    "GUARDWIRE_JWKS_REFRESH_SECONDS": "4",
    "GUARDWIRE_PRIMARY_URL": "mysql://primary/db",
    "GUARDWIRE_RELAY_URL": "http://home:6379",
    "GUARDWIRE_JWT_ISSUER": " ",
    "GUARDWIRE_JWT_AUDIENCE": ",",
    "GUARDWIRE_TOKEN_URL": "//elsewhere.example/token",
    "GUARDWIRE_ALLOWED_ORIGINS": "*",
    "GUARDWIRE_HEARTBEAT_SECONDS": "20",
    "GUARDWIRE_SEND_DEADLINE_SECONDS": "nan",
    "GUARDWIRE_PING_SECONDS": "inf",
    "GUARDWIRE_MAX_SOCKETS_PER_USER": "0",
    "GUARDWIRE_MAX_ANONYMOUS_SOCKETS": "many",
    "GUARDWIRE_MAX_ANONYMOUS_SOCKETS_PER_ADDRESS": "-1",
    "GUARDWIRE_AUDIT_SECONDS": "often",
    "GUARDWIRE_TRUSTED_PROXIES": "10.0.0.0/8, everybody",
    "GUARDWIRE_GRAPHQL": "perhaps",
    "GUARDWIRE_WEBHOOK_ALLOW_PRIVATE": "perhaps",
    "GUARDWIRE_WATCHDOG_URL": "checks.example/ping",
    "GUARDWIRE_SERVER_BINARIES": "mine",
    "GUARDWIRE_LOG_LEVEL": "chatty",
    "GUARDWIRE_LOG_FORMAT": "xml",
    "GUARDWIRE_TYPO": "1",
}


def problems(monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]) -> list[str]:
    """The problems that `serve` reports for a good configuration with these changes."""
    for variable, value in (GOOD | changed).items():
        monkeypatch.setenv(variable, value)
    try:
        read_production({})
    except ConfigurationError as error:
        return list(error.problems)
    return []


def test_a_good_one_has_no_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, {}) == []


@pytest.mark.parametrize("variable", WRONG)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    said = problems(monkeypatch, {variable: WRONG[variable]})
    named = "HS256" if variable == "GUARDWIRE_JWT_SECRET" else variable
    assert [each for each in said if named in each] != []
    assert [each for each in said if named not in each and "JWKS" not in each] == []


def test_all_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = problems(monkeypatch, WRONG)
    for variable in WRONG:
        named = "HS256" if variable == "GUARDWIRE_JWT_SECRET" else variable
        assert [each for each in said if named in each], variable
    assert not [each for each in said for secret in SECRETS if secret in each]


def test_several_secrets_are_taken_and_each_must_be_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, {"GUARDWIRE_JWT_SECRET": f"{SECRET[::-1]}, {SECRET}"}) == []
    said = problems(monkeypatch, {"GUARDWIRE_JWT_SECRET": f"{SECRET},short,{SECRET}0,tiny"})
    assert [each.partition(" is too weak")[0] for each in said] == [
        "HS256 secret 2 of 4",
        "HS256 secret 4 of 4",
    ]
    (too_many,) = problems(monkeypatch, {"GUARDWIRE_JWT_SECRET": ",".join([SECRET] * 5)})
    assert "There are 5 HS256 secrets" in too_many
    assert not [each for each in (*said, too_many) if SECRET in each or "tiny" in each]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("channel_binding=prefer&connect_timeout=10&sslmode=require", "sslmode=require"),
        ("keepalives=1&keepalives_idle=30&gssencmode=prefer&sslsni=1", ""),
        ("host=%2Fvar%2Frun&application_name=a%20b", "host=%2Fvar%2Frun&application_name=a%20b"),
        ("options=-c%20jit%3Doff&tcp_user_timeout=5", "options=-c+jit%3Doff"),
        ("channel_binding=require", None),
        ("gssencmode=require", None),
        ("ssl=true", None),
        ("secret=dbpassword", None),
    ],
)
def test_parameters_that_providers_put_into_addresses_are_taken_or_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, asked: str, kept: str | None
) -> None:
    address = "postgresql://guardwire:dbpassword@db.example:5432/platform"
    for variable in ("DATABASE_URL", "LISTEN_DATABASE_URL"):
        said = problems(monkeypatch, {variable: f"{address}?{asked}"})
        if kept is None:
            (sentence,) = said
            assert sentence.startswith(f"{variable} has the parameter {asked.partition('=')[0]}")
            assert "dbpassword" not in sentence
        else:
            assert said == []
            read = read_production({})
            assert getattr(read, variable.lower()) == f"{address}?{kept}".removesuffix("?")
        monkeypatch.delenv(variable)


def test_a_relay_needs_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, {"GUARDWIRE_FANOUT": "relay", "REDIS_URL": "redis://cache"}) == []
    (said,) = problems(monkeypatch, {"GUARDWIRE_FANOUT": "relay", "REDIS_URL": ""})
    assert said.startswith("GUARDWIRE_FANOUT is relay, and REDIS_URL is not set")


@pytest.mark.parametrize("url", ["redis+cluster://:redispassword@a,b", "rediss+sentinel://a,b/prime/1"])
def test_a_relay_refuses_several_servers_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert problems(monkeypatch, {"REDIS_URL": url}) == []
    (said,) = problems(monkeypatch, {"GUARDWIRE_FANOUT": "relay", "REDIS_URL": url})
    assert said.startswith("GUARDWIRE_FANOUT is relay, and REDIS_URL names a Redis Cluster or Sentinel")
    assert "set GUARDWIRE_FANOUT=direct" in said
    assert "redispassword" not in said


@pytest.mark.parametrize("written", [",", " , ,"])
def test_a_list_without_a_secret_is_none(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    said = problems(monkeypatch, {"GUARDWIRE_JWT_SECRET": written})
    assert any("no way to verify" in each for each in said)


def test_what_is_missing_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as missing:
        read_production({})
    for variable in ("DATABASE_URL", "GUARDWIRE_JWT_ISSUER", "GUARDWIRE_JWT_AUDIENCE", "GUARDWIRE_JWKS_URL"):
        assert any(variable in each for each in missing.value.problems)


def test_a_setting_of_a_former_release_is_a_warning_and_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    former = dict.fromkeys(FORMER_SETTINGS, "7")
    assert problems(monkeypatch, former) == []
    assert [warning.split()[0] for warning in ignored(GOOD | former)] == list(FORMER_SETTINGS)
    assert ignored(GOOD) == []


def test_former_settings_are_the_constants_that_the_warning_names() -> None:
    timing = Settings().timing
    constants = (
        AUDIT_ROWS, timing.hello_seconds, MAX_FRAMES_PER_SECOND, MAX_FRAME_BYTES, timing.stale_seconds,
        timing.sweep_seconds,
    )  # fmt: skip
    assert [f"{constant:,.0f}" for constant in constants] == list(FORMER_SETTINGS.values())
    assert timing.sweep_seconds < timing.stale_seconds


def test_a_node_is_named_after_its_port_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    assert named_after(read_production({"port": 8123})).endswith(":8123")


def test_every_setting_of_a_server_has_a_wrong_value_here_or_takes_any() -> None:
    takes_any = {"GUARDWIRE_DATA", "GUARDWIRE_NODE"}
    assert {setting.variable for setting in SETTINGS.values()} - WRONG.keys() == takes_any
