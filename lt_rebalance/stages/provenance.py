"""Identify the code of a result: its commit if known, and always the hash of its files.

Unknown values are None. Git is asked about the package only if it tracks the package's own files, because an
installed copy may be inside another repository. Reading changes nothing in a repository.
"""

import functools
import hashlib
import importlib.metadata
import os
import re
import socket
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMIT_VARIABLE = "LT_REBALANCE_COMMIT"
"""environment variable with the commit of code that was sent without its repository"""
PACKAGE = Path(__file__).resolve().parents[1]
_COMMIT = re.compile(r"(?P<commit>[0-9a-f]{40}|[0-9a-f]{64})(?P<dirty>-dirty)?")
_PACKAGES = ("lt_rebalance", "analysis")
_CODE = (*_PACKAGES, "sweeps", "pyproject.toml")
_GIT_PATIENCE_S = 60


def driver_source() -> dict[str, Any]:
    """Return the code of this main process, with its directory, for its workers; plain JSON values.

    Raises:
        ValueError: the variable with the commit has another value.
    """
    source = own_source(PACKAGE)
    if source["commit"] is None:
        source = source | _read_variable()
    return source | {"host": socket.gethostname(), "directory": str(PACKAGE)}


def source_of_result(driver: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the code of this process for its results.

    Args:
        driver: the result of `driver_source` in the main process of this worker. If both run the same files,
            its commit is also that of this process.
    """
    own = own_source(PACKAGE)
    if driver is None or driver["commit"] is None or driver["source_sha256"] != own["source_sha256"]:
        return dict(own)
    return {name: driver[name] for name in own}


def find_mismatch(driver: Mapping[str, Any]) -> str | None:
    """Return a message if this process runs other code than the main process, else None.

    The files of the main process may change while it runs; this is not a mismatch, and results name their
    code.
    """
    own = own_source(PACKAGE)["source_sha256"]
    host, directory = socket.gethostname(), str(PACKAGE)
    if driver["source_sha256"] in (own, None) or (driver["host"], driver["directory"]) == (host, directory):
        return None
    return (
        f"this worker, on {host}, runs other code than the main process: it imports {directory} (sha256 "
        f"{str(own)[:12]}), the main process on {driver['host']} {driver['directory']} (sha256 "
        f"{driver['source_sha256'][:12]}); put the same code on every node, or submit it with --working-dir"
    )


@functools.cache
def own_source(package: Path) -> dict[str, Any]:
    """Return commit, is_dirty and source_sha256 of a package in a directory, as far as known."""
    commit = is_dirty = None
    if _git(package, "ls-files", "--error-unmatch", "--", "__init__.py") is not None:
        commit = _git(package, "rev-parse", "--verify", "HEAD")
    if commit is not None:
        is_dirty = _find_changes(package.parent)
    return {
        "commit": commit.strip() if commit is not None else None,
        "is_dirty": is_dirty,
        "source_sha256": hash_source(package),
    }


def hash_source(package: Path) -> str | None:
    """Return the sha256 of the names and contents of all Python files of a package; None without any."""
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest() if files else None


def package_version(package: Path = PACKAGE) -> str | None:
    """Return the version of this package, not of another copy that is also installed."""
    try:
        project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == package.name:
            return str(project["version"])
    except (OSError, ValueError, KeyError):  # not a checkout
        pass
    for distribution in importlib.metadata.distributions(name=package.name, path=[str(package.parent)]):
        return distribution.version
    return None


def _read_variable() -> dict[str, Any]:
    value = os.environ.get(COMMIT_VARIABLE, "")
    if not value:
        return {}
    if (match := _COMMIT.fullmatch(value)) is None:
        raise ValueError(
            f"{COMMIT_VARIABLE} must be a whole commit, followed by -dirty where files differ from it, as "
            f"`git describe --always --abbrev=40 --exclude='*' --dirty` says it; got {value!r}"
        )
    return {"commit": match["commit"], "is_dirty": match["dirty"] is not None}


def _find_changes(root: Path) -> bool | None:
    """Whether tracked code in a directory was changed, or its packages have untracked code.

    None if git cannot tell.
    """
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "-z", "--", *_CODE)
    others = _git(root, "ls-files", "--others", "-z", "--", *_PACKAGES)
    if changed is None or others is None:
        return None
    if changed or any(name.endswith(".py") for name in others.split("\0")):
        return True
    return False if _compares_all(root) else None


def _compares_all(root: Path) -> bool:
    """Whether git compares every file of the packages and ignores none."""
    tagged = _git(root, "ls-files", "-v", "-z", "--", *_PACKAGES)
    return tagged is not None and all(name.startswith("H ") for name in tagged.split("\0") if name)


def _git(directory: Path, *arguments: str) -> str | None:
    """Return what git prints, or None if it cannot tell."""
    # Variables that name another repository must not answer for this one; those that say whom git trusts may.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or (name.startswith("GIT_CONFIG_") and name != "GIT_CONFIG_PARAMETERS")
    }
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, check=True, env=environment, timeout=_GIT_PATIENCE_S
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):  # no git, not a checkout, or one of another owner
        return None
