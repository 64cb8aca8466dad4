"""Checkpoints of a training at the end of a round, and their file names."""

import hashlib
import re
from dataclasses import dataclass

KEPT_CHECKPOINTS = 2
CHECKPOINT_NAME = re.compile(r"[0-9]{6,9}-[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training at the end of a round."""

    round: int
    """rounds finished"""
    content: bytes

    @property
    def name(self) -> str:
        """The name of its file, which must match its content."""
        return f"{self.round:06d}-{hashlib.sha256(self.content).hexdigest()}.safetensors"


def round_of(name: str) -> int:
    """Return the round of a checkpoint, from the name of its file."""
    return int(name.partition("-")[0])
