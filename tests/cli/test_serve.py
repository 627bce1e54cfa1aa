"""`guardwire serve`: a node in production, or every reason why the settings are refused."""

from __future__ import annotations

import contextlib
import resource
import secrets
import signal
import socket
import subprocess

import httpx
import pytest

from guardwire import __version__
from tests.cli.conftest import ROOT, Guardwire, command, environment
from tests.waiting import wait_until

#: A limit of open files that is so low that a test can reach it.
FEW_FILES = 64

SECRET = secrets.token_urlsafe(48)


def test_every_problem_of_the_configuration_is_reported_at_once(guardwire: Guardwire) -> None:
    done = guardwire(
        "serve",
        GUARDWIRE_PORT="65536",
        GUARDWIRE_SPEED="fast",
        GUARDWIRE_JWT_SECRET="short",
        GUARDWIRE_JWKS_URL="ftp://issuer.example",
        GUARDWIRE_ALLOWED_ORIGINS="*",
        REDIS_URL="localhost:6379",
    )
    assert (done.returncode, done.stdout) == (2, "")
    problems = done.stderr.splitlines()
    assert all(line.startswith("guardwire: ") for line in problems)
    for named in (
        *("GUARDWIRE_PORT", "GUARDWIRE_SPEED", "DATABASE_URL", "REDIS_URL", "GUARDWIRE_JWT_ISSUER"),
        *("GUARDWIRE_JWT_AUDIENCE", "GUARDWIRE_ALLOWED_ORIGINS", "GUARDWIRE_JWKS_URL", "HS256 secret"),
    ):
        assert sum(named in line for line in problems) >= 1, named
    assert "short" not in done.stderr.replace("shorter", "")


def test_a_port_that_is_taken_is_one_sentence(guardwire: Guardwire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = guardwire("serve", "--port", port, **settings("postgresql://nobody@127.0.0.1:9/none"))
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def settings(database_url: str, redis_url: str = "redis://127.0.0.1:9") -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "GUARDWIRE_JWT_SECRET": SECRET,
        "GUARDWIRE_JWT_ISSUER": "https://issuer.example",
        "GUARDWIRE_JWT_AUDIENCE": "guardwire",
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_ends_it(migrated_url: str, redis_url: str, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = subprocess.Popen(
        command("serve", "--port", str(port)),
        env=environment(**settings(migrated_url, redis_url)),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

            def is_ready() -> bool:
                assert server.poll() is None
                try:
                    return client.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(is_ready, seconds=20)
            assert client.get("/api/v1/guards/status").status_code == 401
            for path in (
                "token",
                "webhooks",
                "state",
                "received",
                "bot",
                "spread",
                "webhook",
                "person/message",
            ):
                assert client.get(f"/demo/{path}").status_code == 404
            assert "gw-demo" not in client.get("/").text
        server.send_signal(number)
        _, lines = server.communicate(timeout=15)
        assert server.returncode in (0, -number, 130)
        assert f"Guardwire {__version__} starts, and listens on port {port} of 127.0.0.1" in lines
    finally:
        server.kill()
        server.wait()


def test_it_listens_on_several_addresses(migrated_url: str, redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    hosts = ("127.0.0.1", "127.0.0.2")
    variables = settings(migrated_url, redis_url) | {"GUARDWIRE_HOST": ", ".join(hosts)}
    server = subprocess.Popen(command("serve", "--port", str(port)), env=environment(**variables), cwd=ROOT)

    def are_alive() -> bool:
        assert server.poll() is None
        try:
            return {httpx.get(f"http://{host}:{port}/livez").status_code for host in hosts} == {200}
        except httpx.TransportError:
            return False

    try:
        wait_until(are_alive, seconds=20)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.3:{port}/livez")
    finally:
        server.kill()
        server.wait()


def test_connections_may_fill_all_open_files_that_the_system_grants_not_only_those_of_the_shell(
    migrated_url: str, redis_url: str
) -> None:
    def grant_few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = subprocess.Popen(
        command("serve", "--port", str(port)),
        env=environment(**settings(migrated_url, redis_url)),
        cwd=ROOT,
        preexec_fn=grant_few_files,  # noqa: PLW1509 - no other thread of this test holds a lock
    )
    try:

        def is_alive() -> bool:
            assert server.poll() is None
            try:
                return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_alive, seconds=20)
        with contextlib.ExitStack() as held:
            for _ in range(2 * FEW_FILES):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert is_alive()
    finally:
        server.kill()
        server.wait()
