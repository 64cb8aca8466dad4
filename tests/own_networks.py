"""Networks of a test's own under a name in a registry, for as long as the test runs."""

import sys
from collections.abc import Callable
from typing import Any

import pytest


def register(
    monkeypatch: pytest.MonkeyPatch, registry: dict[str, str], name: str, build: Callable[..., Any]
) -> None:
    """Have a registry name a function, which becomes one of this module."""
    monkeypatch.setattr(sys.modules[__name__], name, build, raising=False)
    monkeypatch.setitem(registry, name, f"{__name__}:{name}")
