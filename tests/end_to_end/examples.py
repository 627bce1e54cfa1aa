"""The number of drawn examples: the same ones in each run of the suite, or others by

CONVERGENCE_EXAMPLES=5000 pytest tests/end_to_end -k convergence --timeout 0
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings

_ASKED_FOR: Final = int(os.environ.get("CONVERGENCE_EXAMPLES", "0"))


def examples(in_the_suite: int) -> settings:
    """Settings of a property with so many examples in each run of the suite.

    The suite shows the first example that fails as it was drawn. The search for a smaller one takes minutes, so it
    runs only when examples are asked for.
    """
    return settings(
        phases=tuple(Phase) if _ASKED_FOR else (Phase.explicit, Phase.generate),
        max_examples=_ASKED_FOR or in_the_suite,
        derandomize=not _ASKED_FOR,
        database=None,
        deadline=None,  # real servers have no fixed response time
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
