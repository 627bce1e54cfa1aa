"""What the commands for developers share: the settings of a machine that serves nobody else, and its key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from realtime import settings
from realtime.embedded import default_data_folder
from realtime.errors import ConfigurationError
from realtime.settings import Settings

if TYPE_CHECKING:
    from auth.development import DevelopmentKey

#: What only somebody who means production sets.
SIGNS_OF_PRODUCTION = ("GUARDWIRE_JWT_SECRET", "GUARDWIRE_JWKS_URL")


def read_settings() -> Settings:
    """The environment's settings in development mode; ConfigurationError where they say production."""
    named = os.environ.get("GUARDWIRE_MODE", "").strip() == "production"
    signs = [name for name in SIGNS_OF_PRODUCTION if os.environ.get(name, "").strip()]
    if named or signs:
        because = "GUARDWIRE_MODE is production" if named else f"{' and '.join(signs)} is set"
        raise ConfigurationError(
            [f"Development tokens are refused in production, and {because}: ask your identity provider."]
        )
    return settings.read(os.environ, mode="development", host="127.0.0.1")


def data_folder(read: Settings) -> Path:
    """Where the demo keeps its data and its key."""
    return (read.data_folder or default_data_folder(os.environ)).expanduser().absolute()


def development_key(folder: Path) -> DevelopmentKey:
    """The key of the data folder; made when it is missing."""
    from auth.development import DevelopmentKey

    return DevelopmentKey.open(folder)
