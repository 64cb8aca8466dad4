"""Fill every class to the size of the largest with images from a conditional GAN.

Source: Mankikar, Patel, Zhang, section 3.2.
"""

from lt_rebalance.methods.contract import Method
from lt_rebalance.methods.filling import fill_up

CGAN = Method(
    description="fill every class to the count of the largest with images from a conditional GAN",
    needs_generator=True,
    plan=fill_up,
)
