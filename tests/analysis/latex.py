"""LaTeX as a reader of a paper has it: two columns of 3.25 inches, set by pdflatex."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_HEAD = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[letterpaper,textwidth=487pt,textheight=648pt,columnsep=19pt]{geometry}
\usepackage{booktabs,siunitx,tabularx}
\begin{document}
"""
_OVERFULL = re.compile(r"Overfull \\[hv]box \(([\d.]+)pt too")


def require_latex() -> str:
    """Return the path of pdflatex, or skip the test."""
    path = shutil.which("pdflatex")
    if path is None:
        pytest.skip("no pdflatex: install texlive-science to run the tests that compile LaTeX")
    return path


def compile_latex(path: Path) -> str:
    """Return the log of a file that must compile, without a box that is too full or a float too large."""
    command = [require_latex(), "-interaction=nonstopmode", "-halt-on-error", path.name]
    done = subprocess.run(
        command, cwd=path.parent, capture_output=True, text=True, errors="replace", check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:]
    log = path.with_suffix(".log").read_text(encoding="utf-8", errors="replace").replace("\n", "")
    wide = [each for each in map(float, _OVERFULL.findall(log)) if each > 1]
    assert not wide, f"boxes are too full by {wide} points"
    for warning in ("Float too large", "undefined"):
        assert warning not in log, log[log.index(warning) - 300 :][:600]
    return log


def compile_tables(texts: Sequence[str], directory: Path) -> str:
    """Return the log of a paper of tables, each on pages of its own."""
    path = directory / "tables.tex"
    body = "\n".join(f"{text}\n\\clearpage" for text in texts)
    path.write_text(f"{_HEAD}{body}\n\\end{{document}}\n", encoding="utf-8")
    return compile_latex(path)


def count_pages(log: str) -> int:
    """Return how many pages a log says that the PDF has."""
    (pages,) = re.findall(r"Output written on .*?\((\d+) pages?", log)
    return int(pages)
