"""Class-balanced sampling: all classes are equally likely.

Source: Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis 2020, Decoupling Representation and Classifier for
Long-Tailed Recognition, arXiv 1910.09217, equation 1 with q = 0. Deferred, it is DRS (Cao et al. 2019, arXiv
1906.07413): until then items are equally likely. Deviations: items are drawn with replacement, also while it
is deferred, and it begins with the first pass that starts at or after that share of the budget; a training
without such a pass is refused. A pass is as many draws as there are training items.

Shape suffix: K classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.weighing import Deferred


@dataclass(frozen=True, kw_only=True)
class ClassBalancedSamplingOptions(Deferred):
    """Options of class-balanced sampling."""


def _order(counts_K: NDArray[np.int64], progress: float, options: Options) -> NDArray[np.float64]:
    return np.ones(len(counts_K)) if progress >= options.deferred else counts_K.astype(np.float64)


CLASS_BALANCED_SAMPLING = Method(
    description="show all classes alike", options=ClassBalancedSamplingOptions, order=_order
)
