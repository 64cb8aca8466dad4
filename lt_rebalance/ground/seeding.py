"""Derive every random stream of a run from its seed and a named purpose.

A stream depends on nothing else: not on the method, the lane, the worker or the order of execution. So
methods are paired by seed, and the results of a seed do not depend on other runs. Streams that are used
during training also take the index of the pass, so that a resumed run needs no generator state.
"""

import functools
import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # only training code waits for torch
    import torch
    from torch import Tensor

ROOT_ENTROPY = 10707

# 64-bit constants of SplitMix64 as signed integers.
_SPLITMIX_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_SPLITMIX_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))

# Never reuse or change a number: results depend on it.
STREAMS = {
    "validation": 0,
    "class_order": 1,
    "subset": 2,
    "resampling": 3,
    "generator_init": 4,
    "discriminator_init": 5,
    "generator_batches": 6,
    "generator_noise": 7,
    "discriminator_dropout": 8,
    "sampling_noise": 9,
    "diversity_noise": 10,
    "classifier_init": 11,
    "classifier_batches": 12,
    "sheet_noise": 13,
    "classifier_dropout": 14,
    "classifier_augmentation": 15,
    "generator_augmentation": 16,
    "encoder_init": 17,
}


def _seed_sequence(seed: int, purpose: str, index: int) -> np.random.SeedSequence:
    if seed < 0:
        raise ValueError(f"a seed must be at least 0, got {seed}")
    return np.random.SeedSequence([ROOT_ENTROPY, seed], spawn_key=(*_number(purpose), index))


def _number(purpose: str) -> tuple[int, ...]:
    """Return the number of a purpose, or eight words of a hash, which equals no number."""
    if "/" in purpose:
        return _hash(purpose)
    if purpose not in STREAMS:
        raise ValueError(
            f"unknown stream {purpose!r}; known: {', '.join(STREAMS)}, and those that begin with a method's "
            'name, such as "mixup/pairs"'
        )
    return (STREAMS[purpose],)


@functools.cache
def _hash(purpose: str) -> tuple[int, ...]:
    return tuple(np.frombuffer(hashlib.sha256(purpose.encode()).digest(), dtype="<u4").tolist())


def numpy_stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return the numpy generator of one purpose of one seed.

    Args:
        seed: replicate index, at least 0.
        purpose: a name in `STREAMS`, or a method's name, a slash, and what is drawn.
        index: the pass (epoch) or the step that consumes the stream; 0 for streams consumed once.

    Raises:
        ValueError: unknown purpose or negative seed.
    """
    return np.random.default_rng(_seed_sequence(seed, purpose, index))


def torch_stream(
    seed: int, purpose: str, index: int = 0, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """Return the torch generator of one purpose of one seed; arguments and errors as `numpy_stream`."""
    import torch

    return torch.Generator(device).manual_seed(stream_key(seed, purpose, index))


def stream_key(seed: int, purpose: str, index: int = 0) -> int:
    """Return the key of a stream, at least 0 and below 2^63; arguments and errors as `numpy_stream`."""
    state = _seed_sequence(seed, purpose, index).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def random_words(key: "Tensor", counter: "Tensor") -> "Tensor":
    """Return random int64, one for each counter, as a function of key and counter alone.

    SplitMix64: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators, in signed arithmetic.
    """
    words = key + counter * _SPLITMIX_GAMMA
    for num_bits, factor in _SPLITMIX_ROUNDS:
        words ^= _shift_right(words, num_bits)
        words *= factor
    return words.bitwise_xor_(_shift_right(words, 31))


def _shift_right(words: "Tensor", num_bits: int) -> "Tensor":
    """Shift in zeros from the left, where torch's shift of int64 repeats the sign."""
    return (words >> num_bits).bitwise_and_((1 << (64 - num_bits)) - 1)
