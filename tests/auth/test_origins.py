"""Web pages of other sites may connect only when the operator named their origin."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from auth.origins import OriginPolicy, host_is_loopback, is_loopback, parse, policy
from realtime.errors import ConfigurationError
from tests.auth.refused import refused

SAME_ORIGIN = policy([], production=True)
NAMED = policy(["https://app.example", "https://trade.example:8443"], production=True)


def headers(origin: str | None, host: str | None = "guardwire.example") -> Iterable[tuple[bytes, bytes]]:
    if host is not None:
        yield b"host", host.encode()
    if origin is not None:
        yield b"origin", origin.encode()


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
def test_a_program_sends_no_origin_and_passes(scheme: str) -> None:
    SAME_ORIGIN.check(scheme=scheme, headers=headers(None))


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("https://guardwire.example", "wss", "guardwire.example"),
        ("https://guardwire.example", "wss", "guardwire.example:443"),
        ("https://guardwire.example:8443", "https", "guardwire.example:8443"),
        ("http://127.0.0.1:8000", "ws", "127.0.0.1:8000"),
        ("http://[::1]:8000", "ws", "[::1]:8000"),
        ("http://localhost", "ws", "localhost:80"),
        pytest.param(
            "https://guardwire.example", "ws", "guardwire.example", id="behind a proxy that ends TLS"
        ),
        pytest.param("https://GuardWire.example", "wss", "guardwire.EXAMPLE", id="in any case"),
    ],
)
def test_the_servers_own_pages_pass(origin: str, scheme: str, host: str) -> None:
    SAME_ORIGIN.check(scheme=scheme, headers=headers(origin, host))


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        pytest.param("https://evil.example", "wss", "guardwire.example", id="another site"),
        pytest.param("null", "wss", "guardwire.example", id="a sandboxed frame"),
        pytest.param("NULL", "wss", "guardwire.example", id="null in capitals"),
        pytest.param("", "wss", "guardwire.example", id="an empty origin"),
        pytest.param("*", "wss", "guardwire.example", id="a star"),
        pytest.param("file://", "wss", "guardwire.example", id="a file"),
        pytest.param("guardwire.example", "wss", "guardwire.example", id="no scheme"),
        pytest.param("chrome-extension://guardwire.example", "wss", "guardwire.example", id="an extension"),
        pytest.param(
            "https://guardwire.example.evil.example", "wss", "guardwire.example", id="a longer name"
        ),
        pytest.param("https://evilguardwire.example", "wss", "guardwire.example", id="a name that ends so"),
        pytest.param("https://sub.guardwire.example", "wss", "guardwire.example", id="a subdomain"),
        pytest.param("https://guardwire.example:8443", "wss", "guardwire.example", id="another port"),
        pytest.param("http://guardwire.example", "wss", "guardwire.example", id="an insecure page"),
        pytest.param(
            "http://guardwire.example:443", "wss", "guardwire.example:443", id="an insecure page's port"
        ),
        pytest.param("https://x@guardwire.example", "wss", "guardwire.example", id="a user name before ours"),
        pytest.param("https://guardwire.example@evil.example", "wss", "guardwire.example", id="a user name"),
        pytest.param("https://guardwire.example/", "wss", "guardwire.example", id="a final slash"),
        pytest.param("https://guardwire.example/x", "wss", "guardwire.example", id="a path"),
        pytest.param("https://guardwire.example?", "wss", "guardwire.example", id="an empty query"),
        pytest.param("https://guardwire.example#", "wss", "guardwire.example", id="an empty fragment"),
        pytest.param(
            "https://guardwire.example https://evil.example", "wss", "guardwire.example", id="a list"
        ),
        pytest.param("https://guardwire.example", "wss", None, id="no host"),
        pytest.param(
            "https://evil.example", "wss", "evil.example@guardwire.example", id="a host with a user name"
        ),
        pytest.param("https://guardwire.example", "wss", "guardwire.example/..", id="a host with a path"),
    ],
)
def test_other_pages_are_refused(origin: str, scheme: str, host: str | None) -> None:
    with refused("origin"):
        SAME_ORIGIN.check(scheme=scheme, headers=headers(origin, host))


def test_two_origins_or_two_hosts_are_refused() -> None:
    own = [(b"host", b"guardwire.example"), (b"origin", b"https://guardwire.example")]
    SAME_ORIGIN.check(scheme="wss", headers=own)
    for more in ((b"origin", b"https://guardwire.example"), (b"host", b"guardwire.example")):
        with refused("origin"):
            SAME_ORIGIN.check(scheme="wss", headers=[*own, more])


@pytest.mark.parametrize(
    "origin", ["https://app.example", "https://app.example:443", "https://trade.example:8443"]
)
def test_named_pages_pass_wherever_the_server_is(origin: str) -> None:
    NAMED.check(scheme="wss", headers=headers(origin, "guardwire.example"))


@pytest.mark.parametrize(
    "origin",
    ["http://app.example", "https://app.example:8443", "https://trade.example", "https://x.app.example"],
)
def test_pages_that_only_resemble_a_named_one_are_refused(origin: str) -> None:
    with refused("origin"):
        NAMED.check(scheme="wss", headers=headers(origin))


@pytest.mark.parametrize(
    "origin", ["capacitor://localhost", "tauri://localhost", "chrome-extension://abcdef"]
)
def test_an_apps_own_scheme_may_be_named_and_is_nobody_elses(origin: str) -> None:
    """The host of such an origin is anybody's to choose, so it never is the server's own page."""
    named = policy([origin], production=True)
    named.check(scheme="wss", headers=headers(origin, "guardwire.example"))
    host = origin.partition("://")[2]
    for scheme in ("ws", "wss"):
        with refused("origin"):
            SAME_ORIGIN.check(scheme=scheme, headers=headers(origin, host))
        with refused("origin"):
            named.check(scheme=scheme, headers=headers(f"https://{host}", "guardwire.example"))


def test_a_star_lets_every_page_in_while_developing_and_still_not_null() -> None:
    anyone = policy(["*"], production=False)
    assert anyone == OriginPolicy(frozenset(), any_origin=True)
    anyone.check(scheme="ws", headers=headers("https://evil.example"))
    with refused("origin"):
        anyone.check(scheme="ws", headers=headers("null"))


def test_wrong_origins_are_all_reported_at_once() -> None:
    wrong = [
        "*", "null", "app.example", "https://*.example", "https://app.example/", "https://app.example/x",
        "http://app.example", "ftp://app.example", "file://app.example", "capacitor://",
        "wss://app.example", "https://ünicode.example", "https://app.example:99999",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError) as caught:
        policy([*wrong, "https://right.example", "http://localhost:3000"], production=True)
    assert len(caught.value.problems) == len(wrong)
    assert all(
        repr(text) in problem or text == "*"
        for text, problem in zip(wrong, caught.value.problems, strict=True)
    )


def test_insecure_pages_may_be_named_while_developing() -> None:
    policy(["http://app.example"], production=False).check(scheme="ws", headers=headers("http://app.example"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "::1"])
def test_names_of_this_machine_are_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", ""]
)
def test_a_name_of_someone_else_is_not_this_machine_wherever_it_resolves(host: str) -> None:
    assert not is_loopback(host)
    assert not host_is_loopback([(b"host", f"{host}:8000".encode())])


def test_the_host_header_of_a_demo_names_this_machine() -> None:
    assert host_is_loopback([(b"host", b"127.0.0.1:8000")])
    assert host_is_loopback([(b"host", b"localhost")])
    assert not host_is_loopback([])
    assert not host_is_loopback([(b"host", b"localhost"), (b"host", b"localhost")])


def test_an_origin_without_a_port_has_its_schemes() -> None:
    assert parse("https://app.example") == parse("https://app.example:443")
    assert parse("http://app.example") == parse("http://app.example:80")
    assert parse("http://app.example") != parse("https://app.example")
