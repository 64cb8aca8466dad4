"""What all command lines share: a parser whose errors are ValueErrors, and exit codes; no torch."""

import argparse
from typing import NoReturn

EXIT_INCOMPLETE = 1
EXIT_USER_ERROR = 2


class Parser(argparse.ArgumentParser):
    """Raises a ValueError for wrong arguments, and takes no abbreviations."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)
