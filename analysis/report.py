"""Write a report: a self-contained page, one more a search, and tables and figures as files of their own."""

import base64
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from analysis.collect import Results
from analysis.figures import Drawn, draw_figures, draw_search, own_settings, to_png, to_svg
from analysis.searches import SearchResults, read_searches
from analysis.sentences import (
    chapter_texts,
    describe_pairs,
    describe_search_choice,
    describe_seeds,
    describe_settings,
)
from analysis.summary import describe_design, describe_findings, describe_limits, describe_versions
from analysis.tables import (
    Frames,
    Table,
    account,
    build_tables,
    compute_frames,
    count_gaps,
    search_tables,
    to_csv,
    to_latex,
    to_markdown,
)
from lt_rebalance.ground.text import to_csv as to_raw_csv

MAX_SVG_BYTES = 200_000
"""size above which a figure is embedded as PNG"""
LONG_TEXT = 120
"""characters above which a cell folds"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, as the page embeds it."""

    name: str
    title: str
    caption: str
    source: str
    """data URI"""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A part of the report."""

    name: str
    """anchor"""
    short_title: str
    """in the navigation"""
    title: str
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    """prefixes of their names"""


CHAPTERS = (
    Chapter(
        name="completeness",
        short_title="Completeness",
        title="What was planned, and what was run",
        tables=("t6-completeness", "t6-provenance", "t6-cost", "t6-cost-methods"),
    ),
    Chapter(
        name="replication",
        short_title="Replication",
        title="What each method reached",
        tables=("t1-replication-all", "t1-replication-healthy", "t1-further"),
        figures=("f1",),
    ),
    Chapter(
        name="differences",
        short_title="Differences",
        title="Which method wins, and how sure that is",
        tables=("t2-differences",),
        figures=("f2", "f3", "f4"),
    ),
    Chapter(
        name="methods",
        short_title="Methods",
        title="The methods, ranked, and what they cost",
        tables=("r1-ranking", "r2-none", "r2-oversample", "r3-cost", "r4-tuning"),
        figures=("f10", "f11"),
    ),
    Chapter(
        name="datasets",
        short_title="Data sets",
        title="The methods over data sets",
        tables=("r5-datasets",),
    ),
    Chapter(
        name="ablations",
        short_title="Ablations",
        title="What single choices do",
        tables=("a1-ablations",),
        figures=("f9",),
    ),
    Chapter(
        name="collapse",
        short_title="Collapse",
        title="Dead classes",
        tables=("t3-collapse",),
        figures=("f5", "f6", "f7"),
    ),
    Chapter(
        name="classes",
        short_title="Classes",
        title="How well each class is recognised",
        tables=("t7-classes",),
    ),
    Chapter(
        name="generators",
        short_title="Generators",
        title="What the generators draw",
        tables=("t3-generators",),
        figures=("f8",),
    ),
    Chapter(
        name="components",
        short_title="Components",
        title="Where the spread comes from",
        tables=("t4-components", "t4-sources"),
    ),
    Chapter(
        name="power",
        short_title="Power",
        title="What these runs can show",
        tables=("t5-power",),
    ),
    Chapter(
        name="hypotheses",
        short_title="Hypotheses",
        title="Hypotheses",
        tables=("hypotheses",),
    ),
    Chapter(
        name="own-metrics",
        short_title="Your metrics",
        title="Metrics of your own",
        tables=("m1-own-metrics",),
    ),
    Chapter(
        name="exploratory",
        short_title="Exploratory",
        title="Exploratory comparisons",
        tables=("x1-other-pairs", "x2-collapse-comparison"),
    ),
)


@own_settings()
def write_report(results: Results, out_dir: str | Path) -> Path:
    """Write `index.html`, a page a search, `tables/` and `figures/`, and return the path of `index.html`.

    Everything is made before anything is written. Files of an earlier report are replaced, each in one step
    and the page last; nothing else is touched. The report of an incomplete store says at its head that it is
    partial.

    Raises:
        ValueError: `out_dir` lies in the store, or not on this machine.
    """
    if "://" in str(out_dir):
        raise ValueError(f"--out must be a directory of this machine, got {str(out_dir)!r}")
    out = Path(out_dir).expanduser().resolve()
    store = results.store.directory
    if store is not None and out.is_relative_to(store.resolve()):
        raise ValueError(
            f"--out {out} lies in the store {store}, which only sweeps write; name another directory"
        )
    searches = read_searches(results.store)
    frames = compute_frames(results)
    tables = build_tables(results, frames)
    files: dict[str, bytes] = {}
    for table in tables.values():
        files |= _table_files(table)
    for name, frame in {"runs": results.runs, "cells": results.cells}.items():
        files[f"tables/{name}.csv"] = to_raw_csv(frame).encode()
    pictures = []
    for drawn in draw_figures(results, frames.contrasts, frames.methods):
        picture, drawn_files = _embed(drawn)
        files |= drawn_files
        pictures.append(picture)
    for search in searches:
        files |= _search_files(search)
    files["index.html"] = render(results, frames, tables, pictures, searches).encode()
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    return out / "index.html"


def _search_files(search: SearchResults) -> dict[str, bytes]:
    """Return the page of a search, its tables and its figures."""
    tables, pictures = search_tables(search), []
    files: dict[str, bytes] = {}
    for table in tables:
        files |= _table_files(table)
    for drawn in draw_search(search):
        picture, drawn_files = _embed(dataclasses.replace(drawn, name=f"{drawn.name}-{search.name}"))
        files |= drawn_files
        pictures.append(picture)
    template = _environment().get_template("search.html.jinja")
    page = template.render(
        search=search,
        tables=tables,
        pictures=pictures,
        versions=describe_versions(),
        long_text=LONG_TEXT,
        choice=describe_search_choice(search.objectives.values()),
    )
    return files | {f"search-{search.name}.html": page.encode()}


def _table_files(table: Table) -> dict[str, bytes]:
    writers = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    return {f"tables/{table.name}.{suffix}": write(table).encode() for suffix, write in writers.items()}


def _embed(drawn: Drawn) -> tuple[Picture, dict[str, bytes]]:
    """Return a figure as the page embeds it, and its files."""
    svg, png = to_svg(drawn), to_png(drawn)
    kind, content = ("svg+xml", svg) if len(svg) <= MAX_SVG_BYTES else ("png", png)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    picture = Picture(name=drawn.name, title=drawn.title, caption=drawn.caption, source=source)
    return picture, {f"figures/{drawn.name}.svg": svg, f"figures/{drawn.name}.png": png}


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(
    results: Results,
    frames: Frames,
    tables: dict[str, Table],
    pictures: Sequence[Picture],
    searches: Sequence[SearchResults],
) -> str:
    """Return the page."""
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            searches=searches,
            studies=results.studies,
            questions=results.questions,
            is_partial=count_gaps(results.planned) > 0,
            account=account(results.planned),
            findings=describe_findings(results, frames),
            design=describe_design(results),
            notes=results.notes,
            chapters=[chapter for chapter in CHAPTERS if set(chapter.tables) <= set(tables)],
            texts=chapter_texts(
                results.cells,
                results.runs,
                frames.contrasts,
                has_comparisons=len(results.comparisons) > 0,
            ),
            pairs=describe_pairs(results.cells),
            seeds=describe_seeds(results.cells),
            settings=describe_settings(results.cells, has_comparisons=len(results.comparisons) > 0),
            tables=tables,
            pictures={chapter.name: _select(pictures, chapter) for chapter in CHAPTERS},
            limits=describe_limits(results, frames),
            versions=describe_versions(),
            long_text=LONG_TEXT,
        )
    )


def _select(pictures: Sequence[Picture], chapter: Chapter) -> list[Picture]:
    return [each for each in pictures if each.name.partition("-")[0] in chapter.figures]
