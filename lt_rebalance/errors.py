"""Errors that several wings raise and one place tells; nothing is imported for them."""


class ClusterError(RuntimeError):
    """Ray could not be started or reached, or was lost while it worked."""

    def __init__(self, words: str, *, remedy: str = "", was_lost: bool = False) -> None:
        """Say what happened.

        Args:
            words: what happened, in one line.
            remedy: what to do about it; empty where the words say so already.
            was_lost: it had been there; False where it could not be had, and so nothing was started.
        """
        super().__init__(words)
        self.remedy = remedy
        self.was_lost = was_lost

    def __str__(self) -> str:
        return "; ".join(filter(None, (super().__str__(), self.remedy)))
