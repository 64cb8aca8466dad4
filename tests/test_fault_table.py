"""Every test that docs/faults.md names exists, and every fault names one."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def list_tests() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}


def test_tests_that_the_fault_table_names_exist() -> None:
    tables = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").split("\n\n")
    faults = [table.splitlines()[2:] for table in tables if table.startswith("| fault |")]
    rows = [row for table in faults for row in table]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 70 and all(named), [row for row, names in zip(rows, named, strict=True) if not names]
    assert {name for names in named for name in names} - list_tests() == set()
