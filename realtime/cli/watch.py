"""`guardwire watch`: an account's live state for people who live in a shell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import typer

from realtime.cli.development import data_folder, development_key, read_settings
from realtime.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from guardwire import Account

#: Ages are shown to a tenth of a second, so they are drawn about as often.
REDRAW_SECONDS: Final = 0.2
OPEN_SECONDS: Final = 10.0


def watch(
    url: Annotated[
        str | None, typer.Argument(help="The server.", show_default="the demo's, http://127.0.0.1:8000")
    ] = None,
    user: Annotated[
        UUID | None, typer.Option(help="Whose account of the demo.", show_default="the first user")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File to read the token from, again whenever a new one is needed.")
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="One line of JSON a change, as also when the output is no terminal."),
    ] = False,
) -> None:
    """Show an account's live state in the terminal, and how far it is to be trusted.

    Reads the public stream with the bots' client, so it reconnects, resumes,
    and says when it does not know. For a demo on this machine it makes its
    own token; for any other server it takes one from --token-file.

    [bold]Example[/bold]

    guardwire watch https://guardwire.example --token-file token.txt

    guardwire watch --json | grep should_close
    """
    url = url or f"http://127.0.0.1:{os.environ.get('GUARDWIRE_PORT', '').strip() or '8000'}"
    if token_file is None and urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigurationError([f"{url} is no demo on this machine: name its token with --token-file."])
    token = _development(user) if token_file is None else token_file.read_text
    follow = _print_changes if json or not sys.stdout.isatty() else _draw
    try:
        asyncio.run(_watch(url, token, follow))
    except ValueError as error:
        raise ConfigurationError([f"{error}."]) from error
    except TimeoutError as error:
        raise UnavailableError(f"{url} has not answered: is it running?") from error
    except BrokenPipeError:  # whoever read our lines has had enough
        sys.stderr.close()


def _development(user: UUID | None) -> Callable[[], str]:
    from realtime.simulator import demo_user_id

    key = development_key(data_folder(read_settings()))
    return lambda: key.issue(user or demo_user_id())


async def _watch(url: str, token: Callable[[], str], follow: Callable[[Account], Awaitable[None]]) -> None:
    from guardwire import connect

    # The screen shows the state of the connection, and the command's last sentence says why there is none.
    logging.getLogger("guardwire.client").setLevel(logging.ERROR)
    async with connect(url, token=token, open_timeout_seconds=OPEN_SECONDS) as account:
        await follow(account)


async def _print_changes(account: Account) -> None:
    async for change in account.changes():
        line = {"path": change.path, "new": change.new, "old": change.old, "revision": change.revision}
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()


async def _draw(account: Account) -> None:
    from rich.live import Live

    from realtime.cli.screen import screen

    # The screen shows the link's state; without a handler, Python would write the client's warnings across it.
    logging.getLogger("guardwire").addHandler(logging.NullHandler())
    changed = asyncio.Event()

    async def follow() -> None:
        async for _ in account.changes():
            changed.set()

    with Live(screen=True, auto_refresh=False) as live:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow(), name="follow")
            while not following.done():
                live.update(
                    screen(
                        account.state,
                        status=account.status,
                        age_seconds=account.age,
                        transport=account.transport,
                    ),
                    refresh=True,
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), REDRAW_SECONDS)
                changed.clear()
