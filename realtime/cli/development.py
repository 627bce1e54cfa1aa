"""Development mode: its settings and its key, and `guardwire token`, which signs with that key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from realtime import settings
from realtime.cli.process import report_progress
from realtime.errors import ConfigurationError
from realtime.settings import Settings

if TYPE_CHECKING:
    from auth.development import DevelopmentKey

#: Settings that exist in production alone.
SIGNS_OF_PRODUCTION = ("GUARDWIRE_JWT_SECRET", "GUARDWIRE_JWKS_URL")


def read_settings() -> Settings:
    """The settings of the environment in development mode; raises ConfigurationError for production settings."""
    named = os.environ.get("GUARDWIRE_MODE", "").strip() == "production"
    signs = [name for name in SIGNS_OF_PRODUCTION if os.environ.get(name, "").strip()]
    if named or signs:
        because = "GUARDWIRE_MODE is production" if named else f"{' and '.join(signs)} is set"
        raise ConfigurationError(
            [f"Development tokens are refused in production, and {because}: ask your identity provider."]
        )
    return settings.read(os.environ, mode="development", host="127.0.0.1")


def default_data_folder(environment: Mapping[str, str]) -> Path:
    """The folder for the demo's data: in the user's state folder, or for root one that other accounts can enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/guardwire")
    return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "guardwire"


def data_folder(read: Settings) -> Path:
    """The folder with the demo's data and key."""
    return (read.data_folder or default_data_folder(os.environ)).expanduser().absolute()


def development_key(folder: Path) -> DevelopmentKey:
    """The key of the data folder, made on first use."""
    from auth.development import DevelopmentKey

    return DevelopmentKey.open(folder)


def token(
    user: Annotated[
        UUID | None, typer.Option(help="User that the token is for.", show_default="the demo's first user")
    ] = None,
    ttl: Annotated[int, typer.Option(help="Lifetime of the token.", metavar="SECONDS", min=1)] = 3600,
    scope: Annotated[
        list[str] | None, typer.Option(help="What the token allows, such as guards:ack; may be repeated.")
    ] = None,
) -> None:
    """Print a development token, and nothing else.

    The key in the data folder (GUARDWIRE_DATA) signs the token, and only a
    demo with the same folder accepts it. In a folder without a key, a new key
    is made, with a warning. Refused when the settings are those of production.

    [bold]Example[/bold]

    curl -H "Authorization: Bearer $(guardwire token)" http://127.0.0.1:8000/api/v1/guards/status
    """
    from realtime.simulator import demo_user_id

    folder = data_folder(read_settings())
    key = development_key(folder)
    if key.is_new:
        report_progress(
            f"warning: {folder} had no key, so a new one was made. Only a demo that is started with this"
        )
        report_progress("folder (GUARDWIRE_DATA) from now on accepts the token.")
    print(key.issue(user or demo_user_id(), ttl_seconds=ttl, scopes=scope or ()))
