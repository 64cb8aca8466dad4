"""The published studies of this repository, and the report of each, which is made once for all tests."""

from pathlib import Path

import pytest

from analysis.collect import read_results
from analysis.report import write_report
from lt_rebalance.files.archive import ARCHIVE
from tests.made_once import make_once

STUDIES = Path(__file__).parents[1] / "studies"
PUBLISHED = sorted(path.parent for path in STUDIES.glob(f"*/{ARCHIVE}"))


def make_report(factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Return the directory of the report of a published study, as a process of the tests makes it."""

    def write(root: Path) -> None:
        write_report(read_results(str(folder)), root / "report")

    return make_once(factory, f"report-{folder.name}", write) / "report"


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a report, or of a published study, by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
