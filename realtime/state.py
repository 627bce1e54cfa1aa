"""The former name of `guardwire.state`; the next release removes it."""

from __future__ import annotations

import warnings

from guardwire.state import *  # noqa: F403  # the same names as before

warnings.warn("realtime.state is now guardwire.state", DeprecationWarning, stacklevel=2)
