"""Write a report: a self-contained page, a page for each search, and all tables and figures as files."""

import dataclasses
import secrets
from collections.abc import Sequence
from pathlib import Path

import jinja2

from analysis.chapters import CHAPTERS, Chapter
from analysis.collect import Results
from analysis.embedding import Picture, as_id, embed
from analysis.figures import draw_figures, draw_search, own_settings
from analysis.first_screen import describe_data, make_first_screen
from analysis.manuscript import Choice, make_manuscript
from analysis.searches import SearchResults, read_searches
from analysis.sentences import (
    chapter_texts,
    describe_interim,
    describe_pairs,
    describe_protocols,
    describe_registered,
    describe_search_choice,
    describe_seeds,
    describe_seeds_registered,
    describe_settings,
    describe_unregistered,
    join,
)
from analysis.summary import describe_design, describe_limits, describe_versions
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
from analysis.tables.collapse import describe_generators
from analysis.tables.cost import describe_cost
from lt_rebalance.ground.text import to_csv as to_raw_csv

ON_TOP = "f1"
"""prefix of the figures on the first screen"""
MOST_ON_TOP = 4
"""number of figures and answers that the first screen shows unfolded"""
LONG_TEXT = 120
"""number of characters above which a table cell is folded"""


@own_settings()
def write_report(
    results: Results, out_dir: str | Path, *, manuscript: tuple[Choice, str, str] | None = None
) -> Path:
    """Write `index.html`, a page a search, `tables/` and `figures/`, and return the path of `index.html`.

    With `manuscript` (a choice, columns and the command, as `make_manuscript` takes them) also `paper/`.

    Everything is computed before anything is written. Files of an earlier report are replaced atomically, the
    page last; other files are not changed. The report of an incomplete store is marked as partial.

    Raises:
        ValueError: `out_dir` is not on this machine.
    """
    if "://" in str(out_dir):
        raise ValueError(f"--out must be a directory of this machine, got {str(out_dir)!r}")
    out = Path(out_dir).expanduser().resolve()
    searches = read_searches(*results.stores)
    frames = compute_frames(results)
    tables = build_tables(results, frames)
    files: dict[str, bytes] = {}
    for table in tables.values():
        files |= _table_files(table)
    for name, frame in {"runs": results.runs, "cells": results.cells}.items():
        files[f"tables/{name}.csv"] = to_raw_csv(frame).encode()
    pictures = []
    for drawn in draw_figures(results, frames.contrasts, frames.methods):
        picture, drawn_files = embed(drawn)
        files |= drawn_files
        pictures.append(picture)
    for search in searches:
        files |= search_files(search)
    if manuscript is not None:
        files |= make_manuscript(results, frames, *manuscript)
    files["index.html"] = render(results, frames, tables, pictures, searches).encode()
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    return out / "index.html"


def search_files(search: SearchResults) -> dict[str, bytes]:
    """Return the page of a search, its tables and its figures."""
    tables, pictures = search_tables(search), []
    files: dict[str, bytes] = {}
    for table in tables:
        files |= _table_files(table)
    for drawn in draw_search(search):
        picture, drawn_files = embed(dataclasses.replace(drawn, name=f"{drawn.name}-{search.name}"))
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


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # which nobody can have made a link
    try:
        temporary.touch(exist_ok=False)
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_id"] = as_id
    return environment


def render(
    results: Results,
    frames: Frames,
    tables: dict[str, Table],
    pictures: Sequence[Picture],
    searches: Sequence[SearchResults],
) -> str:
    """Return the page."""
    shown = {chapter.name: _show(chapter, tables, pictures) for chapter in CHAPTERS}
    first = make_first_screen(
        results.cells,
        results.runs,
        frames.leaders,
        frames.contrasts,
        frames.collapse,
        frames.ablations,
        frames.sources,
        {
            "Generators": describe_generators(frames.generators),
            "Data": describe_data(results.classes),
            "Cost": describe_cost(results.planned, results.generator_costs),
        },
    )
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            searches=searches,
            studies=results.studies,
            questions=results.questions,
            is_partial=count_gaps(results.planned) > 0,
            interim=describe_interim(results.registered_seeds),
            account=account(results.planned),
            first=first,
            on_top=_select(pictures, (ON_TOP,)),
            most_on_top=MOST_ON_TOP,
            num_pictures_on_top=min(MOST_ON_TOP, max(1, len(first.answers))),
            protocols=describe_protocols(results.cells),
            design=describe_design(results),
            notes=results.notes,
            chapters=[
                chapter
                for chapter in CHAPTERS
                if any(shown[chapter.name]) or not (chapter.tables or chapter.figures)
            ],
            shown=shown,
            left_out=[table for table in tables.values() if table.is_empty],
            texts=chapter_texts(
                results.cells,
                results.runs,
                frames.contrasts,
                has_comparisons=len(results.comparisons) > 0,
                confirmatory=results.confirmatory,
            ),
            registered=join(
                [
                    describe_registered(results.confirmatory),
                    describe_seeds_registered(results.registered_seeds),
                    describe_unregistered(
                        results.runs, results.confirmatory, results.study_keys, results.registered_seeds
                    ),
                ]
            ),
            changes=results.changes,
            pairs=describe_pairs(results.cells),
            seeds=describe_seeds(results.cells),
            settings=describe_settings(results.cells, has_comparisons=len(results.comparisons) > 0),
            limits=describe_limits(results, frames),
            versions=describe_versions(),
            long_text=LONG_TEXT,
        )
    )


def _show(
    chapter: Chapter, tables: dict[str, Table], pictures: Sequence[Picture]
) -> tuple[list[Table], list[Picture]]:
    """Return the tables with rows and the figures of a chapter."""
    found = [tables[name] for name in chapter.tables if name in tables]
    return [table for table in found if not table.is_empty], _select(pictures, chapter.figures)


def _select(pictures: Sequence[Picture], prefixes: Sequence[str]) -> list[Picture]:
    return [each for each in pictures if each.name.partition("-")[0] in prefixes]
