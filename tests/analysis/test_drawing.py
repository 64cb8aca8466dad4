"""Figures are drawn alike, whatever settings the user has, and in every process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "sample"
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
def test_settings_screens_and_hashes_of_the_user_change_no_byte_of_a_report(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(SETTINGS)
    odd = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "nonsense", "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-m", "analysis", str(STUDY), "--out"]
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path / name)], env=os.environ | settings, cwd=ROOT, stdout=subprocess.PIPE
        )
        for name, settings in {"odd": odd, "plain": {"PYTHONHASHSEED": "0"}}.items()
    ]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    reports = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "odd", tmp_path / "plain")
    ]
    assert len(reports[0]) > 20 and reports[0] == reports[1]
