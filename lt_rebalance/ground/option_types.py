"""Types of option values: senseless values are refused when the command line is parsed."""

import argparse
import math
from pathlib import Path

MOST = 10**9
"""the largest number that any option takes: steps, threads, ports, seconds, prices"""
MOST_REPEATS = 100_000
"""the largest number of listed items: seeds, epochs"""


def whole(text: str) -> int:
    """Return a whole number within sensible bounds."""
    return _read_whole(text, MOST)


def repeats(text: str) -> int:
    """Return a number of repetitions that are planned one by one."""
    return _read_whole(text, MOST_REPEATS)


def finite(text: str) -> float:
    """Return a finite number within sensible bounds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text!r}")
    if abs(value) > MOST:
        raise argparse.ArgumentTypeError(f"must be at most {MOST:,}, got {_shorten(text)}")
    return value


def price(text: str) -> float:
    """Return a finite number of at least 0."""
    value = finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text!r}")
    return value


def place(text: str) -> str:
    """Return a file, directory or address, with a leading tilde expanded."""
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: the home directory of this user is unknown; write the path in full"
        ) from None


def _read_whole(text: str, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {_shorten(text)!r}") from None
    if abs(value) > most:
        raise argparse.ArgumentTypeError(f"must be at most {most:,}, got {_shorten(text)}")
    return value


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}... ({len(text)} characters)"
