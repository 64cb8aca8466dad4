"""Draw a test split where a set brings none: a share of every class, whole groups at a time.

Shape suffix: N images.
"""

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.seeding import numpy_stream

STREAM = "own_data/test_split"
SEED = 0
"""the split is drawn once for all: it belongs to the data, not to a replicate"""


def draw_test(labels_N: NDArray[np.int64], groups_N: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Return which images become the test split, in an order of images that must not depend on their files.

    Classes choose in turn, the smallest first, so that a group with images of several classes serves the one
    that has least to choose from. A class takes groups, in an order drawn at random, as long as each brings
    its share closer to the fraction, at least one, and leaves at least one to learn from. A class of a single
    group gets no test image.
    """
    rng = numpy_stream(SEED, STREAM)
    counts_K = np.bincount(labels_N)
    num_groups = int(groups_N.max()) + 1
    is_tested = np.zeros(num_groups, bool)
    is_kept = np.zeros(num_groups, bool)
    for label in np.lexsort((np.arange(len(counts_K)), counts_K)):
        groups, sizes = np.unique(groups_N[labels_N == label], return_counts=True)
        target = fraction * counts_K[label]
        num_tested = int(sizes[is_tested[groups]].sum())
        num_left = int((~is_tested[groups]).sum())
        for place in rng.permutation(len(groups)):
            group, size = groups[place], int(sizes[place])
            if num_left == 1 or num_tested >= target:
                break
            is_closer = abs(num_tested + size - target) < abs(num_tested - target)
            if not is_tested[group] and not is_kept[group] and (is_closer or num_tested == 0):
                is_tested[group] = True
                num_tested += size
                num_left -= 1
        # One group that was left to learn from stays so, whatever later classes choose.
        is_kept[groups[~is_tested[groups]][:1]] = True
    return is_tested[groups_N]
