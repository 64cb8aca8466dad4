"""Texts use the field's words: pages, docstrings, comments, messages and help."""

import argparse
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis.__main__
from lt_rebalance.cli.parser import make_parser, make_store_plan_parser
from lt_rebalance.commands.sweep import make_axes_parser
from tests.prose import BANNED, find_banned, leave_out_quotes, read_prose, read_texts

ROOT = Path(__file__).parents[1]
NAMES = ("README", "ARCHITECTURE", "SECURITY", "CONTRIBUTING")
FOLDERS = ["lt_rebalance", "sweeps", "analysis", "benchmarks", "examples"]
SETTINGS = [
    "cluster.yaml",
    "pyproject.toml",
    ".ci/run",
    *(f"deploy/{name}" for name in ("local.yaml", "kuberay.yaml")),
]
ABOUT_WORDS = ("prose.py", "test_prose.py")
"""files that name the words"""
PAGES = [*(ROOT / f"{name}.md" for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]


def test_pages_use_no_private_words() -> None:
    found = [
        f"{page.relative_to(ROOT)}:{line + 1}: {words!r}; write: {instead}"
        for page in PAGES
        for line, words, instead in find_banned(leave_out_quotes(page.read_text(encoding="utf-8")))
    ]
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("folder", FOLDERS)
def test_texts_of_code_use_no_private_words(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line + further}: {words!r}; write: {instead}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in read_texts(path)
        for further, words, instead in find_banned(text)
    ]
    assert found == [], "\n".join(found)


def test_docstrings_and_comments_of_tests_use_no_private_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line + further}: {words!r}; write: {instead}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name not in ABOUT_WORDS
        for line, text in read_prose(path)
        for further, words, instead in find_banned(text)
    ]
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("name", SETTINGS)
def test_comments_of_settings_use_no_private_words(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    comments = "\n".join(line.partition("# ")[2] for line in lines)
    found = [f"{name}:{line + 1}: {words!r}; write: {to}" for line, words, to in find_banned(comments)]
    assert found == [], "\n".join(found)


def test_every_help_text_uses_no_private_words() -> None:
    found = [
        f"{parser.prog} --help: {words!r}; write: {instead}"
        for parser in _list_parsers()
        for _, words, instead in find_banned(parser.format_help())
    ]
    assert found == [], "\n".join(found)


def _list_parsers() -> Iterator[argparse.ArgumentParser]:
    for parser in (make_parser(), make_store_plan_parser(), analysis.__main__.make_parser()):
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from action.choices.values()
    for path in sorted((ROOT / "sweeps").glob("*.py")):
        sweep = runpy.run_path(str(path))
        made = [each for name, each in sweep.items() if name.startswith("make_") and name.endswith("_parser")]
        own = [each for each in made if each.__module__ == "<run_path>"]
        parser = own[0]() if own else make_axes_parser(sweep["__doc__"], sweep["PRESETS"])
        parser.prog = f"sweeps/{path.name}"
        yield parser


def test_every_kind_of_text_is_read_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""A sheet of\n'
        'one\'s own."""\n'
        "# a driver, and a\n"
        "# plain\n"
        "# name\n"
        'raise ValueError(f"{1} takes "\n'
        '    f"no more `sheet`")\n',
        encoding="utf-8",
    )
    found = [(line + more, words) for line, text in read_texts(path) for more, words, _ in find_banned(text)]
    assert sorted(found) == [
        (1, "of one's own"),
        (1, "sheet"),
        (3, "driver"),
        (4, "plain name"),
        (6, "takes no more"),
    ]
    assert all(instead for instead in BANNED.values())
