"""Run a command, and turn what goes wrong into a line and an exit code."""

import importlib
import os
import sys
from collections.abc import Sequence

from lt_rebalance.arguments import EXIT_INCOMPLETE, EXIT_USER_ERROR, require_utf8
from lt_rebalance.cli.parser import make_parser
from lt_rebalance.filesystem import StorageError
from lt_rebalance.text import one_line

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit code."""
    try:
        require_utf8()
        options = make_parser().parse_args(arguments)
        # Only the command's own module: some need torch, whose import takes seconds.
        module = importlib.import_module(f"lt_rebalance.cli.{options.command}")
        code: int = module.run(options)
        sys.stdout.flush()
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except StorageError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return EXIT_INCOMPLETE
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code
