"""A module imports only from layers above it, Ray and torch stay in their place, nothing reads a pickle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "lt_rebalance"
LAYERS = [
    ["seeding", "metrics", "paper", "errors", "streams", "interrupts", "search_spaces", "names", "text"],
    ["values", "arrays", "statements"],
    ["config_values"],
    ["record_values", "document_values"],
    ["records"],
    ["concerns", "console", "option_types"],
    ["datasets"],
    ["data"],
    ["imbalance"],
    ["methods"],
    ["generators", "classifiers", "losses"],
    ["provenance"],
    ["installation"],
    ["initialization"],
    ["batching", "configs"],
    ["training"],
    ["lane_stacks", "step_program"],
    ["lanes"],
    ["cgan", "classifier_training"],
    ["generator_quality"],
    ["study"],
    ["workload"],
    ["protocols", "machine"],
    ["calibration"],
    ["overrides", "axes"],
    ["ablation"],
    ["trees", "exclusive", "processes", "disk", "private_directory"],
    ["filesystem"],
    ["bucket"],
    ["object_storage"],
    ["notes", "stage_log", "lease"],
    ["store_documents"],
    ["store_location", "exits"],
    ["store"],
    ["facts"],
    ["spending"],
    ["status"],
    ["events"],
    ["cleanup"],
    ["inputs"],
    ["stages"],
    ["observer", "verification"],
    ["search"],
    ["search_account"],
    ["journal_objects"],
    ["search_journal", "search_files"],
    ["plan"],
    ["owners"],
    ["costs", "space"],
    ["ledger"],
    ["tables"],
    ["progress"],
    ["ray_watch"],
    ["cluster"],
    ["attempt", "waiting"],
    ["trainables"],
    ["search_trainables"],
    ["faults", "nodes"],
    ["runner"],
    ["tuner", "population"],
    ["forecast", "search_forecast"],
    ["command"],
    ["search_options"],
    ["search_command"],
    ["cli"],
    ["__main__"],
]
MAY_IMPORT_RAY = {
    *("ray_watch", "cluster", "nodes", "faults", "trainables", "search_trainables"),
    *("runner", "tuner", "population"),
}
MAY_IMPORT_ANALYSIS = {"cli"}
ANALYSIS_MAY_IMPORT = {"exits", "metrics", "option_types", "paper", "records", "statements", "store", "text"}
ANALYSIS_NEVER_IMPORTS = {"torch", "torchvision", "ray"}
BELOW_THE_PACKAGE = {"sweeps", "analysis", "benchmarks", "tests"}
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "shelve"}
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def list_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """Return the module, or the package that stands for one, directly below lt_rebalance; "" for its root."""
    return path.relative_to(ROOT / PACKAGE).with_suffix("").parts[0].removesuffix("__init__")


def list_imports(source: str, package: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the dotted names that a source imports, in parts; `package` is where relative imports start."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            names += [(*base, alias.name) for alias in node.names]
    return names


def list_own_modules(imports: list[tuple[str, ...]]) -> set[str]:
    """Return the modules of the package among imports; lt_rebalance.__version__ and its like are none."""
    own = {name[1] for name in imports if name[0] == PACKAGE and len(name) > 1}
    return {name for name in own if not name.startswith("__")}


def check_module(module: str, source: str, package: tuple[str, ...] = (PACKAGE,)) -> list[str]:
    if module and module not in RANK:
        return [f"{module} is not in LAYERS"]
    imports = list_imports(source, package)
    errors = []
    for name in sorted(list_own_modules(imports) - {module}):
        if RANK.get(name, len(LAYERS)) >= RANK.get(module, 0):
            errors.append(f"{module or PACKAGE} imports {name}, which does not stand above it")
    tops = {name[0] for name in imports}
    if "ray" in tops and module not in MAY_IMPORT_RAY:
        errors.append(f"{module or PACKAGE} imports ray")
    below = tops & BELOW_THE_PACKAGE
    if module in MAY_IMPORT_ANALYSIS:
        below -= {"analysis"}
    return errors + [f"{module or PACKAGE} imports {top}" for top in sorted(below)]


def check_analysis(source: str, package: tuple[str, ...] = ("analysis",)) -> list[str]:
    imports = list_imports(source, package)
    found = {name[0] for name in imports} & ANALYSIS_NEVER_IMPORTS
    found |= list_own_modules(imports) - ANALYSIS_MAY_IMPORT
    return [f"analysis imports {name}" for name in sorted(found)]


def check_torch_stays_out_of_analysis(sources: dict[str, str]) -> list[str]:
    """Follow the imports of ANALYSIS_MAY_IMPORT through `sources`, by module: none may reach torch or ray."""
    errors, open_modules, seen = [], sorted(ANALYSIS_MAY_IMPORT & set(sources)), set[str]()
    while open_modules:
        module = open_modules.pop()
        seen.add(module)
        imports = list_imports(sources[module], (PACKAGE,))
        errors += [f"{module} imports {n[0]}" for n in imports if n[0] in ANALYSIS_NEVER_IMPORTS]
        open_modules += sorted((list_own_modules(imports) & set(sources)) - seen)
    return errors


def check_loads(source: str) -> list[str]:
    """Find what could run code from a file: pickles, torch.load without weights_only, allow_pickle."""
    tree = ast.parse(source)
    imports = list_imports(source)
    errors = [f"imports {name[0]}" for name in imports if name[0] in PICKLES]
    errors += ["imports torch.load by name" for name in imports if name == ("torch", "load")]
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    torch_names = {alias.asname or alias.name for alias in aliases if alias.name == "torch"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        name = ast.unparse(call.func)
        if name in {f"{torch}.load" for torch in torch_names} and keywords.get("weights_only") != "True":
            errors.append(f"line {call.lineno}: torch.load without weights_only=True")
        if keywords.get("allow_pickle", "False") != "False":
            errors.append(f"line {call.lineno}: allow_pickle")
        if name.endswith(".read_pickle"):
            errors.append(f"line {call.lineno}: read_pickle")
    return errors


# The files


def package_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT).parent.parts


@pytest.mark.parametrize("path", list_files(PACKAGE), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_from_above(path: Path) -> None:
    assert check_module(module_of(path), path.read_text(encoding="utf-8"), package_of(path)) == []


def test_analysis_imports_only_what_it_may() -> None:
    for path in list_files("analysis"):
        assert check_analysis(path.read_text(encoding="utf-8"), package_of(path)) == [], path


def test_analysis_does_not_reach_torch_or_ray_through_the_package() -> None:
    sources: dict[str, str] = {}
    for path in list_files(PACKAGE):
        sources[module_of(path)] = sources.get(module_of(path), "") + path.read_text(encoding="utf-8") + "\n"
    assert check_torch_stays_out_of_analysis(sources) == []


def test_no_code_reads_a_pickle() -> None:
    for folder in (PACKAGE, "analysis", "sweeps", "benchmarks"):
        for path in list_files(folder):
            assert check_loads(path.read_text(encoding="utf-8")) == [], path


# The checks can fail


@pytest.mark.parametrize(
    ("module", "source", "error"),
    [
        ("metrics", "from lt_rebalance.store import Store", "imports store"),
        ("metrics", "from lt_rebalance import store", "imports store"),
        ("metrics", "import lt_rebalance.store as s", "imports store"),
        ("metrics", "from . import store", "imports store"),
        ("metrics", "def f():\n    from .store import Store", "imports store"),
        ("metrics", "from lt_rebalance.seeding import numpy_stream", "imports seeding"),
        ("runner", "from lt_rebalance.nowhere import x", "imports nowhere"),
        ("", "from lt_rebalance.metrics import METRICS", "imports metrics"),
        ("stages", "import ray.tune", "imports ray"),
        ("stages", "from ray import tune", "imports ray"),
        ("runner", "import analysis.collect", "imports analysis"),
        ("cli", "import sweeps.full_grid", "imports sweeps"),
        ("newcomer", "", "newcomer is not in LAYERS"),
    ],
)
def test_check_module_reports(module: str, source: str, error: str) -> None:
    assert [error in found for found in check_module(module, source)] == [True]


@pytest.mark.parametrize(
    ("module", "source", "package"),
    [
        ("runner", "import ray\nfrom lt_rebalance import __version__, store", (PACKAGE,)),
        ("trainables", "import ray.tune\nfrom . import stages", (PACKAGE,)),
        ("cli", "from analysis.collect import collect", (PACKAGE, "cli")),
        ("cgan", "from .stack import f\nfrom lt_rebalance.cgan import g", (PACKAGE, "cgan")),
        ("cgan", "from ..seeding import torch_stream", (PACKAGE, "cgan")),
    ],
)
def test_check_module_accepts(module: str, source: str, package: tuple[str, ...]) -> None:
    assert check_module(module, source, package) == []


def test_check_module_follows_relative_import_out_of_a_package() -> None:
    assert check_module("cgan", "from ..store import Store", (PACKAGE, "cgan")) != []


def test_module_of_names_the_package_of_a_nested_file() -> None:
    names = ["__init__.py", "metrics.py", "lanes/__init__.py", "lanes/stack.py"]
    assert [module_of(ROOT / PACKAGE / name) for name in names] == ["", "metrics", "lanes", "lanes"]


@pytest.mark.parametrize(
    "source",
    ["import torch.nn", "from ray import tune", "from lt_rebalance import stages", "import torchvision"],
)
def test_check_analysis_reports(source: str) -> None:
    assert len(check_analysis(source)) == 1
    assert check_analysis("import pandas\nfrom lt_rebalance import store\nfrom . import collect") == []


def test_check_torch_stays_out_of_analysis_reports_indirect_import() -> None:
    sources = {
        "store": "from lt_rebalance.seeding import f",
        "seeding": "import torch",
        "lanes": "import torch",
    }
    assert check_torch_stays_out_of_analysis(sources) == ["seeding imports torch"]
    assert check_torch_stays_out_of_analysis(sources | {"store": "import json"}) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "from torch import load",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import pandas\npandas.read_pickle(path)",
    ],
)
def test_check_loads_reports(source: str) -> None:
    assert len(check_loads(source)) == 1


def test_check_loads_accepts_safe_loads() -> None:
    safe = "import torch\ntorch.load(p, weights_only=True)\nnp.load(p, allow_pickle=False)\njson.load(f)"
    assert check_loads(safe) == []
