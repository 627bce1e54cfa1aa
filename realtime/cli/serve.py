"""`guardwire serve`: a node in production."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable
from typing import Annotated

import typer

from guardwire import __version__
from realtime import logs, settings
from realtime.cli.process import allow_many_connections, check_port, collect_garbage_seldom
from realtime.errors import ConfigurationError
from realtime.settings import Settings

log = logging.getLogger(__name__)


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="GUARDWIRE_HOST")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on.", show_default="GUARDWIRE_PORT", min=0, max=65535)
    ] = None,
) -> None:
    """Serve in production, until Ctrl-C or SIGTERM.

    All settings come from the environment. Every problem with them is
    reported at once, with exit code 2, before anything is started.
    Needs DATABASE_URL, migrated (see [bold]guardwire migrate[/bold]).

    [bold]Example[/bold]

    export DATABASE_URL=… REDIS_URL=… GUARDWIRE_JWKS_URL=…
    export GUARDWIRE_JWT_ISSUER=… GUARDWIRE_JWT_AUDIENCE=…
    guardwire serve --host 0.0.0.0
    """
    overrides = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    read = read_production(overrides)
    for host in read.hosts:
        check_port(host, read.port)
    allow_many_connections()
    import app

    logs.configure(
        level=read.log_level,
        style=read.log_format,
        node=read.node or named_after(read),
        connections=read.log_connections,
    )
    for warning in settings.ignored(os.environ):
        log.warning(warning)
    server = app.server_for(read)
    log.info(
        "Guardwire %s starts, and listens on port %d of %s", __version__, read.port, ", ".join(read.hosts)
    )
    collect_garbage_seldom()
    server.run()


def named_after(read: Settings) -> str:
    """The default name of a node: the name of the machine, and the port."""
    return f"{platform.node()}:{read.port}"


def read_production(overrides: dict[str, str | int]) -> Settings:
    """Settings that are valid in production; raises ConfigurationError with every problem of them."""
    problems: list[str] = []
    environment = dict(os.environ)
    while True:
        try:
            read = settings.read(environment, **overrides)
            break
        except ConfigurationError as error:
            if problems:
                raise
            problems += error.problems
            # The settings that can be read are still checked, without the others.
            environment = {
                name: value for name, value in environment.items() if not _is_named(name, problems)
            }
    checks: list[Callable[[], object]] = [lambda: settings.check_production(read), *_auth_checks(read)]
    for check in checks:
        try:
            check()
        except ConfigurationError as error:
            # A variable that could not be read was left out, and is not missing.
            problems += [each for each in error.problems if not _is_missing(each, problems)]
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    return read


def _is_missing(problem: str, named: list[str]) -> bool:
    variable, _, rest = problem.partition(" ")
    return rest.startswith("is not set") and _is_named(variable, named)


def _is_named(variable: str, problems: list[str]) -> bool:
    return any(problem.startswith((f"{variable}=", f"{variable} ")) for problem in problems)


def _auth_checks(read: Settings) -> list[Callable[[], object]]:
    """The checks of the settings for tokens and origins, each of which raises ConfigurationError."""
    from auth.access import key_sources
    from auth.origins import policy

    checks: list[Callable[[], object]] = [lambda: policy(read.allowed_origins, production=True)]
    checks.append(lambda: key_sources(secrets=read.jwt_secrets, jwks_url=""))
    checks.append(lambda: key_sources(secrets=(), jwks_url=read.jwks_url))
    return checks
