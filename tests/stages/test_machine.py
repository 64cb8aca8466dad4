"""Checks of how torch is set up for an execution."""

import dataclasses

import pytest
import torch

from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import prepare_torch, resolve_execution


def test_gpu_rounds_the_inputs_of_products_only_where_it_is_asked_for(cpu_execution: Execution) -> None:
    for precision, expected in [("float32", "ieee"), ("tensorfloat32", "tf32"), ("bfloat16", "ieee")]:
        prepare_torch(dataclasses.replace(cpu_execution, device="cuda", precision=precision))
        found = [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]
        assert found == [expected, expected]
    prepare_torch(cpu_execution)


def test_tensorfloat32_without_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="tensorfloat32 is arithmetic of a GPU, got device 'cpu'"):
        resolve_execution("auto", "tensorfloat32", 1, has_cuda=False)
