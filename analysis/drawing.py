"""Import matplotlib with its default settings, not the user's; to be imported before what draws."""

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_BACKEND = "MPLBACKEND"


def _import_matplotlib() -> ModuleType:
    """Import matplotlib even if the environment names a backend that does not exist."""
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
    """Use matplotlib's defaults within this block, not the user's `matplotlibrc`."""
    defaults: dict[str, Any] = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"
    }
    with matplotlib.rc_context(defaults):
        yield
