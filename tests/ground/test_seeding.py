"""Checks of the random streams: what they depend on, what they leave alone, what must never change."""

import itertools
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from lt_rebalance.ground.seeding import ROOT_ENTROPY, STREAMS, numpy_stream, random_words, torch_stream

# A number, once given, keeps its meaning for ever. Additions are welcome, changes are not.
FROZEN_STREAMS = {
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
}
# By purpose, of seed 3 and index 1: the first raw word of the numpy stream, the seed of the torch stream.
GOLDEN = {
    "validation": (9161297260011114999, 719279557210608249),
    "class_order": (9281366711098622490, 2588845783013698204),
    "subset": (579373416408896173, 1543920540823518630),
    "resampling": (741179569032993517, 3062282840095975944),
    "generator_init": (9667284014185249847, 8282645066246776120),
    "discriminator_init": (7011477920522558147, 1957869255580908265),
    "generator_batches": (7255056434516080279, 8115113060186764464),
    "generator_noise": (9927306685218891383, 499664229108738727),
    "discriminator_dropout": (15503477489210702083, 6247131675108249646),
    "sampling_noise": (15653983615116957206, 4753342365409619815),
    "diversity_noise": (18032320085482744469, 504204052423128153),
    "classifier_init": (8813458051319163617, 4402003796523375582),
    "classifier_batches": (4064197630033504606, 3927121138457127312),
    "sheet_noise": (1765751020183092795, 1469195640954943335),
    "classifier_dropout": (5464941918317335958, 8706365738623107614),
}
PRINT_STREAMS = """
import json
from lt_rebalance.ground.seeding import STREAMS, numpy_stream, torch_stream
print(json.dumps({
    purpose: [
        numpy_stream(3, purpose, 1).bit_generator.random_raw(),
        torch_stream(3, purpose, 1).initial_seed(),
    ]
    for purpose in STREAMS
}))
"""


def numpy_numbers(seed: int, purpose: str, index: int = 0) -> list[int]:
    return numpy_stream(seed, purpose, index).integers(2**62, size=4).tolist()


def torch_numbers(seed: int, purpose: str, index: int = 0) -> list[int]:
    return torch.randint(2**62, (4,), generator=torch_stream(seed, purpose, index)).tolist()


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
@pytest.mark.parametrize("purpose", STREAMS)
def test_stream_with_same_arguments_gives_same_numbers(numbers, purpose: str) -> None:
    assert numbers(5, purpose, 2) == numbers(5, purpose, 2)


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
@pytest.mark.parametrize("purpose", STREAMS)
def test_stream_with_other_seed_or_index_gives_other_numbers(numbers, purpose: str) -> None:
    variants = [numbers(0, purpose), numbers(1, purpose), numbers(0, purpose, 1), numbers(1, purpose, 1)]
    for one, other in itertools.combinations(variants, 2):
        assert one != other


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
def test_streams_of_different_purposes_differ_pairwise(numbers) -> None:
    for one, other in itertools.combinations(STREAMS, 2):
        assert numbers(0, one) != numbers(0, other), (one, other)


def test_torch_streams_of_many_seeds_purposes_and_passes_all_differ() -> None:
    arguments = list(itertools.product(range(10), STREAMS, range(10)))
    assert len({tuple(torch_numbers(*values)) for values in arguments}) == len(arguments)


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
def test_stream_default_index_is_pass_zero(numbers) -> None:
    assert numbers(4, "subset") == numbers(4, "subset", 0)


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
def test_stream_does_not_depend_on_global_generators(numbers) -> None:
    results = []
    for global_seed in (0, 1):
        random.seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002  # the global state is what is tested
        torch.manual_seed(global_seed)
        results.append(numbers(0, "subset"))
    assert results[0] == results[1]


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
def test_stream_leaves_global_generators_untouched(numbers) -> None:
    def global_state() -> tuple[object, bytes, bytes]:
        numpy_state = np.random.get_state()  # noqa: NPY002
        return random.getstate(), repr(numpy_state).encode(), torch.get_rng_state().numpy().tobytes()

    before = global_state()
    for purpose in STREAMS:
        numbers(1, purpose)
    assert global_state() == before


def test_streams_drawn_in_turn_do_not_disturb_each_other() -> None:
    one, other = numpy_stream(0, "subset"), numpy_stream(0, "resampling")
    interleaved = [int(stream.integers(2**62)) for _ in range(4) for stream in (one, other)]
    assert interleaved[::2] == [int(n) for n in numpy_numbers(0, "subset")]
    assert interleaved[1::2] == [int(n) for n in numpy_numbers(0, "resampling")]


def test_stream_equals_seed_sequence_of_root_seed_and_purpose_number() -> None:
    sequence = np.random.SeedSequence([10707, 8], spawn_key=(12, 3))
    assert ROOT_ENTROPY == 10707
    expected = np.random.Generator(np.random.PCG64(sequence)).integers(2**62, size=4).tolist()
    assert numpy_numbers(8, "classifier_batches", 3) == expected
    (word,) = sequence.generate_state(1, np.uint64)
    assert torch_stream(8, "classifier_batches", 3).initial_seed() == int(word) // 2


@pytest.mark.parametrize("purpose", FROZEN_STREAMS)
def test_stream_first_number_equals_golden_value(purpose: str) -> None:
    raw_word = numpy_stream(3, purpose, 1).bit_generator.random_raw()
    assert (raw_word, torch_stream(3, purpose, 1).initial_seed()) == GOLDEN[purpose]


@pytest.mark.slow
def test_stream_in_a_fresh_process_gives_the_same_numbers() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "1234"}
    result = subprocess.run(
        [sys.executable, "-c", PRINT_STREAMS], env=environment, capture_output=True, text=True, check=True
    )
    here = {
        purpose: [
            numpy_stream(3, purpose, 1).bit_generator.random_raw(),
            torch_stream(3, purpose, 1).initial_seed(),
        ]
        for purpose in STREAMS
    }
    assert json.loads(result.stdout) == here


def test_stream_numbers_are_unique_and_never_change() -> None:
    assert len(set(STREAMS.values())) == len(STREAMS)
    assert {purpose: STREAMS.get(purpose) for purpose in FROZEN_STREAMS} == FROZEN_STREAMS


@pytest.mark.parametrize("stream", [numpy_stream, torch_stream])
def test_stream_of_unknown_purpose_names_the_known(stream) -> None:
    with pytest.raises(
        ValueError, match=r"unknown stream 'subsets'; known: validation, .*classifier_batches"
    ):
        stream(0, "subsets")


@pytest.mark.parametrize("stream", [numpy_stream, torch_stream])
def test_stream_of_negative_seed_is_refused(stream) -> None:
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        stream(-1, "subset")


@pytest.mark.parametrize("stream", [numpy_stream, torch_stream])
def test_stream_of_negative_index_is_refused(stream) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        stream(0, "subset", -1)


# Random words


def splitmix64(state: int) -> int:
    """Return the output of SplitMix64 in unsigned Python integers, as its authors state it."""
    word = state % 2**64
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def test_random_words_are_those_of_splitmix64() -> None:
    counters = [0, 1, 2, 1000, 2**40 + 3]
    for key in (0, 7, 2**62 + 11):
        words = random_words(torch.tensor(key), torch.tensor(counters)).tolist()
        expected = [splitmix64(key + counter * 0x9E3779B97F4A7C15) for counter in counters]
        assert [word % 2**64 for word in words] == expected
    # The published first output of the generator seeded with 0, which steps before it mixes.
    assert int(random_words(torch.tensor(0), torch.tensor(1))) % 2**64 == 0xE220A8397B1DCDAF
