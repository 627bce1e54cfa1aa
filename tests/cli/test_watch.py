"""`guardwire watch` sends the demo's token to the demo alone."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.cli.conftest import Guardwire


def test_no_other_machine_is_shown_a_development_token(guardwire: Guardwire, tmp_path: Path) -> None:
    done = guardwire("watch", "https://guardwire.example", GUARDWIRE_DATA=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "guardwire: https://guardwire.example is no demo on this machine: name its token with --token-file."
    ]


def test_a_server_that_does_not_answer_is_one_sentence_after_its_reasons(
    guardwire: Guardwire, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = guardwire("watch", url, GUARDWIRE_DATA=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    *reasons, sentence = done.stderr.splitlines()
    assert all("Connect call failed" in reason for reason in reasons)
    assert sentence == f"guardwire: {url} has not answered: is it running?"
