"""Progressively balanced sampling: from equally likely items to equally likely classes.

Source: Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis 2020, Decoupling Representation and Classifier for
Long-Tailed Recognition, arXiv 1910.09217, "progressively-balanced sampling" in section 3: p_c(t) = (1 - t)
n_c / N + t / K, with t the used share of the budget. Deviations: t rises from pass to pass, as in their code,
also for budgets in steps, so in P passes it ends at 1 - 1 / P or, if the last pass is cut, nearer to 1, and a
single pass is refused; items are drawn with replacement.

Shape suffix: K classes.
"""

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.methods.contract import Method, Options


def _order(counts_K: NDArray[np.int64], progress: float, options: Options) -> NDArray[np.float64]:
    chances_K: NDArray[np.float64] = (1 - progress) * counts_K / counts_K.sum() + progress / len(counts_K)
    return chances_K


PROGRESSIVE_SAMPLING = Method(
    description="show items alike at first and classes alike in the end", order=_order
)
