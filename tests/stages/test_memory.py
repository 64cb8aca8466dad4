"""Checks of the memory that stages are reckoned to take, and of the refusal of what does not fit."""

import dataclasses
import itertools
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from lt_rebalance.commands import search
from lt_rebalance.commands.sweep import main
from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground import memory
from lt_rebalance.ground.errors import DataError
from lt_rebalance.networks.generators.projection_gan import SpectralLinear
from lt_rebalance.networks.generators.registry import PAPER_GAN
from lt_rebalance.stages import counting
from lt_rebalance.stages import memory as reckoning
from lt_rebalance.stages.memory import (
    check_memory,
    checkpoint_memory,
    lane_bytes,
    own_image_bytes,
    pool_bytes,
    require_device_memory,
    step_bytes,
)
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import ClassifierStage
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from sweeps import full_grid, tune_classifier
from tests.tiny import TINY

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
POOL = 70_000 * (784 + 8)
"""of Fashion-MNIST: pixels and labels of 60,000 and 10,000 images"""
PARAMETERS = 454_042
"""of the paper's CNN"""


def make_stage(method: str = "none", seed: int = 0, dataset: str = "fashion_mnist") -> ClassifierStage:
    generator = "small_mlp_cgan_leaky" if method == "cgan" else None
    cell = make_cell(get_protocol("paper"), dataset=dataset, c="1/2", method=method, generator=generator)
    return cell.stage(seed, EXECUTION)


def with_left(left: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, reckoning):
        monkeypatch.setattr(module, "available_bytes", lambda: left)


def test_memory_of_images_is_counted_by_hand() -> None:
    assert pool_bytes(make_stage().data) == POOL
    # 6,000 halved nine times and rounded up, beside what a CGAN fills up to 6,000 each.
    num_real = sum(-(-6_000 // 2**rank) for rank in range(10))
    assert own_image_bytes(make_stage()) == 8 * num_real
    num_synthetic = 60_000 - num_real
    expected = 4 * 784 * num_synthetic + 8 * 60_000 + 8 * (60_000 + num_synthetic)
    assert own_image_bytes(make_stage("cgan")) == expected


def test_memory_of_a_lane_has_gradients_and_moments_and_a_checkpoint_is_there_twice() -> None:
    stage = make_stage()
    assert lane_bytes(stage) - own_image_bytes(stage) == 4 * 4 * PARAMETERS
    assert checkpoint_memory(stage) == 2 * 3 * 4 * PARAMETERS


def test_what_a_step_keeps_is_counted_by_hand_once_for_each_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image: 16 pixels that a convolution takes, 32 values that a rectifier makes and a layer takes."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    monkeypatch.setattr(counting, "example_classifier", lambda *_: (network, (torch.zeros(2, 1, 4, 4),)))
    assert counting.count_classifier.__wrapped__("toy", get_dataset_spec("mnist")).kept_bytes == 4 * (16 + 32)


def test_step_takes_memory_by_its_batch_and_less_in_less_precision() -> None:
    stage = make_stage()
    spec = get_dataset_spec("fashion_mnist")
    kept = counting.count_classifier("paper_cnn", spec).kept_bytes
    assert step_bytes(stage) == int(1.6 * 100 * kept)
    less = dataclasses.replace(stage, execution=dataclasses.replace(EXECUTION, precision="bfloat16"))
    assert step_bytes(less) == int(0.9 * 100 * kept)
    generator_stage = make_stage("cgan").generator_stage
    assert generator_stage is not None
    generator = counting.count_generator("small_mlp_cgan_leaky", spec).kept_bytes
    partner = counting.count_partner(PAPER_GAN.partner, spec).kept_bytes
    assert generator > 0 and step_bytes(generator_stage) == int(1.6 * 256 * (generator + 2 * partner))


def test_what_an_item_keeps_of_a_gan_is_counted_by_hand_without_what_is_of_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of an item: 3 and 4 values of the generator, 5 and 6 of the partner, nothing of its weights."""
    generator = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    partner = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), SpectralLinear(6, 1))
    monkeypatch.setattr(counting, "example_generator", lambda *_: (generator, (torch.zeros(2, 3),)))
    monkeypatch.setattr(counting, "example_partner", lambda *_: (partner, (torch.zeros(2, 5),)))
    spec = get_dataset_spec("mnist")
    assert counting.count_generator.__wrapped__("toy", spec).kept_bytes == 4 * (3 + 4)
    assert counting.count_partner.__wrapped__("toy", spec).kept_bytes == 4 * (5 + 6)


def test_plan_that_does_not_fit_is_refused_with_numbers_and_with_what_would_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = {str(seed): make_stage(seed=seed) for seed in range(8)}
    lane, checkpoint = lane_bytes(make_stage()), checkpoint_memory(make_stage())
    trial = POOL + 2 * lane + checkpoint + step_bytes(make_stage())
    with_left(3 * trial, monkeypatch)
    check_memory(stages, 3, 2)
    check_memory({}, 9, 9)
    with pytest.raises(DataError) as caught:
        check_memory(stages, 4, 2)
    assert f"has {3 * trial / 1e6:.0f} MB free" in str(caught.value)
    assert f"trials at a time, with {4 * POOL / 1e6:.0f} MB for images" in str(caught.value)
    assert f"checkpoints {4 * trial / 1e6:.0f} MB; 3 at a time would fit: --max-concurrent 3" in str(
        caught.value
    )
    check_memory(dict(itertools.islice(stages.items(), 6)), 4, 2)  # they are three trials
    with_left(3 * trial - 1, monkeypatch)
    with pytest.raises(DataError, match=r"--max-concurrent 2$"):
        check_memory(stages, 3, 2)
    with_left(trial - 1, monkeypatch)
    with pytest.raises(DataError, match=r"--max-concurrent 1 --lanes 1$"):
        check_memory(stages, 1, 2)
    with_left(POOL, monkeypatch)
    with pytest.raises(DataError, match=r"even one of one seed takes 155 MB: take fewer or smaller images$"):
        check_memory(stages, 1, 2)
    with_left(None, monkeypatch)
    check_memory(stages, 8, 8)


def test_own_set_counts_once_however_many_processes_map_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_own_name(TINY)
    stages = {str(seed): make_stage(seed=seed, dataset=TINY) for seed in range(4)}
    one = lane_bytes(stages["0"]) + checkpoint_memory(stages["0"]) + step_bytes(stages["0"])
    images = pool_bytes(stages["0"].data)
    with_left(images + 4 * one, monkeypatch)
    check_memory(stages, 4, 1)
    with_left(images + 4 * one - 1, monkeypatch)
    with pytest.raises(DataError, match="3 at a time"):
        check_memory(stages, 4, 1)


def test_lanes_on_a_gpu_take_its_memory_and_not_that_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = dataclasses.replace(make_stage(), execution=dataclasses.replace(EXECUTION, device="cuda"))
    with_left(POOL + checkpoint_memory(on_gpu), monkeypatch)
    check_memory({str(seed): on_gpu.with_seed(seed) for seed in range(9)}, 1, 9)
    lane = lane_bytes(on_gpu)
    require_device_memory([on_gpu] * 3, POOL + 3 * lane)
    said = f"{POOL / 1e6:.0f} MB of images and 3 lanes of {lane / 1e6:.0f} MB; 2 would fit: --lanes 2"
    with pytest.raises(DataError, match=re.escape(said)):
        require_device_memory([on_gpu] * 3, POOL + 3 * lane - 1)
    with pytest.raises(DataError, match="take smaller images"):
        require_device_memory([on_gpu], POOL)


def test_sweep_is_refused_before_training_where_it_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_left(1_000_000, monkeypatch)
    arguments = ["--dataset", "fashion_mnist_mini", "--methods", "none", "--steps", "2", "--seeds", "1"]
    assert (
        main(
            full_grid.make_grid_parser(),
            full_grid.build_study,
            [*arguments, "--storage", str(tmp_path / "store"), "--device", "cpu"],
        )
        == 2
    )
    error = capsys.readouterr().err
    assert "all images must fit into memory, which has 1 MB free" in error
    assert "even one of one seed takes" in error


def test_search_is_refused_before_training_where_it_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_left(1_000_000, monkeypatch)
    parser, build = tune_classifier.make_classifier_parser(), tune_classifier.build_search
    arguments = ["--storage", str(tmp_path / "store"), "--device", "cpu"]
    assert search.main(parser, build, tune_classifier.answer_search, arguments) == 2
    assert "all images must fit into memory, which has 1 MB free" in capsys.readouterr().err
