"""Checks of sweeps/compare_methods.py: what it ends with, also where a method is not applicable."""

from pathlib import Path

import pytest

from analysis.__main__ import main as write_report
from lt_rebalance.commands.sweep import main
from sweeps import compare_methods
from tests import linear_network

SHORT = ["--device", "cpu", "--precision", "float32", "--steps", "4", "--profile", "exp", "--ratio", "100"]
SHORT += linear_network.OPTIONS


def run(*arguments: str) -> int:
    parser = compare_methods.make_methods_parser()
    build, answer = compare_methods.build_study, compare_methods.answer_methods
    return main(parser, build, [*SHORT, *arguments], answer=answer)


@pytest.mark.slow
def test_sweep_with_a_method_that_is_not_applicable_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = str(tmp_path / "store"), str(tmp_path / "report")
    # The rarest class has 6 images.
    methods = ["--methods", "smote:k_neighbors=6", "balanced_softmax"]
    assert run("--storage", store, "--seeds", "2", *methods) == 0
    said = capsys.readouterr().out
    assert "not applicable: 2 runs" in said and "classes of 6 to 600 images" in said
    assert "smote:k_neighbors=6 is not applicable in 2 of 2 runs: SMOTE" in " ".join(said.split())
    assert "planned=8 complete=6 failed=2 diverged=0 missing=0" in said
    assert "--seeds 4" in said and "--retry-failed" not in said
    assert write_report([store, "--out", out]) == 0
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "2 of 8 planned runs are not applicable" in page and "PARTIAL" not in page
