"""Checks of how torch is set up for an execution."""

import dataclasses

import pytest
import torch

from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import count_gpus, prepare_torch, resolve_execution, torch_version


def test_gpu_rounds_the_inputs_of_products_only_where_it_is_asked_for(cpu_execution: Execution) -> None:
    for precision, expected in [("float32", "ieee"), ("tensorfloat32", "tf32"), ("bfloat16", "ieee")]:
        prepare_torch(dataclasses.replace(cpu_execution, device="cuda", precision=precision))
        found = [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]
        assert found == [expected, expected]
    prepare_torch(cpu_execution)


def test_tensorfloat32_without_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="tensorfloat32 is arithmetic of a GPU, got device 'cpu'"):
        resolve_execution("auto", "tensorfloat32", 1, has_cuda=False)


def test_version_of_torch_is_told_without_importing_it() -> None:
    assert torch_version() == str(torch.__version__).partition("+")[0]


@pytest.mark.parametrize(("has_driver", "expected"), [(True, 3), (False, 0)])
def test_torch_is_asked_for_gpus_only_where_there_is_a_driver(
    has_driver: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("lt_rebalance.training.device.may_have_gpu", lambda: has_driver)
    assert count_gpus() == expected
