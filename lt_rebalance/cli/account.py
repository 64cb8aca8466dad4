"""The README of a published study: checks, commands, dates and costs."""

import datetime
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jinja2

from lt_rebalance.ground.text import format_bytes, format_duration, one_line
from lt_rebalance.monitoring.facts import RUN_STATES
from lt_rebalance.monitoring.sessions import ESTIMATED_AT, Session
from lt_rebalance.monitoring.stage_log import Attempts
from lt_rebalance.monitoring.status import Status
from lt_rebalance.registration.study_plan import StudyPlan
from lt_rebalance.store.records import Record

_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Account:
    """Facts about a study that its report does not have."""

    plan: StudyPlan
    status: Status
    num_seeds: int
    num_subsets: int | None
    """whose seeds are combined with others; None if a seed sets everything"""
    num_whole: int
    """seeds at which every run has a result"""
    unfinished: Sequence[int]
    """the last seeds, which the report leaves out"""
    has_samples: bool
    """whether the archive has images that generators drew, beside real ones"""
    sessions: Sequence[Session]
    attempts: Mapping[str, Attempts]
    """by key, of the stages that have a log"""
    records: Sequence[Record]
    keys: Sequence[str]
    """of all planned stages, each after those that it needs"""
    execution: Mapping[str, Any]
    images: Sequence[str]
    """the user's sets of images, by name"""
    archive_bytes: int
    source: Mapping[str, Any]
    """of the code that published it, as `driver_source` returns it"""


def describe(account: Account) -> str:
    """Return the README of a study, in Markdown; equal for equal accounts."""
    status, keys = account.status, account.keys
    spendings = {**status.spending_by_kind, **status.spending_by_method}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lt_rebalance", "cli"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, which `plain` escapes
    )
    environment.filters |= {
        "plain": _plain,
        "clock": _clock,
        "hours": lambda seconds: f"{seconds / 3600:.2f}",
        "duration": format_duration,
        "since": lambda end_s, began_s: "" if end_s is None else format_duration(end_s - began_s),
    }
    return environment.get_template("study.md.jinja").render(
        **vars(account)
        | {
            "archive": format_bytes(account.archive_bytes),
            "example": [
                record.key for record in account.records if record.stage["seed"] not in account.unfinished
            ][-1][:_DIGITS],
            "runs": {state: status.runs[state] for state in ("planned", *RUN_STATES)},
            "stages": status.stages,
            "keys_sha256": hashlib.sha256("".join(f"{key}\n" for key in sorted(keys)).encode()).hexdigest(),
            "made": dict(sorted(Counter(map(_describe_origin, account.records)).items())),
            "num_logs": len(account.attempts),
            "attempts": _add_up(account.attempts),
            "costs": [("all", status.spending.spent_s)]
            + [(name, each.spent_s) for name, each in spendings.items()],
            "saved_s": status.saved_s,
            "forecasts": [session for session in account.sessions if session.forecasts],
            "shares": ESTIMATED_AT,
        }
    )


def _add_up(attempts: Mapping[str, Attempts]) -> Attempts | None:
    if not attempts:
        return None
    names = [field.name for field in fields(Attempts)]
    return Attempts(**{name: sum(getattr(each, name) for each in attempts.values()) for name in names})


def _describe_origin(record: Record) -> str:
    """Return the machine and the code that made a record."""
    told = {name: _plain(value or "unknown") for name, value in record.provenance.items()}
    device, host, commit = (told.get(name, "unknown") for name in ("device", "host", "commit"))
    changed = ", changed" if record.provenance.get("is_dirty") else ""
    source = told.get("source_sha256", "unknown")[:_DIGITS]
    return f"{device}, host {host}, commit {commit}{changed}, source {source}"


def _clock(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S}"


def _plain(text: object) -> str:
    """Return a text for one line of Markdown, without effect as markup."""
    line = one_line(" ".join(str(text).split()))
    return "".join(f"\\{each}" if each in "\\`*_[]<>#|" else each for each in line)
