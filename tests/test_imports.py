"""A node in production loads no code of the demo: neither the throw-away servers nor the simulated platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST_MODULES = "import sys; print(*(name for name in sys.modules if name.startswith('realtime.')))"


@pytest.mark.parametrize("module", ["app", "realtime.cli"])
def test_a_node_does_not_load_the_code_of_the_demo(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}; {LIST_MODULES}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = done.stdout.split()
    assert "realtime.errors" in loaded
    assert [name for name in loaded if name.startswith(("realtime.embedded", "realtime.simulator"))] == []
