"""constraints.txt pins every dependency, with hashes and without addresses."""

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PINS = [Requirement(line.removesuffix(" \\")) for line in TEXT.splitlines() if not line.startswith(" ")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = [each for extra in PROJECT["optional-dependencies"].values() for each in extra]


def find_pins(name: str, python: str) -> list[Requirement]:
    """Return the pins of a package that apply on Linux with a version of Python, such as "3.12"."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    matching = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]
    return [pin for pin in matching if pin.marker is None or pin.marker.evaluate(environment)]


def pinned_version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("wanted", [Requirement(each) for each in PROJECT["dependencies"] + EXTRAS], ids=str)
def test_dependency_has_one_pin_within_its_range(wanted: Requirement, python: str) -> None:
    (pin,) = find_pins(wanted.name, python)
    assert wanted.specifier.contains(pinned_version(pin))


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"^(?=\S)", TEXT, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINS) > 100
    for block in blocks:
        first, *hashes = block.splitlines()
        assert "==" in first and hashes
        for line in hashes:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


def test_constraints_name_no_address_and_no_option() -> None:
    assert "//" not in TEXT
    assert not re.search(r"^\s*-(?!-hash=sha256:)", TEXT, flags=re.MULTILINE)


@pytest.mark.skipif("UV_NO_SYNC" not in os.environ, reason="only .ci/run installs the pinned versions")
def test_checks_run_with_the_pinned_versions() -> None:
    python = ".".join(default_environment()["python_full_version"].split(".")[:2])
    for wanted in map(Requirement, PROJECT["dependencies"] + EXTRAS):
        (pin,) = find_pins(wanted.name, python)
        assert version(wanted.name) == pinned_version(pin)
