"""What all command lines share: a parser whose errors are ValueErrors, and exit codes; no torch."""

import argparse
import sys
from typing import NoReturn

EXIT_INCOMPLETE = 1
EXIT_USER_ERROR = 2


def require_utf8() -> None:
    """Raise a ValueError unless paths and output are UTF-8: Ray and the tables cannot be had otherwise."""
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise ValueError(
            f"Python must use UTF-8 for paths and output, got {encoding}; set PYTHONUTF8=1, or a locale such "
            "as LC_ALL=C.UTF-8"
        )


class Parser(argparse.ArgumentParser):
    """Raises a ValueError for wrong arguments, and takes no abbreviations."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)
