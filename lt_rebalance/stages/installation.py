"""The parts of one copy of this project belong together: refuse, in words, to mix two of them."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from lt_rebalance.stages.provenance import PACKAGE

ROOT = PACKAGE.parent
"""where the package lies with all that belongs to it: a checkout, or the packages of an environment"""


def require_one_copy() -> None:
    """Check that the script that runs, and the analysis it may use, belong to this copy of the package.

    Raises:
        ValueError: they belong to another one; both are named, with the command that mends it.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    checkout = None if script is None else _find_checkout(Path(script).resolve())
    if checkout not in (None, ROOT):
        raise ValueError(
            f"{script} belongs to the checkout {checkout}, but Python takes lt_rebalance from {ROOT}, "
            f"which may be other code; install the checkout in place, `pip install -e '{checkout}[s3]'`, and "
            "run it again"
        )
    analysis = sys.modules.get("analysis")
    if analysis is not None and (found := _place_of(analysis)) != ROOT:
        raise ValueError(
            f"analysis is taken from {found} and lt_rebalance from {ROOT}: one of them shadows the other's "
            "copy; run this from another directory, or take what comes first out of PYTHONPATH"
        )


def import_beside(name: str) -> ModuleType:
    """Return a package of this copy, whatever else of that name stands earlier on the path.

    Raises:
        ValueError: another one is in use already, or this copy has none.
    """
    if name not in sys.modules:
        sys.path.insert(0, str(ROOT))
        try:
            importlib.import_module(name)
        finally:
            sys.path.remove(str(ROOT))
    require_one_copy()
    return sys.modules[name]


def _place_of(module: ModuleType) -> Path | None:
    return None if module.__file__ is None else Path(module.__file__).resolve().parents[1]


def _find_checkout(script: Path) -> Path | None:
    """Return the checkout that a script is a file of, or None if it is of none."""
    for directory in script.parents:
        if (directory / "pyvenv.cfg").exists():  # an environment, which may lie inside a checkout
            return None
        if (directory / "pyproject.toml").exists() and (directory / "lt_rebalance" / "__init__.py").exists():
            return directory
    return None
