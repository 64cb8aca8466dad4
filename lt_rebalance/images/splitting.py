"""Draw a missing split of a set: a share of every class, in whole groups.

Shape suffixes: N images, K classes, P pairs of a group and a class in it.
"""

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.seeding import numpy_stream

STREAMS = {"test": "own_data/test_split", "validation": "own_data/validation_split"}
SEED = 0
"""a split is drawn once: it belongs to the data, not to a replicate"""


def draw_split(
    name: str,
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    fraction: float,
    *,
    takes_first: bool = False,
) -> NDArray[np.bool_]:
    """Return which images form the named split; the order of images must not depend on their files.

    Classes choose in turn, the smallest first, so a group with images of several classes goes to the class
    with the fewest choices. A class takes groups in random order that fit into its share, then the smallest
    other one if that comes closer to the share, or if it has none. The last group that a class has left
    stays for training, whichever class would take it; so a class of a single group gives none.

    Args:
        takes_first: a class takes its first group whatever its size, and then any that comes closer; sets
            without groups are drawn so, and their identity follows from it.
    """
    rng = numpy_stream(SEED, STREAMS[name])
    counts_K = np.bincount(labels_N)
    num_groups = int(groups_N.max()) + 1
    is_drawn = np.zeros(num_groups, bool)
    is_kept = np.zeros(num_groups, bool)
    # Every class of every group once, by group; and how many groups of each class are not drawn.
    groups_P, classes_P = np.divmod(np.unique(groups_N * len(counts_K) + labels_N), len(counts_K))
    starts = np.searchsorted(groups_P, np.arange(num_groups + 1))
    left_K = np.bincount(classes_P)
    for label in np.lexsort((np.arange(len(counts_K)), counts_K)):
        groups, sizes = np.unique(groups_N[labels_N == label], return_counts=True)
        target = fraction * counts_K[label]
        num_drawn = int(sizes[is_drawn[groups]].sum())
        order = rng.permutation(len(groups))
        smallest_first = order[np.argsort(sizes[order], kind="stable")]
        for number, place in enumerate([*order, *smallest_first]):
            group, size = groups[place], int(sizes[place])
            if left_K[label] == 1 or num_drawn >= target:
                break
            is_closer = abs(num_drawn + size - target) < abs(num_drawn - target)
            may_exceed = (takes_first or number >= len(order)) and (is_closer or num_drawn == 0)
            classes = classes_P[starts[group] : starts[group + 1]]
            is_free = not is_drawn[group] and not is_kept[group] and left_K[classes].min() > 1
            if is_free and (may_exceed or num_drawn + size <= target):
                is_drawn[group] = True
                num_drawn += size
                left_K[classes] -= 1
        # One group that was left to learn from stays so, whatever later classes choose.
        is_kept[groups[~is_drawn[groups]][:1]] = True
    return is_drawn[groups_N]
