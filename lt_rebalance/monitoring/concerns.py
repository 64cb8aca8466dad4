"""Problems of a result or a machine that a user should know, in words."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lt_rebalance.ground.metrics import COLLAPSED_BELOW
from lt_rebalance.store.records import Record

MAX_NAMED = 20
"""at most this many classes are named"""
FREE_BYTES, FREE_SHARE = 5 * 2**30, 0.05
"""a disk with less free space than both is nearly full"""


@dataclass(frozen=True, kw_only=True)
class Concern:
    """A problem that a user should know."""

    kind: str
    """"diverged", "dead classes", "rejected images", "collapsed generator" or "disk nearly full\""""
    text: str
    """the problem, in words that follow the name of the stage"""


def find_concerns(record: Record, class_names: Sequence[str]) -> list[Concern]:
    """Return the problems of a result."""
    if record.state == "diverged":
        text = f"diverged after {record.num_steps} steps: a loss was not finite, and there is no result"
        return [Concern(kind="diverged", text=text)]
    if record.kind == "generator":
        diversity_K = record.quality_per_class["diversity"]
        is_collapsed_K = [value is not None and value < COLLAPSED_BELOW for value in diversity_K]
        meaning = "collapsed: it draws almost the same image for"
        return _name_classes("collapsed generator", meaning, is_collapsed_K, class_names)
    if record.kind == "representation":
        return []
    is_dead_K = (record.read_confusion().recall_K == 0).tolist()
    meaning = "has dead classes: no test image is recognised of"
    agreement_K = record.quality_per_class.get("filter_agreement", [None] * len(class_names))
    is_short_K = [value is not None and value < 1 for value in agreement_K]
    rejected = "also learned from synthetic images that the filter rejects, since no draws were left, of"
    return [
        *_name_classes("dead classes", meaning, is_dead_K, class_names),
        *_name_classes("rejected images", rejected, is_short_K, class_names),
    ]


def _name_classes(
    kind: str, meaning: str, is_affected_K: Sequence[bool], class_names: Sequence[str]
) -> list[Concern]:
    names = [name for name, affected in zip(class_names, is_affected_K, strict=True) if affected]
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return [Concern(kind=kind, text=f"{meaning} {', '.join(names[:MAX_NAMED])}{more}")] if names else []


def find_disk_concern(location: str) -> Concern | None:
    """Return a concern if the disk of a directory is nearly full."""
    usage = shutil.disk_usage(location)
    if usage.free >= min(FREE_BYTES, FREE_SHARE * usage.total):
        return None
    left = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.0f} GiB free"
    return Concern(kind="disk nearly full", text=f"the disk of {location} is nearly full: {left}")


_OWN_FILE = "own file"
_REMEDIES = {
    "input": "fix the configuration or data that is named",
    _OWN_FILE: "fix the file of your own that raised (the fixed file is a new one, which runs without more)",
    "code": "fix the code that raised",
}
"""by cause of failure; only causes that a retry alone does not fix"""


def advise_on(causes: Collection[str], command: str, more_options: str = "") -> str:
    """Return what to do about failures of these causes, and the command that resumes after that.

    Args:
        command: the command that failed, as a user gave it. Stages that run anyway after the fix need no
            `--retry-failed`, which would run the old file again.
        more_options: further options of the command, if a new file needs them.
    """
    remedies = [remedy for cause, remedy in _REMEDIES.items() if cause in causes]
    first = f"first {' and '.join(remedies)}" if remedies else ""
    if set(causes) == {_OWN_FILE}:
        return f"{first}, then: {command}{more_options}"
    before = f"{first}, else it fails again; " if remedies else ""
    return f"{before}to retry what failed: {command} --retry-failed"
