"""Figures are drawn alike, whatever settings the user has, and in every process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.published import STUDIES, make_report, read_files

STUDY = STUDIES / "sample"
SETTINGS = """
text.usetex: True
font.family: Nonsense
savefig.dpi: 20
savefig.bbox: tight
svg.fonttype: path
axes.facecolor: red
axes.formatter.use_locale: True
backend: TkAgg
"""


@pytest.mark.slow
def test_settings_screens_and_hashes_of_the_user_change_no_byte_of_a_report(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "matplotlibrc").write_text(SETTINGS)
    odd = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "nonsense", "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-m", "analysis", str(STUDY), "--out", str(tmp_path / "odd")]
    subprocess.run(command, env=os.environ | odd, cwd=STUDIES.parent, stdout=subprocess.PIPE, check=True)
    made = read_files(tmp_path / "odd")
    assert len(made) > 20 and made == read_files(make_report(tmp_path_factory, STUDY))
