"""Text for the terminal: the console, durations, prices; no torch."""

import math
from typing import Any, TextIO

from rich.console import Console

PLAIN_WIDTH = 140
NARROWEST = 40


def make_console(file: TextIO | None = None) -> Console:
    """Return the console for standard output or a file; wide enough for the tables without a terminal.

    It shows texts as they are: a name such as "[red]" or ":tada:" is one, and no markup.
    """
    plain: dict[str, Any] = {"file": file, "highlight": False, "markup": False, "emoji": False}
    console = Console(**plain)
    if not console.is_terminal:
        return Console(**plain, width=PLAIN_WIDTH)
    # Narrower than that no table can be read: the terminal breaks its lines.
    return Console(**plain, width=max(console.width, NARROWEST))


def format_duration(seconds: float) -> str:
    """Return "45 s", "12 min", "3.4 h" or "2.1 days"."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
