"""Refuse to mix the parts of two copies of this project."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from lt_rebalance.stages.provenance import PACKAGE

ROOT = PACKAGE.parent
"""directory of the package and of all its parts: a checkout, or the packages of an environment"""


def require_one_copy() -> None:
    """Check that the script that runs, and the analysis it may use, belong to this copy of the package.

    Raises:
        ValueError: they belong to another one; the message names both, and the command that corrects this.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    checkout = None if script is None else _find_checkout(Path(script).resolve())
    if checkout not in (None, ROOT):
        raise ValueError(
            f"{script} belongs to the checkout {checkout}, but Python imports lt_rebalance from {ROOT}, "
            f"which may be different code; install the checkout in place, `pip install -e '{checkout}[s3]'`, "
            "and run it again"
        )
    analysis = sys.modules.get("analysis")
    if analysis is not None and (found := _place_of(analysis)) != ROOT:
        raise ValueError(
            f"analysis is taken from {found} and lt_rebalance from {ROOT}: one of them shadows the other's "
            "copy; run this from another directory, or take what comes first out of PYTHONPATH"
        )


def import_beside(name: str) -> ModuleType:
    """Return a package of this copy, even if the path has another one first.

    Raises:
        ValueError: another one is already imported, or this copy has none.
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
    """Return the checkout of a script, or None if it is in no checkout."""
    for directory in script.parents:
        if (directory / "pyvenv.cfg").exists():  # an environment, which may be inside a checkout
            return None
        if (directory / "pyproject.toml").exists() and (directory / "lt_rebalance" / "__init__.py").exists():
            return directory
    return None
