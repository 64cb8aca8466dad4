"""Describe a set of images: as plain values, and as lines for a terminal of 80 columns."""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size

from lt_rebalance.ground.imbalance import rank_groups
from lt_rebalance.ground.text import count, one_line
from lt_rebalance.images.load import Look
from lt_rebalance.images.pool import SPLITS

MOST_ROWS = 20
"""largest number of classes shown one by one; of more classes, the ends are shown"""
_WIDTH = 80
_NAME_WIDTH = 24
_NUM_SIZES = 4


def to_dict(what: str, look: Look) -> dict[str, Any]:
    """Return the content of a location as JSON values."""
    spec = None if look.own is None else look.own.spec
    return {
        "location": what,
        "name": None if spec is None else spec.name,
        "identity": None if spec is None else spec.identity,
        "image_shape": None if spec is None else list(spec.image_shape),
        "class_names": list(look.class_names),
        "counts": {split: list(look.counts[split]) for split in SPLITS if split in look.counts},
        "imbalance_ratio": _ratio(look.counts["train"]),
        "groups": {name: labels for name, labels in rank_groups(look.counts["train"]).items()},
        "sizes": [[*size, count] for size, count in look.sizes.most_common()],
        "errors": list(look.errors),
        "warnings": list(look.warnings),
    }


def _ratio(counts_K: Sequence[int]) -> float | None:
    """Return the ratio of the largest to the smallest class; None if a class has no image."""
    return max(counts_K) / min(counts_K) if min(counts_K) else None


def describe(what: str, look: Look) -> Iterator[str]:
    """Yield the content of a location, line by line."""
    counts_K = look.counts["train"]
    yield f"{what}: {count(len(counts_K), 'class', 'classes')}"
    if look.own is not None:
        yield f"name:   {look.own.spec.name}"
    yield "images: " + ", ".join(
        f"{sum(look.counts[split]):,} {split}" for split in SPLITS if split in look.counts
    )
    yield f"sizes:  {_describe_sizes(look.sizes)}"
    if look.own is not None:
        channels, height, width = look.own.spec.image_shape
        yield f"kept:   {width} x {height}, {'grey' if channels == 1 else 'colour'}"
    ratio = _ratio(counts_K)
    yield f"ratio:  {'-' if ratio is None else f'{ratio:.4g}'} (largest class to smallest, of train)"
    yield ""
    yield from _draw_histogram(look)
    yield ""
    for name, labels in rank_groups(counts_K).items():
        share = sum(counts_K[label] for label in labels) / max(sum(counts_K), 1)
        yield f"{name:7} {count(len(labels), 'class', 'classes')} with {share:.1%} of the images"
    # The error with which the command ends is the first.
    for kind, found in {"warning": look.warnings, "error": look.errors[1:]}.items():
        yield from (f"{kind}: {text}" for text in found)


def _describe_sizes(sizes: Counter[tuple[int, int]]) -> str:
    common = sizes.most_common(_NUM_SIZES)
    shown = [f"{width} x {height} ({number:,})" for (width, height), number in common]
    return (
        ", ".join(shown + [f"{len(sizes) - len(common):,} more"] * (len(sizes) > len(common))) or "none known"
    )


def _order(counts_K: Sequence[int]) -> list[int]:
    return [label for labels in rank_groups(counts_K).values() for label in labels]


def choose_classes(counts_K: Sequence[int]) -> list[int]:
    """Return the classes to show: all, or of too many the largest and the smallest."""
    order = _order(counts_K)
    half = MOST_ROWS // 2
    return order if len(order) <= MOST_ROWS else order[:half] + order[-half:]


def _draw_histogram(look: Look) -> Iterator[str]:
    """Yield a line per class: its name, bar and training images, then those of the other splits."""
    others = [split for split in SPLITS[1:] if split in look.counts]
    labels = choose_classes(look.counts["train"])
    name_width = min(max(cell_len(one_line(look.class_names[label])) for label in labels), _NAME_WIDTH)
    name_width = max(name_width, len("class"))
    widths = {
        split: max(len(split), *(len(f"{count:,}") for count in look.counts[split])) for split in look.counts
    }
    bar_width = _WIDTH - name_width - sum(widths[split] + 1 for split in ("train", *others)) - 2
    block, largest = _block(), max(*look.counts["train"], 1)
    titles = " ".join(f"{split:>{widths[split]}}" for split in others)
    yield f"{'class':{name_width}} {'train':>{widths['train']}} {'':{bar_width}} {titles}"
    for place, label in enumerate(labels):
        if place == MOST_ROWS // 2 and len(labels) < len(look.class_names):
            yield _describe_between(look.counts["train"])
        count = look.counts["train"][label]
        bar = block * math.ceil(bar_width * count / largest)
        rest = " ".join(f"{look.counts[split][label]:>{widths[split]},}" for split in others)
        name = set_cell_size(one_line(look.class_names[label]), name_width)
        yield f"{name} {count:>{widths['train']},} {bar:{bar_width}} {rest}"


def _describe_between(counts_K: Sequence[int]) -> str:
    half = MOST_ROWS // 2
    between = np.array(counts_K)[_order(counts_K)[half:-half]]
    classes = count(len(between), "class", "classes")
    return f"... {classes} between, of {between.max():,} to {between.min():,} images ..."


def _block() -> str:
    """Return the character of bars: a block, if the terminal can show it."""
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#"
    return "█"
