"""A store or a configuration from a stranger runs no code, leads out of no directory, and fails clearly."""

import ast
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from safetensors import SafetensorError

from analysis.collect import read_results
from lt_rebalance.cluster.rungs import unpack_member
from lt_rebalance.monitoring.tensorboard.content import show_record
from lt_rebalance.monitoring.tensorboard.naming import path_name, study_directory
from lt_rebalance.stages.kinds import open_run
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.records import Artifact, Failure, Record, Summary
from lt_rebalance.studies.overrides import read_overrides
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
PACKAGES = ["lt_rebalance", "sweeps", "analysis"]
DEEP = b"[" * 100_000 + b"]" * 100_000


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._witness),)


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """A path that exists as soon as a payload has run."""
    return tmp_path / "payload-has-run"


@pytest.fixture
def copied(tmp_path: Path) -> Store:
    """A copy of the golden store, to be altered."""
    shutil.copytree(ROOT / "tests" / "golden" / "store", tmp_path / "store")
    store = open_store(str(tmp_path / "store"), None, create=False)
    assert store is not None
    return store


def plant_samples(store: Store, content: bytes) -> str:
    """Replace the samples of a generator, with a record that agrees; return its key."""
    for path in sorted(Path(store.location).glob("stages/*/result.json")):
        record = json.loads(path.read_bytes())
        if "samples" in record["artifacts"]:
            artifact = record["artifacts"]["samples"]
            artifact |= {"sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
            (path.parent / artifact["file"]).write_bytes(content)
            path.write_text(json.dumps(record))
            return path.parent.name
    raise AssertionError("no generator in the golden store")


def object_array(witness: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Payload(witness)], dtype=object), allow_pickle=True)
    return file.getvalue()


# Pickles


def test_payload_acts_when_something_unpickles_it(witness: Path) -> None:
    np.load(io.BytesIO(object_array(witness)), allow_pickle=True)
    assert witness.exists()


def test_samples_with_objects_are_refused_by_views(copied: Store, witness: Path) -> None:
    record = copied.read_record(plant_samples(copied, object_array(witness)))
    assert record is not None
    with pytest.raises(ValueError, match="holds objects"):
        show_record(record, copied, [str(label) for label in range(10)])
    assert not witness.exists()


@pytest.mark.parametrize("form", ["object array", "pickle"])
def test_samples_with_objects_are_refused_by_the_analysis(copied: Store, witness: Path, form: str) -> None:
    content = object_array(witness) if form == "object array" else pickle.dumps(Payload(witness))
    key = plant_samples(copied, content)
    results = read_results(copied.location, allow=("gaps",))
    with pytest.raises(StoreError, match=r"samples-.* cannot be used"):
        results.read_samples(key)
    assert not witness.exists()


def read_as_checkpoint(content: bytes, small: Protocol, execution: Execution, root: Path) -> None:
    cell = make_cell(small, dataset=TINY, c="1/2", method="none", generator=None)
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    open_run([cell.stage(0, execution)], store, None).restore_lane(0, content)


BAD_TENSORS = {
    "length beyond the end": struct.pack("<Q", 2**63) + b"{}",
    "length of nearly everything": struct.pack("<Q", 2**64 - 1),
    "no header": b"",
    "header of another kind": struct.pack("<Q", 2) + b"[]",
    "nested header": struct.pack("<Q", len(DEEP)) + DEEP,
}


@pytest.mark.parametrize("name", [*BAD_TENSORS, "pickle"])
def test_weights_that_are_no_safetensors_are_refused(witness: Path, name: str) -> None:
    content = BAD_TENSORS.get(name) or pickle.dumps(Payload(witness)) * (name == "pickle")
    with pytest.raises(SafetensorError):
        safetensors.torch.load(content)
    with pytest.raises((SafetensorError, ValueError)):
        unpack_member(content)
    assert not witness.exists()


@pytest.mark.parametrize("name", [*BAD_TENSORS, "pickle"])
def test_checkpoint_that_is_no_safetensors_is_refused(
    witness: Path, name: str, small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    content = BAD_TENSORS.get(name) or pickle.dumps(Payload(witness)) * (name == "pickle")
    with pytest.raises((SafetensorError, ValueError, TypeError, KeyError)):
        read_as_checkpoint(content, small_protocol, cpu_execution, tmp_path / "new")
    assert not witness.exists()


FORBIDDEN = {
    *("pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads", "joblib.load", "torch.load"),
    *("yaml.load", "yaml.unsafe_load", "eval", "exec", "pd.read_pickle", "pandas.read_pickle", "os.system"),
    *("shelve.open", "marshal.loads", "dill.loads"),
}


def list_calls(source: str) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def dangers(source: str) -> list[str]:
    found = [ast.unparse(call.func) for call in list_calls(source) if ast.unparse(call.func) in FORBIDDEN]
    for call in list_calls(source):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if ast.unparse(call.func) == "np.load" and keywords.get("allow_pickle") != "False":
            found.append("np.load without allow_pickle=False")
        if keywords.get("shell", "False") != "False":
            found.append("shell=True")
    return found


@pytest.mark.parametrize(
    "source",
    ["torch.load(f)", "np.load(f)", "np.load(f, allow_pickle=True)", "eval(x)", "run(c, shell=x)"],
)
def test_dangers_are_found(source: str) -> None:
    assert dangers(source)


@pytest.mark.slow
def test_no_code_unpickles_evaluates_or_starts_a_shell() -> None:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > 100
    found = {str(path): dangers(path.read_text(encoding="utf-8")) for path in paths}
    runs_own_files = str(ROOT / "lt_rebalance/ground/own_file.py")  # those that a command line names alone
    assert {path: names for path, names in found.items() if names} == {runs_own_files: ["exec"]}


# JSON and TOML


@pytest.mark.parametrize("read", [Record.from_json, Summary.from_json, Failure.from_json])
def test_deeply_nested_json_is_refused_as_any_other_damage(read: Any) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        read(DEEP)


def test_summary_with_a_deeply_nested_field_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        Summary.from_json(b'{"metrics":' + DEEP + b',"state":"complete","timing":{}}')


def test_store_and_study_that_are_nested_too_deeply_are_named(copied: Store) -> None:
    (Path(copied.location) / "studies/deep.json").write_bytes(DEEP)
    with pytest.raises(StoreError, match=r"studies/deep.json is damaged: JSON that is nested too deeply"):
        copied.load_study("deep")
    (Path(copied.location) / "store.json").write_bytes(DEEP)
    with pytest.raises(StoreError, match=r"store.json is damaged"):
        open_store(copied.location, None, create=False)


def test_store_names_the_record_that_is_nested_too_deeply(copied: Store) -> None:
    key = copied.list_keys()[0]
    Path(copied.location, "stages", key, "result.json").write_bytes(DEEP)
    with pytest.raises(StoreError, match=f"{key}/result.json cannot be used: JSON that is nested too deeply"):
        copied.read_record(key)


@pytest.mark.parametrize("text", ["a = __import__('os').getcwd()", "classifier = {beta1 = !!python/object}"])
def test_configuration_that_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="is not a TOML file"):
        read_overrides(str(path), [])


# Paths

ESCAPES = ["../../x", "/etc/passwd", "..", ".", "", ".hidden", "a/../../x", "a\0b"]


@pytest.mark.parametrize("name", ESCAPES)
def test_artifact_that_leads_out_of_its_stage_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be a plain file name"):
        Artifact(file=name, num_bytes=0, sha256="")


def test_record_whose_artifact_leads_out_of_its_stage_is_refused(copied: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"private")
    key = plant_samples(copied, b"x")
    path = Path(copied.location, "stages", key, "result.json")
    record = json.loads(path.read_bytes())
    record["artifacts"]["samples"] |= {"file": f"../../../{secret.name}"}
    path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match="must be a plain file name"):
        copied.read_record(key)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".x", ""])
def test_study_whose_name_is_a_path_is_refused(name: str, small_protocol: Protocol) -> None:
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="none", generator=None)
    with pytest.raises(ValueError, match="must be a plain file name"):
        Study(name=name, cells=(cell,), seeds=(0,))


@pytest.mark.parametrize("name", ["..", "../..", ".x"])
def test_events_never_leave_their_directory(name: str) -> None:
    with pytest.raises(ValueError, match="must be a plain file name"):
        path_name(name)
    with pytest.raises(ValueError, match="must be a plain file name"):
        study_directory(name)


def test_slash_in_a_name_becomes_part_of_it() -> None:
    assert path_name("1/2") == "1-2"
    assert path_name("seed-../../x") == "seed-..-..-x"
