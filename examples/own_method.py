"""A rebalancing method of your own: cut large and repeat small classes to a size in between.

    python sweeps/full_grid.py --preset quick --methods none oversample examples/own_method.py:meet
    python sweeps/full_grid.py --preset quick --methods none examples/own_method.py:meet:share=0.25

The first compares it with two methods of the package, the second sets its option. The file travels with each
run to its worker, and its SHA-256 is part of every result's key: a changed file is another method.
"""

from dataclasses import dataclass

import numpy as np

from lt_rebalance.methods.contract import Method, without_synthesis


@dataclass(frozen=True, kw_only=True)
class MeetOptions:
    """What can be set on the command line."""

    share: float = 0.5
    """the common size: 0 is the smallest class, 1 the largest, on a logarithmic scale"""

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be between 0 and 1, got {self.share}")


def plan(counts_K, draw, rng, options):
    """Choose the images of each class.

    Args:
        counts_K: how many images each of K classes has.
        draw: one of the method's `draws`; this method has none.
        rng: the only source of random numbers, derived from the seed of the run.
        options: a MeetOptions.

    Returns:
        Positions into the images of each class. A repeated position is a repeated image.
    """
    smallest, largest = np.log(min(counts_K)), np.log(max(counts_K))
    size = round(np.exp(smallest + options.share * (largest - smallest)))
    chosen = []
    for count in counts_K:
        whole, rest = divmod(size, count)
        chosen.append(np.concatenate([np.tile(np.arange(count), whole), rng.permutation(count)[:rest]]))
    return without_synthesis(chosen)


meet = Method(
    description="cut and repeat to a size between the smallest and the largest class",
    options=MeetOptions,
    plan=plan,
)
