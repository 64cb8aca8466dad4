"""The examples that show a method, images and a store. Others are run by the tests of what they show."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lt_rebalance.images.folder import list_folder
from lt_rebalance.methods.registry import METHODS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def load(name: str) -> dict[str, object]:
    return runpy.run_path(str(EXAMPLES / name))


def test_own_method_meets_where_its_option_says() -> None:
    method = load("own_method.py")["meet"]
    sizes = {}
    for share in (0.0, 0.5, 1.0):
        plan = method.plan((100, 20, 4), None, np.random.default_rng(0), method.options(share=share))
        sizes[share] = plan.counts_K
        for positions, count in zip(plan.positions_by_class, (100, 20, 4), strict=True):
            seen = np.bincount(positions, minlength=count)
            assert len(seen) == count and seen.max() - seen.min() <= 1
    # The geometric mean of 4 and 100 is 20.
    assert sizes == {0.0: [4, 4, 4], 0.5: [20, 20, 20], 1.0: [100, 100, 100]}
    with pytest.raises(ValueError, match="share must be between 0 and 1, got 2"):
        method.options(share=2)
    assert "meet" not in METHODS


def test_store_is_read_in_pandas_seed_by_seed(capsys: pytest.CaptureFixture[str]) -> None:
    load("read_store.py")["main"](str(ROOT / "tests" / "golden" / "store"))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    # Expected are runs.csv's accuracies of seed 0: none 0.452, oversample 0.673.
    assert ["sound", "1/2", "0", "0.0", "0.221", "-0.044", "0.012"] in lines
    assert ["oversample", "3", "0.673", "0.016"] in lines
    assert any(line[:1] == ["Sneaker"] for line in lines) and any(line[:1] == ["100"] for line in lines)


def test_own_images_are_written_in_folders_of_their_class(tmp_path: Path) -> None:
    load("own_images.py")["main"](tmp_path)
    found = list_folder(tmp_path)
    assert found.class_names == tuple(f"digit {label}" for label in range(10))
    assert len(list((tmp_path / "train").rglob("*.png"))) == 1257
    assert len(list((tmp_path / "test").rglob("*.png"))) == 540


METHOD = "examples/own_method.py:meet:share=0.25"


@pytest.mark.slow
def test_own_method_is_compared_on_own_images(tmp_path: Path) -> None:
    load("own_images.py")["main"](tmp_path / "digits")
    options = ["--profile", "exp", "--ratio", "20", "--steps", "20", "--seeds", "1", "--device", "cpu"]
    places = ["--dataset", str(tmp_path / "digits"), "--storage", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "sweeps/full_grid.py", *places, *options, "--methods", "none", METHOD],
        cwd=ROOT,
        env=os.environ | {"LT_REBALANCE_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "planned=2 complete=2 failed=0 diverged=0 missing=0" in done.stdout
    assert "own_method.py:meet" in done.stdout
