"""`guardwire watch`: an account's live state in a terminal."""

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
        UUID | None, typer.Option(help="The user, in the demo.", show_default="the first user")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token; it is read again whenever a new token is needed."),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one line of JSON for each change; the default without a terminal."
        ),
    ] = False,
) -> None:
    """Show an account's live state in the terminal, with its age.

    Reads the public stream with the bots' client, so it reconnects, resumes,
    and shows when the state may be out of date. For a demo on this machine it
    makes a token of its own; for any other server it needs --token-file.

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
    except BrokenPipeError:  # the reader of our output has ended
        sys.stderr.close()


def _development(user: UUID | None) -> Callable[[], str]:
    from realtime.simulator import demo_user_id

    key = development_key(data_folder(read_settings()))
    return lambda: key.issue(user or demo_user_id())


async def _watch(url: str, token: Callable[[], str], follow: Callable[[Account], Awaitable[None]]) -> None:
    from guardwire import connect
    from guardwire.state import CHANNELS

    # The screen shows the state of the connection, and the command's last sentence the reason of a failure.
    logging.getLogger("guardwire.client").setLevel(logging.ERROR)
    async with connect(url, token=token, channels=CHANNELS, open_timeout_seconds=OPEN_SECONDS) as account:
        await follow(account)


async def _print_changes(account: Account) -> None:
    async for change in account.changes():
        line = {"path": change.path, "new": change.new, "old": change.old, "revision": change.revision}
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()


async def _draw(account: Account) -> None:
    from rich.live import Live

    from realtime.cli.screen import screen

    # The screen shows the state of the link. Without a handler Python would print the client's warnings over it.
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
