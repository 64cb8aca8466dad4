"""matplotlib as it comes, whatever settings and screens its user has; imported before all that draws."""

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_BACKEND = "MPLBACKEND"


def _import_matplotlib() -> ModuleType:
    """Import matplotlib also where the environment names a backend that it does not have."""
    asked = os.environ.pop(_BACKEND, None)
    try:
        import matplotlib
    finally:
        if asked is not None:
            os.environ[_BACKEND] = asked
    if asked is not None:
        with contextlib.suppress(ValueError):  # no backend of this matplotlib; figures here need none
            matplotlib.rcParams["backend"] = asked
    return matplotlib


matplotlib = _import_matplotlib()


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Draw within this block by matplotlib's own defaults, not by the user's `matplotlibrc`."""
    defaults: dict[str, Any] = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"
    }
    with matplotlib.rc_context(defaults):
        yield
