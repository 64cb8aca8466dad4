"""Square-root sampling: the chance of a class is proportional to the square root of its count.

Source: Mahajan et al. 2018, Exploring the Limits of Weakly Supervised Pretraining, arXiv 1805.00932, section
2.2; Kang et al. 2020, Decoupling Representation and Classifier for Long-Tailed Recognition, arXiv 1910.09217,
equation 1 with q = 1/2: p_j = n_j^q / sum_i n_i^q. Deviation: items of a class are drawn with replacement.

Shape suffix: K classes.
"""

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.methods.contract import Method, Options


def _order(counts_K: NDArray[np.int64], progress: float, options: Options) -> NDArray[np.float64]:
    chances_K: NDArray[np.float64] = np.sqrt(counts_K)
    return chances_K


SQRT_SAMPLING = Method(
    description="show classes in proportion to the square roots of their counts", order=_order
)
