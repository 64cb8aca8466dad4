"""Tests that need another program, or several nodes, get it in the one way that waits for it."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent
LATEX = {"compile_latex", "compile_tables", "require_latex"}


def list_called(node: ast.AST) -> set[str]:
    return {
        each.func.id
        for each in ast.walk(node)
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
    }


def test_no_default_test_compiles_latex_which_is_installed_meanwhile() -> None:
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and list_called(node) & LATEX:
                marks = {ast.unparse(each) for each in node.decorator_list}
                found.append((path.name, node.name, "pytest.mark.slow" in marks))
    assert len(found) > 4 and [each for each in found if not each[2]] == []


def test_only_one_helper_starts_several_nodes() -> None:
    callers = {
        path.name
        for path in TESTS.rglob("*.py")
        if "Cluster" in list_called(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert callers == {"ray_nodes.py"}
