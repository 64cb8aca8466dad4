"""What a forward pass of a network costs is what counting it again gives."""

import pytest

from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS, PAPER_GAN, TRAINED
from lt_rebalance.networks.known_costs import KNOWN_COSTS, find_cost
from lt_rebalance.stages.counting import count_classifier, count_generator, count_partner


@pytest.mark.slow
def test_known_costs_is_what_is_counted_of_every_network_and_data_set() -> None:
    checked = set()
    for spec in DATASETS.values():
        networks = {
            place: lambda place=place, spec=spec: count_partner(place, spec)
            for place in {each.partner for each in (PAPER_GAN, *TRAINED.values())}
        }
        networks |= {
            place: lambda name=name, spec=spec: count_classifier(name, spec)
            for name, place in CLASSIFIERS.items()
        }
        networks |= {
            place: lambda name=name, spec=spec: count_generator(name, spec)
            for name, place in GENERATORS.items()
        }
        for place, count in networks.items():
            if (known := find_cost(place, spec)) is not None:
                assert known == count(), place
                checked.add((place, spec.num_classes, spec.image_shape))
    assert checked == set(KNOWN_COSTS)


def test_work_is_known_of_that_very_network_at_that_very_shape_alone() -> None:
    spec = DATASETS["fashion_mnist"]
    assert find_cost(CLASSIFIERS["paper_cnn"], spec) is not None
    assert find_cost("another.module:build_paper_cnn", spec) is None
