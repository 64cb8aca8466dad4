"""Divide the items of a pass into batches."""

from dataclasses import dataclass

from lt_rebalance.ground.text import count


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The batches of a pass through some items; every item is in one batch."""

    num_items: int
    batch_size: int
    smallest: int
    """smallest batch size; a smaller rest at the end joins the batch before it"""

    def __post_init__(self) -> None:
        if min(self.num_items, self.batch_size) < self.smallest:
            raise ValueError(
                f"a batch needs at least {self.smallest} items, got {count(self.num_items, 'item')} in "
                f"batches of {self.batch_size}"
            )

    @property
    def steps_per_pass(self) -> int:
        """Batches of a pass."""
        full, rest = divmod(self.num_items, self.batch_size)
        return full + (rest >= self.smallest)

    @property
    def sizes(self) -> list[int]:
        """The size of each batch of a pass."""
        return [len(self.items_of(position)) for position in range(self.steps_per_pass)]

    def items_of(self, position: int) -> range:
        """Return the places, in the order of a pass, of the items of one of its batches."""
        first = position * self.batch_size
        is_last = position == self.steps_per_pass - 1
        return range(first, self.num_items if is_last else first + self.batch_size)

    def images_seen(self, num_steps: int) -> int:
        """Return the number of images in `num_steps` steps."""
        passes, steps = divmod(num_steps, self.steps_per_pass)
        return passes * self.num_items + steps * self.batch_size
