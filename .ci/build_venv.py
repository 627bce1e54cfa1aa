"""Builds .venv from requirements-dev.lock, unless it was built here from the same lock before.

The Makefile runs this with any Python >= 3.11 that has venv. With `--is-built` it only checks. With `--production` it
installs requirements.lock, without development packages and from wheels alone, so that nothing is compiled. It writes
the stamps last, so that no interrupted build passes for a finished one. Two builds wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PROJECT = ROOT / "pyproject.toml"
IS_PRODUCTION = "--production" in sys.argv[1:]
LOCK = ROOT / ("requirements.lock" if IS_PRODUCTION else "requirements-dev.lock")

#: pip's variables about reaching a registry. With any other (PIP_USER, PIP_TARGET, PIP_REQUIRE_HASHES …) pip could
#: install other packages, or in another place.
HOW_TO_REACH = (
    *("PIP_CACHE_DIR", "PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT"),
    *("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_KEYRING_PROVIDER", "PIP_NO_CACHE_DIR"),
    *("PIP_NO_INDEX", "PIP_PROXY", "PIP_RETRIES", "PIP_TIMEOUT", "PIP_TRUSTED_HOST"),
)
OURS = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_QUIET": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_USER": "0",  # overrides the user's pip.conf
}


def main() -> int:
    if "--is-built" in sys.argv[1:]:
        return 0 if is_built() else 1
    try:
        with LOCK.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_built():
                build()
    except PermissionError as error:
        return fail(f"{error.filename} cannot be written: build as its owner, or make your own clone.")
    except subprocess.CalledProcessError as error:
        return fail(f"`pip {' '.join(error.cmd[4:])}` failed, see above; then run make again.")
    except KeyboardInterrupt:
        return fail("interrupted; the next make starts over.")
    return 0


def is_built() -> bool:
    """Whether .venv is complete, and was built here from the present lock and project file."""
    return all(is_done(made_of) for made_of in (LOCK, PROJECT)) and (VENV / "bin" / "python").exists()


def is_done(made_of: Path) -> bool:
    """Whether the part of .venv that ``made_of`` describes is complete, and the file is unchanged since."""
    try:
        return stamp(made_of).read_text() == digest(made_of)
    except OSError:
        return False


def stamp(made_of: Path) -> Path:
    return VENV / f"built-from-{made_of.name}"


def digest(made_of: Path) -> str:
    return f"{hashlib.sha256(made_of.read_bytes()).hexdigest()} {ROOT}\n"


def build() -> None:
    if not (is_done(LOCK) and (VENV / "bin" / "python").exists()):
        build_from_lock()
    if IS_PRODUCTION:
        name_the_command()
    else:
        pip("install", "--no-deps", "--no-build-isolation", "--editable", ".")
    stamp(PROJECT).write_text(digest(PROJECT))


def name_the_command() -> None:
    """Makes `.venv/bin/guardwire` run this checkout, without the build tools that an installation would need."""
    command = VENV / "bin" / "guardwire"
    command.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{VENV}/bin/python" -m realtime.cli "$@"\n')
    command.chmod(0o755)


def build_from_lock() -> None:
    print(f"Building .venv from {LOCK.name} (once, about half a minute) …", file=sys.stderr, flush=True)
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)
    venv.create(VENV, with_pip=True, symlinks=True)
    only_wheels = ("--only-binary", ":all:") if IS_PRODUCTION else ()
    pip("install", "--require-hashes", *only_wheels, "--requirement", LOCK.name)
    stamp(LOCK).write_text(digest(LOCK))


def pip(*arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {name: os.environ[name] for name in HOW_TO_REACH if name in os.environ} | OURS
    command = [str(VENV / "bin" / "python"), "-I", "-m", "pip", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def fail(sentence: str) -> int:
    print(f".venv: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
