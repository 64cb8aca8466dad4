"""Write a report: a self-contained page, one more a search, and tables and figures as files of their own."""

import base64
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from analysis.collect import Results
from analysis.figures import Drawn, draw_figures, draw_search, to_png, to_svg
from analysis.searches import SearchResults, read_searches
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
from lt_rebalance.text import to_csv as to_raw_csv

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
    text: str
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    """prefixes of their names"""


CHAPTERS = (
    Chapter(
        name="completeness",
        short_title="Completeness",
        title="What was planned, and what was run",
        text="Every planned run is accounted for, and so is what it was made with, and what it cost.",
        tables=("t6-completeness", "t6-provenance", "t6-cost", "t6-cost-methods"),
    ),
    Chapter(
        name="replication",
        short_title="Replication",
        title="What each method reached",
        text=(
            "Every run of a cell has its own seed, and with it its own subset, initial weights and order of "
            "batches. The interval of a mean says how well the mean is known; the prediction interval says "
            "where one further run would fall, and that is what a single run is compared with."
        ),
        tables=("t1-replication-all", "t1-replication-healthy", "t1-further"),
        figures=("f1",),
    ),
    Chapter(
        name="differences",
        short_title="Differences",
        title="Which method wins, and how sure that is",
        text=(
            "Methods are compared seed by seed. The contrasts that the paper's claims rest on were declared "
            "before results were read; all others are exploratory, and marked so."
        ),
        tables=("t2-differences",),
        figures=("f2", "f3", "f4"),
    ),
    Chapter(
        name="ablations",
        short_title="Ablations",
        title="What single choices do",
        text=(
            "Some studies compare cells with a reference cell that differs in one choice, or in a few. Every "
            "study is one family of comparisons."
        ),
        tables=("a1-ablations",),
        figures=("f9",),
    ),
    Chapter(
        name="collapse",
        short_title="Collapse",
        title="Dead classes",
        text=(
            "A class is dead when not one of its test images is recognised, and a run with a dead class has "
            "collapsed. Collapsed runs stay in every test."
        ),
        tables=("t3-collapse",),
        figures=("f5", "f6", "f7"),
    ),
    Chapter(
        name="generators",
        short_title="Generators",
        title="What the generators draw",
        text=(
            "Every generator draws from the same noise, so that sheets can be laid side by side. Look for "
            "rows that repeat one image, for images that equal their nearest real one, and for classes "
            "drawn as another."
        ),
        tables=("t3-generators",),
        figures=("f8",),
    ),
    Chapter(
        name="components",
        short_title="Components",
        title="Where the spread comes from",
        text="",
        tables=("t4-components", "t4-sources"),
    ),
    Chapter(
        name="power",
        short_title="Power",
        title="What these runs can show",
        text="",
        tables=("t5-power",),
    ),
    Chapter(
        name="hypotheses",
        short_title="Hypotheses",
        title="Hypotheses",
        text="",
        tables=("hypotheses",),
    ),
    Chapter(
        name="exploratory",
        short_title="Exploratory",
        title="Exploratory comparisons",
        text="Nothing here belongs to a declared family; it may suggest a question, and answers none.",
        tables=("x1-other-pairs", "x2-collapse-comparison"),
    ),
)


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
    for drawn in draw_figures(results, frames.contrasts):
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
            chapters=CHAPTERS,
            tables=tables,
            pictures={chapter.name: _select(pictures, chapter) for chapter in CHAPTERS},
            limits=describe_limits(results, frames),
            versions=describe_versions(),
            long_text=LONG_TEXT,
        )
    )


def _select(pictures: Sequence[Picture], chapter: Chapter) -> list[Picture]:
    return [each for each in pictures if each.name.partition("-")[0] in chapter.figures]
