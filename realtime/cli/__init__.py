"""The command line: one file for each command. Every expected error ends in a sentence and an exit code.

0  the command succeeded
1  the command failed; the sentence says why
2  the command's options or the configuration are wrong; nothing was started
130  the command was interrupted
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from guardwire.errors import GuardwireError
from realtime.cli.account import peak, rebuild
from realtime.cli.alerts import alerts, arm, escalation
from realtime.cli.apply import apply
from realtime.cli.check import check_platform
from realtime.cli.demo import demo
from realtime.cli.development import token
from realtime.cli.migrate import migrate, rotate_channel
from realtime.cli.revoke import revoke
from realtime.cli.serve import serve
from realtime.cli.simulate import simulate
from realtime.cli.uninstall import uninstall
from realtime.cli.verify import verify
from realtime.cli.watch import watch
from realtime.cli.webhooks import webhooks
from realtime.errors import ConfigurationError

application: Final = typer.Typer(
    name="guardwire",
    help="Pushes live account state over WebSocket, straight from PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: Final = (
    demo, serve, apply, check_platform, migrate, rotate_channel, token, watch, simulate, revoke, verify, rebuild,
    uninstall,
)  # fmt: skip
for command in COMMANDS:
    application.command()(command)
for name, group in {
    "peak": peak, "alerts": alerts, "arm": arm, "webhooks": webhooks, "escalation": escalation,
}.items():  # fmt: skip
    application.add_typer(group, name=name)


def main() -> None:
    """Run the command that the arguments name."""
    try:
        application()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"guardwire: {problem}", file=sys.stderr)
        sys.exit(2)
    except GuardwireError as error:
        print(f"guardwire: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
