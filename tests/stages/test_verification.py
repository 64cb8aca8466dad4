"""A finished stage is run again and compared: equal bits, or the difference where something was changed."""

import contextlib
import dataclasses
import errno
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lt_rebalance.cli.main import main
from lt_rebalance.commands import verification
from lt_rebalance.commands.verification import list_differences, prepare_verification
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.stages.machine import describe_machine
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record, stage_key
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage, stage_from_dict
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.made_up import forge
from tests.tiny import TINY

PUBLISHED = Path(__file__).parents[2] / "studies" / "sample"
GENERATION = ("6", "207")
"""family and model of the processor that made it; virtual machines call several generations by one name"""
Verify = Callable[[str], tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    opened = open_store(str(tmp_path_factory.mktemp("verified") / "store"), RESULTS_VERSION, create=True)
    assert opened is not None
    return opened


@pytest.fixture(scope="module")
def stage(store: Store, small_protocol: Protocol, cpu_execution: Execution) -> ClassifierStage:
    """Return a classifier on images of a generator, both finished."""
    cgan = {"method": "cgan", "generator": "small_mlp_cgan_leaky"}
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", **cgan)
    stage = cell.stage(0, cpu_execution)
    assert stage.generator_stage is not None
    for each in (stage.generator_stage, stage):
        run_stage(each, store)
    return stage


@pytest.fixture
def verify(store: Store, capsys: pytest.CaptureFixture[str]) -> Verify:
    def verify_(key: str) -> tuple[int, dict[str, Any]]:
        code = main(["verify", key, "--storage", store.location, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return verify_


def read_generation() -> tuple[str, ...]:
    """Return family and model of this processor; () if the system does not tell."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        values = dict(tuple(map(str.strip, line.split(":", 1))) for line in lines if ":" in line)
        return tuple(values.get(name, "") for name in ("cpu family", "model"))
    return ()


def require_same_machine(record: Record) -> None:
    """Skip where other bits are to be expected: with another processor, another torch or another numpy."""
    here = describe_machine(stage_from_dict(record.stage).execution)
    made, own = (
        {"processor": each["device"], "torch": each["torch_build"], "numpy": each["versions"]["numpy"]}
        for each in (record.provenance, here)
    )
    made, own = made | {"family and model": GENERATION}, own | {"family and model": read_generation()}
    if differing := [f"{name} {made[name]}, here {own[name]}" for name in made if made[name] != own[name]]:
        pytest.skip(f"the published study was made with {'; '.join(differing)}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "architecture"),
    [
        ("none", None),
        ("oversample", None),
        ("undersample", None),
        ("logit_adjustment", None),
        ("cgan", "small_mlp_cgan_leaky"),
    ],
)
def test_published_records_are_those_that_this_code_makes(method: str, architecture: str | None) -> None:
    """What fails here may change a result: RESULTS_VERSION then has to be raised."""
    store = open_store(str(PUBLISHED), RESULTS_VERSION, create=False, is_read_only=True)
    assert store is not None
    record = find_record(store, method, architecture)
    require_same_machine(record)
    found = prepare_verification(store, record.key, None)()
    assert (found.faults, found.differences) == ((), ())


def find_record(store: Store, method: str, architecture: str | None) -> Record:
    """Return the record of a classifier on a set of C = 1/2, which is the first one by its key."""
    for key in store.list_keys():
        record = store.read_record(key)
        if record is not None and record.kind == "classifier":
            stage = stage_from_dict(record.stage)
            assert isinstance(stage, ClassifierStage)
            generator = stage.generator_stage
            made_by = None if generator is None else generator.generator.architecture
            if (stage.data.label, stage.method.name, made_by) == ("1/2", method, architecture):
                return record
    pytest.fail(f"the published study has no {method}")


def list_tree(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(store.location).rglob("*") if path.is_file()}


def test_untouched_stages_are_equal_bit_for_bit(store: Store, stage: ClassifierStage, verify: Verify) -> None:
    before = list_tree(store)
    assert stage.generator_stage is not None
    for key in (stage.key, stage.generator_stage.key):
        code, found = verify(key)
        assert (code, found["is_equal"], found["faults"], found["differences"]) == (0, True, [], [])
    assert list_tree(store) == before


def test_tampered_record_is_told_by_its_difference(
    store: Store, stage: ClassifierStage, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(store.location) / "stages" / stage.key / "result.json"
    content = path.read_bytes()
    values = json.loads(content)
    loss, recall = values["curves"][0]["train_loss"], values["curves"][1]["test_recall_K"][3]
    values["curves"][0]["train_loss"] = loss + 1e-9
    values["curves"][1]["test_recall_K"][3] = 0.75
    try:
        path.write_bytes(forge(values))
        assert main(["verify", stage.key[:8], "--storage", store.location]) == 1
    finally:
        path.write_bytes(content)
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"difference: curves[0].train_loss: stored {loss + 1e-9!r}, now {loss!r}",
        f"difference: curves[1].test_recall_K[3]: stored 0.75, now {recall!r}",
    ]


def test_altered_artefact_is_a_fault(store: Store, stage: ClassifierStage, verify: Verify) -> None:
    record = store.read_record(stage.key)
    assert record is not None
    artifact = Path(store.location) / "stages" / stage.key / record.artifacts["predictions"].file
    content = artifact.read_bytes()
    try:
        artifact.write_bytes(b"other predictions")
        code, found = verify(stage.key)
    finally:
        artifact.write_bytes(content)
    assert code == 1
    (fault,) = found["faults"]
    assert "does not have the sha256" in fault
    assert found["differences"] == []


def test_result_that_a_study_gives_to_another_run_is_a_fault(
    store: Store, stage: ClassifierStage, small_protocol: Protocol, verify: Verify
) -> None:
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="cgan", generator="small_mlp_cgan_leaky")
    study = describe_plan(compile_study(Study(name="study", cells=(cell,), seeds=(0,)), stage.execution))
    store.write_study(study)
    assert (found := verify(stage.key))[0] == 0
    assert found[1]["runs"] == ["study study, small 1/2 small_mlp_cgan_leaky, seed 0"]
    (run,) = study.runs
    store.write_study(dataclasses.replace(study, runs=(dataclasses.replace(run, seed=1, subset_seed=1),)))
    code, answer = verify(stage.key)
    (fault,) = answer["faults"]
    assert code == 1 and "studies/study.json is damaged" in fault and "seed must be 1" in fault
    assert answer["runs"] == ["study study, small 1/2 small_mlp_cgan_leaky, seed 1 with generator 0"]
    (Path(store.location) / "studies" / "study.json").unlink()


def test_study_that_cannot_be_read_is_a_note_and_no_fault(
    store: Store, stage: ClassifierStage, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(store.location) / "studies" / "other.json"
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(b"{")
    try:
        code = main(["verify", stage.key, "--storage", store.location])
    finally:
        other.unlink()
    out, err = capsys.readouterr()
    assert code == 0 and "fault" not in out
    assert "note: whether this is a stage of study other is not known: " in err


def test_damaged_files_of_a_stage_that_it_needs_are_refused_before_any_training(
    store: Store, stage: ClassifierStage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.generator_stage is not None
    generator = store.read_record(stage.generator_stage.key)
    assert generator is not None
    weights = Path(store.location) / "stages" / generator.key / generator.artifacts["weights"].file
    content = weights.read_bytes()
    try:
        weights.write_bytes(b"other weights")
        assert main(["verify", stage.key, "--storage", store.location]) == 2
    finally:
        weights.write_bytes(content)
    shown = capsys.readouterr().err
    assert "does not have the sha256" in shown and "To resume" not in shown


def test_stage_that_cannot_be_run_here_is_refused(
    store: Store, stage: ClassifierStage, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = Path(store.location) / "stages"
    values = json.loads((stages / stage.key / "result.json").read_bytes())
    for name, value, message in (
        ("results_version", RESULTS_VERSION + 1, "verify it with the code that made it"),
        ("execution", {**values["stage"]["execution"], "torch_version": "0.1"}, "torch 0.1"),
    ):
        other = {**values["stage"], name: value}
        key = stage_key(other)
        (stages / key).mkdir()
        (stages / key / "result.json").write_bytes(forge({**values, "stage": other, "key": key}))
        assert main(["verify", key, "--storage", store.location]) == 2
        assert message in capsys.readouterr().err
    assert main(["verify", stage.with_seed(1).key, "--storage", store.location]) == 2


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("classifier", {"weight_decay": "x"}, "ClassifierConfig.weight_decay must be of type float, got 'x'"),
        ("classifier", {"num_operations": "2"}, "num_operations must be of type int, got '2'"),
        ("classifier", {"file_sha256": "0" * 64}, "file_sha256 goes with a file of your own"),
        ("", {"file_sha256": "x"}, "unknown key of ClassifierStage 'file_sha256'"),
    ],
)
def test_stage_that_no_code_could_have_made_is_named(
    section: str,
    changes: dict[str, Any],
    message: str,
    store: Store,
    stage: ClassifierStage,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stages = Path(store.location) / "stages"
    values = json.loads((stages / stage.key / "result.json").read_bytes())
    (values["stage"][section] if section else values["stage"]).update(changes)
    key = values["key"] = stage_key(values["stage"])
    (stages / key).mkdir()
    (stages / key / "result.json").write_bytes(forge(values))
    assert main(["verify", key, "--storage", store.location]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {store.location}: stages/{key}/result.json cannot be run again here: ")
    assert message in shown


@pytest.mark.parametrize("has_begun", [False, True])
def test_full_disk_of_temporary_files_is_named(
    has_begun: bool,
    store: Store,
    stage: ClassifierStage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if has_begun:
        monkeypatch.setattr(verification, "run_stage", refuse)
    else:
        monkeypatch.setattr(LocalFilesystem, "replace", refuse)
    assert main(["verify", stage.key, "--storage", store.location]) == (1 if has_begun else 2)
    shown = capsys.readouterr().err
    assert f"temporary files cannot be written in {tmp_path} (No space left on device); free space" in shown
    assert "in TMPDIR" in shown and "--storage" not in shown.partition("\n")[0]
    assert list(tmp_path.iterdir()) == []


def test_differences_are_named_by_their_path() -> None:
    stored = {"a": [1, {"b": 2}], "c": "text", "e": [1, 2], "only": 0}
    now = {"a": [1, {"b": 3}], "c": "test", "e": [1, 2, 3]}
    assert list(list_differences(stored, now)) == [
        "a[1].b: stored 2, now 3",
        "c: stored 'text', now 'test'",
        "e: stored [1, 2], now [1, 2, 3]",
        "only: only stored",
    ]
    assert list(list_differences(stored, stored)) == []
