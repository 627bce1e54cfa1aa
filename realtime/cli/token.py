"""`guardwire token`: a token to try things with."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from realtime.cli.development import data_folder, development_key, read_settings
from realtime.cli.migrate import say


def token(
    user: Annotated[
        UUID | None, typer.Option(help="Whose token it is.", show_default="the demo's first user")
    ] = None,
    ttl: Annotated[int, typer.Option(help="How long it is good for.", metavar="SECONDS", min=1)] = 3600,
) -> None:
    """Print a development token, and nothing else.

    It is signed by the key in the data folder (GUARDWIRE_DATA), which only
    a demo with the same folder accepts. Where the folder has no key a new one
    is made, with a warning. Refused where the settings say production.

    [bold]Example[/bold]

    curl -H "Authorization: Bearer $(guardwire token)" http://127.0.0.1:8000/api/v1/guards/status
    """
    from realtime.simulator import demo_user_id

    folder = data_folder(read_settings())
    key = development_key(folder)
    if key.is_new:
        say(f"warning: {folder} had no key, so a new one was made. Only a demo that is started with this")
        say("folder (GUARDWIRE_DATA) from now on accepts the token.")
    print(key.issue(user or demo_user_id(), ttl_seconds=ttl))
