"""The command `lt-rebalance`."""

import argparse
import contextlib
import importlib
from collections.abc import Sequence

from lt_rebalance.cli.parser import make_parser
from lt_rebalance.ground.exits import Work, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit code."""
    return run_command(make_parser(), _prepare, arguments)


def _prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Work | int:
    # Only the command's own module: some need torch, whose import takes seconds.
    module = importlib.import_module(f"lt_rebalance.cli.{options.command}")
    if hasattr(module, "prepare"):  # it has work, which can be resumed
        work: Work | int = module.prepare(options, stack)
        return work
    code: int = module.run(options)
    return code
