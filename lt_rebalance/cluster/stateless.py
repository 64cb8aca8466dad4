"""Callbacks and searchers of which Tune keeps nothing: store and journal have it all."""

from typing import Any


class Stateless:
    """Keeps nothing in the files of Tune, which are never read; the first base of a class."""

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
