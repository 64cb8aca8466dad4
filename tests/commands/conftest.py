"""What tests of commands share."""

import pytest

from lt_rebalance.stages import arithmetic


@pytest.fixture
def measured_speed() -> None:
    """Let plans measure how fast this machine trains, seconds each: for tests that are about it."""


@pytest.fixture(autouse=True)
def _known_speed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "measured_speed" not in request.fixturenames:
        monkeypatch.setattr(arithmetic, "_measure", lambda stage: 1e9)
