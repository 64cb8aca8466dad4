"""The unchanged long-tailed set, the baseline of all methods.

Source: Mankikar, Patel, Zhang, section 3.2.
"""

from lt_rebalance.methods.contract import Method

NONE = Method(description="train on the long-tailed set as it is")
