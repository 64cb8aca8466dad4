"""Where a training stood at the end of a round, and the name of the file that holds it."""

import hashlib
import re
from dataclasses import dataclass

KEPT_CHECKPOINTS = 2
CHECKPOINT_NAME = re.compile(r"[0-9]{6,9}-[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a training stood at the end of a round."""

    round: int
    """rounds finished"""
    content: bytes

    @property
    def name(self) -> str:
        """The name of its file, which its content must agree with."""
        return f"{self.round:06d}-{hashlib.sha256(self.content).hexdigest()}.safetensors"


def round_of(name: str) -> int:
    """Return the round of a checkpoint, by the name of its file."""
    return int(name.partition("-")[0])
