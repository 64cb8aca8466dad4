"""Notebooks with what they show of a store.

python tests/analysis/rendered.py    # runs all on the published study `sample`, and keeps what they show
"""

import argparse
import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from nbformat.v4 import new_code_cell

FOLDER = Path(__file__).parents[2] / "analysis" / "notebooks"
"""of this checkout, whichever is installed"""
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STUDY = FOLDER.parents[1] / "studies" / "sample"
"""the study that notebooks read by default"""

Cells = list[dict[str, Any]]  # as JSON


def read_cells(path: Path) -> Cells:
    """Return the cells of a notebook as its file has them."""
    cells: Cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def run_notebook(path: Path, *others: str) -> list[Cells]:
    """Return the cells of a notebook with what they show of its study, and of other stores.

    One process runs it on all of them, which takes a fraction of the time.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = notebook.cells
    for store in others:
        told = new_code_cell(f"os.environ['LT_REBALANCE_STORE'] = {store!r}")
        notebook.cells = [*notebook.cells, told, *copy.deepcopy(cells)]
    resources = {"metadata": {"path": str(FOLDER)}}
    client = nbclient.NotebookClient(notebook, timeout=300, record_timing=False, resources=resources)
    variables = {name: value for name, value in os.environ.items() if name != "LT_REBALANCE_STORE"}
    client.execute(env=variables | {"PYTHONPATH": str(FOLDER.parents[1])})
    ran: Cells = json.loads(json.dumps(notebook.cells))
    num_cells = len(cells)
    return [ran[start : start + num_cells] for start in range(0, len(ran), num_cells + 1)]


def write_notebook(path: Path, ran: Cells) -> None:
    """Keep in a notebook what its cells have shown."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell, of_run in zip(notebook["cells"], ran, strict=True):
        if cell["cell_type"] == "code":
            cell["execution_count"], cell["outputs"] = of_run["execution_count"], of_run["outputs"]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all notebooks and keep what they show; there is nothing to choose."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    for path in NOTEBOOKS:
        write_notebook(path, *run_notebook(path))


if __name__ == "__main__":
    main()
