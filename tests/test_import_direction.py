"""A wing imports only wings before it, Ray and torch stay in their place, nothing reads a pickle."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "lt_rebalance"
WINGS = [
    *("ground", "files", "store", "monitoring"),
    *("data", "images", "networks", "methods", "training", "generation"),
    *("studies", "stages", "search", "cluster", "trainables", "registration", "commands", "cli"),
]
"""lowest first; `analysis` is beside them, on top of the ground and the store"""
MOST_LINES = 2500
CATALOGUES = {"methods"}
"""wings that grow by a file for each entry; there it is the files that stay small"""
MOST_LINES_OF_AN_ENTRY = 350
MOST_ENTRIES = 20
MAY_IMPORT_RAY = {"cluster"}
MAY_IMPORT_ANALYSIS = {"cli", "registration"}
ANALYSIS_MAY_IMPORT = {"ground", "store"}
NEVER_REACH_TORCH = ["files", "store", "monitoring", "analysis"]
HEAVY = {"torch", "torchvision", "ray"}
BELOW_THE_PACKAGE = {"sweeps", "analysis", "benchmarks", "tests"}
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "shelve", "joblib"}
RANK = {wing: rank for rank, wing in enumerate([*WINGS, "__main__"])}


def list_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def wing_of(path: Path) -> str:
    """Return the wing that contains a file of lt_rebalance; its own name if none does, "" for __init__."""
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


def list_wings(imports: list[tuple[str, ...]]) -> set[str]:
    """Return the wings among imports, without names such as lt_rebalance.__version__."""
    own = {name[1] for name in imports if name[0] == PACKAGE and len(name) > 1}
    return {name for name in own if not name.startswith("__")}


def check_module(wing: str, source: str, package: tuple[str, ...] = (PACKAGE,)) -> list[str]:
    if wing and wing not in RANK:
        return [f"{wing} is not in WINGS"]
    imports = list_imports(source, package)
    errors = []
    for name in sorted(list_wings(imports) - {wing}):
        if RANK.get(name, len(RANK)) >= RANK.get(wing, 0):
            errors.append(f"{wing or PACKAGE} imports {name}, which does not precede it")
    tops = {name[0] for name in imports}
    if "ray" in tops and wing not in MAY_IMPORT_RAY:
        errors.append(f"{wing or PACKAGE} imports ray")
    below = tops & BELOW_THE_PACKAGE
    if wing in MAY_IMPORT_ANALYSIS:
        below -= {"analysis"}
    return errors + [f"{wing or PACKAGE} imports {top}" for top in sorted(below)]


def check_analysis(source: str, package: tuple[str, ...] = ("analysis",)) -> list[str]:
    imports = list_imports(source, package)
    found = {name[0] for name in imports} & HEAVY
    found |= list_wings(imports) - ANALYSIS_MAY_IMPORT
    return [f"analysis imports {name}" for name in sorted(found)]


def find_module(name: tuple[str, ...], modules: set[str]) -> str:
    """Return the module that a dotted name names or is part of; "" for none of these modules."""
    starts = (".".join(name[:end]) for end in range(len(name), 0, -1))
    return next((start for start in starts if start in modules), "")


def reach(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what each module imports, by whatever way round."""
    reached = {module: set(direct) for module, direct in imports.items()}
    is_growing = True
    while is_growing:
        is_growing = False
        for module, found in reached.items():
            further = set[str]().union(*(reached.get(name, set()) for name in found)) - found
            if further:
                reached[module] = found | further
                is_growing = True
    return reached


def list_mentions(source: str) -> list[tuple[ast.expr, str, dict[str | None, str]]]:
    """Return the names that a source uses: each in full, with its keywords if it is called there."""
    tree = ast.parse(source)
    full: dict[str, str] = {}
    called: dict[ast.expr, dict[str | None, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            called[node.func] = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            found.append((node, full.get(first, first) + dot + rest, called.get(node, {})))
    return found


def check_loads(source: str) -> list[str]:
    """Find what could run code from a file: pickles, a load of torch without weights_only, allow_pickle."""
    errors = [f"imports {part}" for name in list_imports(source) for part in name if part in PICKLES]
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and ast.unparse(node.value) != "False"
        ):
            errors.append(f"line {node.lineno}: allow_pickle")
    for node, name, keywords in list_mentions(source):
        is_of_torch = name.startswith("torch.") and name.endswith(".load")
        if is_of_torch and keywords.get("weights_only") != "True":
            errors.append(f"line {node.lineno}: {name} without weights_only=True")
        if name.endswith(".read_pickle"):
            errors.append(f"line {node.lineno}: read_pickle")
    return errors


DRAWS = {"rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "normal"}
DRAWS |= {"binomial", "poisson"}
TENSORS_DRAW = {f"{name}_" for name in ("bernoulli", "cauchy", "exponential", "geometric", "log_normal")}
TENSORS_DRAW |= {"normal_", "random_", "uniform_", "trunc_normal_", "orthogonal_", "sparse_"}
TENSORS_DRAW |= {f"{scheme}_{draw}_" for scheme in ("kaiming", "xavier") for draw in ("normal", "uniform")}
TENSORS_DRAW |= {"bernoulli", "multinomial"}
WITHOUT_GENERATOR = re.compile(
    r"torch\.(distributions\.\w+|[\w.]*(dropout|rrelu|gumbel|fractional_?max)\w*)", re.IGNORECASE
)


def check_draws(source: str) -> list[str]:
    """Find what draws from torch's global stream: what a seed sees would depend on what runs beside it."""
    found = []
    for node, name, keywords in list_mentions(source):
        owner, _, last = name.rpartition(".")
        is_of_numpy = owner.endswith("rng")  # as all of its generators are named
        is_draw = last in TENSORS_DRAW or (name.startswith("torch.") and last in DRAWS)
        if (is_draw and not is_of_numpy and "generator" not in keywords) or WITHOUT_GENERATOR.fullmatch(name):
            found.append(f"line {node.lineno}: {ast.unparse(node)} without generator=")
    return found


# The files


def package_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT).parent.parts


@pytest.mark.parametrize("path", list_files(PACKAGE), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_from_wings_before_its_own(path: Path) -> None:
    assert check_module(wing_of(path), path.read_text(encoding="utf-8"), package_of(path)) == []


def test_every_draw_of_torch_is_from_a_stream_of_its_own() -> None:
    draws = ["torch.rand(3)", "x.normal_()", "torch.rand_like(x)", "torch.multinomial(p, 2)", "x.random_()"]
    draws += ["x.exponential_()", "nn.init.kaiming_uniform_(w)", "normal(0, 1)", "t.poisson(x)"]
    draws += ["p.multinomial(2)", "p.bernoulli()", "t.rrelu(x)", "nn.Dropout(0.5)", "nn.Dropout2d()"]
    draws += [f"nn.functional.{name}(x)" for name in ("dropout2d", "alpha_dropout", "gumbel_softmax")]
    draws += ["t.distributions.Normal(0, 1).sample()", "t.randn"]
    names = [draw.partition("(")[0] for draw in draws]
    imports = "import torch as t\nfrom torch import nn, normal\n"
    found_here = sorted(check_draws(imports + "; ".join(draws)))
    assert found_here == sorted(f"line 3: {name} without generator=" for name in names)
    safe = "from lt_rebalance.networks.dropout import Dropout\nDropout(0.5); p.multinomial(2, generator=g)\n"
    assert check_draws(f"{safe}rng.normal(0, 1); rng.multinomial(2, p); torch.randn(2, generator=g)") == []
    found = {path: check_draws(path.read_text(encoding="utf-8")) for path in list_files(PACKAGE)}
    assert {path: each for path, each in found.items() if each} == {}


def test_analysis_imports_only_what_it_may() -> None:
    for path in list_files("analysis"):
        assert check_analysis(path.read_text(encoding="utf-8"), package_of(path)) == [], path


@pytest.fixture(scope="module")
def reached() -> dict[str, set[str]]:
    """Return what each module of the package and the analysis reaches: their modules, and what is heavy."""
    files = [*list_files(PACKAGE), *list_files("analysis")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    modules = {module.removesuffix(".__init__"): path for module, path in modules.items()}
    imports = {}
    for module, path in modules.items():
        names = list_imports(path.read_text(encoding="utf-8"), package_of(path))
        imports[module] = {find_module(name, {*modules, *HEAVY}) for name in names} - {""}
    return reach(imports)


def test_no_module_imports_itself_by_a_way_round(reached: dict[str, set[str]]) -> None:
    assert [module for module, found in reached.items() if module in found] == []


def test_records_and_their_readers_never_reach_torch_or_ray(reached: dict[str, set[str]]) -> None:
    readers = [module for module in reached if {*module.split(".")[:2]} & {*NEVER_REACH_TORCH}]
    assert {module.split(".")[0] for module in readers} == {PACKAGE, "analysis"}
    assert {
        module: found & HEAVY for module, found in reached.items() if module in readers and found & HEAVY
    } == {}


def test_no_wing_is_too_large_and_the_root_shows_little() -> None:
    lines = dict.fromkeys(WINGS, 0)
    for path in list_files(PACKAGE):
        if wing_of(path) in lines:
            lines[wing_of(path)] += len(path.read_text(encoding="utf-8").splitlines())
    assert {wing: n for wing, n in lines.items() if n > MOST_LINES and wing not in CATALOGUES} == {}
    entries = [path for wing in CATALOGUES for path in list_files(f"{PACKAGE}/{wing}")]
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in entries}
    assert {name: n for name, n in sizes.items() if n > MOST_LINES_OF_AN_ENTRY} == {}
    shown = [entry.name for entry in (ROOT / PACKAGE).iterdir() if entry.name != "__pycache__"]
    assert len(shown) <= MOST_ENTRIES


def test_architecture_names_the_wings_in_their_order() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z]+)/` \|", text, flags=re.MULTILINE) == [*WINGS, "analysis"]


def test_architecture_names_every_module_of_the_analysis() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("| module of `analysis` |")[2].partition("\n\n")[0]
    named = {
        name
        for row in re.findall(r"^\| (.+?) \|", table, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    modules = {path.stem for path in (ROOT / "analysis").glob("*.py")} - {"__init__", "__main__"}
    assert len(modules) > 30 and modules - named == set()


def test_no_code_reads_a_pickle() -> None:
    for folder in (PACKAGE, "analysis", "sweeps", "benchmarks"):
        for path in list_files(folder):
            # What it is for, and what it refuses, is tested in tests/data/test_layouts.py.
            allowed = ["imports pickle"] if path.name == "array_pickles.py" else []
            assert check_loads(path.read_text(encoding="utf-8")) == allowed, path


def test_no_file_beside_another_has_a_name_that_others_can_guess() -> None:
    """Another user could put a link in its place, and have what it leads to overwritten."""
    names = [
        (path, ast.unparse(node.args[0]))
        for folder in (PACKAGE, "analysis")
        for path in list_files(folder)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "with_name"
    ]
    assert len(names) >= 4
    assert [each for each in names if "token_hex" not in each[1] and "uuid4" not in each[1]] == []


def list_used(source: str) -> set[str]:
    """Return the names that a source uses, and those that a word of it names, as registries name classes."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            used |= set(re.findall(r"\w+", node.value))
    return used


def test_no_function_is_kept_for_tests_alone() -> None:
    """Whatever is neither used nor documented for users is dead, and its own tests would hide that."""
    used = set()
    for folder in (PACKAGE, *BELOW_THE_PACKAGE - {"tests"}, "examples"):
        for path in list_files(folder):
            used |= list_used(path.read_text(encoding="utf-8"))
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")]
    for path in [*pages, *(ROOT / "analysis" / "notebooks").glob("*.ipynb")]:
        used |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    dead = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for folder in (PACKAGE, "analysis")
        for path in list_files(folder)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("__")
        and node.name not in used
    ]
    assert dead == []


# The checks can fail


@pytest.mark.parametrize(
    ("wing", "source", "error"),
    [
        ("ground", "from lt_rebalance.store import Store", "imports store"),
        ("ground", "from lt_rebalance import store", "imports store"),
        ("ground", "import lt_rebalance.store.records as s", "imports store"),
        ("ground", "from . import store", "imports store"),
        ("ground", "def f():\n    from .store import Store", "imports store"),
        ("cluster", "from lt_rebalance.nowhere import x", "imports nowhere"),
        ("", "from lt_rebalance.ground.metrics import METRICS", "imports ground"),
        ("stages", "import ray.tune", "imports ray"),
        ("stages", "from ray import tune", "imports ray"),
        ("cluster", "import analysis.collect", "imports analysis"),
        ("commands", "import sweeps.full_grid", "imports sweeps"),
        ("newcomer", "", "newcomer is not in WINGS"),
    ],
)
def test_check_module_reports(wing: str, source: str, error: str) -> None:
    assert [error in found for found in check_module(wing, source)] == [True]


@pytest.mark.parametrize(
    ("wing", "source", "package"),
    [
        ("cluster", "import ray\nfrom lt_rebalance import __version__, store", (PACKAGE,)),
        ("cli", "from analysis.collect import collect", (PACKAGE, "cli")),
        ("training", "from .step import f\nfrom lt_rebalance.training.lane import g", (PACKAGE, "training")),
        ("training", "from ..ground.seeding import torch_stream", (PACKAGE, "training")),
    ],
)
def test_check_module_accepts(wing: str, source: str, package: tuple[str, ...]) -> None:
    assert check_module(wing, source, package) == []


def test_check_module_follows_relative_import_out_of_a_wing() -> None:
    assert check_module("files", "from ..store import Store", (PACKAGE, "files")) != []


def test_wing_of_names_the_folder_of_a_nested_file() -> None:
    names = ["__init__.py", "__main__.py", "store/__init__.py", "monitoring/tensorboard/log.py"]
    assert [wing_of(ROOT / PACKAGE / name) for name in names] == ["", "__main__", "store", "monitoring"]


def test_reach_follows_any_way_round() -> None:
    reached = reach({"a": {"b"}, "b": {"c"}, "c": {"a", "torch"}, "d": {"e"}, "e": set()})
    assert reached == {name: {"a", "b", "c", "torch"} for name in "abc"} | {"d": {"e"}, "e": set()}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "from ray import cloudpickle",
        "import ray.cloudpickle as c",
        "import joblib",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "import torch\ntorch.serialization.load(path)",
        "from torch import serialization as s\ns.load(path)",
        "from torch import load\nlist(map(load, paths))",
        "import torch\nf = torch.load\nf(path)",
        "import torch\nloads = {'weights': torch.load}",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nlist(map(partial(np.load, allow_pickle=True), paths))",
        "import pandas\npandas.read_pickle(path)",
        "from pandas import read_pickle\nread_pickle(path)",
    ],
)
def test_check_loads_reports(source: str) -> None:
    assert len(check_loads(source)) == 1


def test_check_loads_accepts_safe_loads() -> None:
    safe = "import torch\ntorch.load(p, weights_only=True)\nnp.load(p, allow_pickle=False)\njson.load(f)"
    assert check_loads(f"{safe}\nsafetensors.torch.load(content)") == []
