"""A published study is a store that can be read, by everything that reads stores, and never changed."""

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main as analyse
from analysis.collect import read_results
from analysis.report import write_report
from lt_rebalance.cli.main import main
from lt_rebalance.files.archive import ARCHIVE, CHECKSUMS, write_archive, write_checksums
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.training.configs import Execution
from tests.published import PUBLISHED, read_files
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store"


def publish(store: Path, folder: Path) -> Path:
    """Put all files of a store but weights into the folder of a published study."""
    paths = [path for path in store.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    content = write_archive({path.relative_to(store).as_posix(): path.read_bytes() for path in paths})
    folder.mkdir()
    (folder / ARCHIVE).write_bytes(content)
    (folder / CHECKSUMS).write_bytes(write_checksums({ARCHIVE: content}))
    return folder


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return publish(GOLDEN, tmp_path / "published")


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_commands_that_look_answer_as_of_the_store(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = next(path.name for path in (GOLDEN / "stages").iterdir())
    asked = (["status"], ["plan"], ["export"], ["show"], ["show", key[:10]])
    for words in ([command, "STORE", *further] for command, *further in asked):
        answers = []
        for place in (GOLDEN, golden):
            assert main([str(place) if word == "STORE" else word for word in words]) == 0
            answers.append(capsys.readouterr().out.replace(str(place), "STORE"))
        assert answers[0] == answers[1] != ""
    for asked in ([str(golden), key[:10]], [f"{golden}/stages/{key}"], [key[:10], "--storage", str(golden)]):
        assert main(["show", *asked]) == 0
        assert capsys.readouterr().out == answers[0]


def test_analysis_reads_the_same_frames(golden: Path) -> None:
    published, store = (read_results(str(place)) for place in (golden, GOLDEN))
    for name in ("runs", "cells", "rounds", "classes", "generators"):
        assert getattr(published, name).equals(getattr(store, name))


@pytest.mark.parametrize("command", [["gc"], ["tensorboard", "--no-server"]])
def test_what_would_change_it_is_refused(
    command: list[str], golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read(golden)
    assert main([command[0], str(golden), *command[1:]]) == 2
    assert "is a published study, which is read-only" in capsys.readouterr().err
    with pytest.raises(StoreError, match="published study"):
        open_store(str(golden), RESULTS_VERSION, create=True)
    assert read(golden) == before


@pytest.mark.parametrize(
    ("damaged", "read"),
    [
        ("result.json", lambda store, key, record: store.read_record(key)),
        ("result.json", lambda store, key, record: store.read_summary(key)),
        ("predictions-", lambda store, key, record: store.read_artifact(record, "predictions")),
        ("predictions-", lambda store, key, record: store.read_array(record, "predictions")),
        ("predictions-", lambda store, key, record: store.load_artifact(record, "predictions")),
        ("studies/", lambda store, key, record: store.load_study(store.list_studies()[0])),
    ],
)
def test_remedy_for_a_damaged_file_is_not_a_sweep(
    damaged: str, read: Callable[[Store, str, Record | None], object], tmp_path: Path
) -> None:
    key, whole = next((GOLDEN / "stages").iterdir()).name, open_store(str(GOLDEN), None, create=False)
    shutil.copytree(GOLDEN, tmp_path / "store")
    for path in (tmp_path / "store").rglob("*"):
        if damaged in str(path.relative_to(tmp_path / "store")) and path.is_file():
            path.write_text("damaged")
    folder = publish(tmp_path / "store", tmp_path / "damaged")
    store = open_store(str(folder), None, create=False, is_read_only=True)
    assert store is not None and whole is not None
    with pytest.raises(StoreError, match=r"; restore its files, or publish it again$") as error:
        read(store, key, whole.read_record(key))
    assert "sweep" not in str(error.value) and "move" not in str(error.value)


@pytest.mark.parametrize("out", ["report", "report/more", "link", "link/more"])
def test_report_does_not_go_into_its_folder_by_whatever_way(
    out: str, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (golden / "report").mkdir()
    place = (tmp_path if out.startswith("link") else golden) / out
    (tmp_path / "link").symlink_to(golden / "report")
    assert analyse([str(golden), "--out", str(place)]) == 2
    assert (
        f"is in {golden}, a store or a published study, which sweeps and publish alone"
        in capsys.readouterr().err
    )
    assert not list((golden / "report").iterdir())


def test_copy_that_the_refusal_names_is_a_store(golden: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(golden / ARCHIVE, tmp_path / "copy")
    assert main(["gc", str(tmp_path / "copy")]) == 0


def damage(folder: Path) -> None:
    content = bytearray((folder / ARCHIVE).read_bytes())
    content[len(content) // 2] ^= 4
    (folder / ARCHIVE).write_bytes(content)


def plan_only(folder: Path) -> None:
    (folder / ARCHIVE).rename(folder / "plan.toml")


def be_a_directory(folder: Path) -> None:
    (folder / ARCHIVE).unlink()
    (folder / ARCHIVE).mkdir()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage, "is not the one that was published"),
        (plan_only, "it has not been published yet"),
        (be_a_directory, "cannot be read as a published study"),
        (shutil.rmtree, "there is no store"),
    ],
)
def test_damage_is_one_line_and_exit_code_2(
    harm: object, words: str, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(harm)
    harm(golden)
    for run in (lambda: main(["status", str(golden)]), lambda: analyse([str(golden)])):
        assert run() == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


@pytest.fixture(scope="module")
def verified(
    tmp_path_factory: pytest.TempPathFactory, small_protocol: Protocol, cpu_execution: Execution
) -> tuple[Path, ClassifierStage]:
    """Return a published classifier on images of a generator, whose weights are not there."""
    root = tmp_path_factory.mktemp("verified")
    store = open_store(str(root / "store"), RESULTS_VERSION, create=True)
    assert isinstance(store, Store)
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="cgan", generator="small_mlp_cgan_leaky")
    stage = cell.stage(0, cpu_execution)
    assert stage.generator_stage is not None
    for each in (stage.generator_stage, stage):
        run_stage(each, store)
    return publish(root / "store", root / "published"), stage


@pytest.mark.slow
def test_verify_runs_a_record_again_with_what_it_builds_on(
    verified: tuple[Path, ClassifierStage], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, stage = verified
    assert stage.generator_stage is not None
    for key in (stage.key, stage.generator_stage.key):
        assert main(["verify", str(folder), key[:12]]) == 0
        assert "equal, bit for bit" in capsys.readouterr().out


def test_verify_tells_that_what_it_builds_on_differs(
    verified: tuple[Path, ClassifierStage], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, stage = verified
    assert stage.generator_stage is not None
    copy, key = tmp_path / "copy", stage.generator_stage.key
    shutil.unpack_archive(folder / ARCHIVE, copy)
    store = open_store(str(copy), RESULTS_VERSION, create=False)
    assert store is not None
    record = store.read_record(key)
    assert record is not None
    (copy / "stages" / key / "result.json").unlink()
    weights = dataclasses.replace(record.artifacts["weights"], sha256="0" * 64)
    store.commit(dataclasses.replace(record, artifacts={**record.artifacts, "weights": weights}))
    assert main(["verify", str(publish(copy, tmp_path / "altered")), stage.key]) == 1
    assert f"difference: generator {key[:12]}, artifacts.weights.sha256: stored" in capsys.readouterr().out


def test_store_is_named_once(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(golden), "abcd", "--storage", str(golden)]) == 2
    assert "both name the store; give one" in capsys.readouterr().err
    assert main(["show", str(golden), f"{golden}/stages/abcd"]) == 2
    assert "a path names its store itself" in capsys.readouterr().err
    assert main(["verify", str(golden), "0" * 64]) == 2
    assert "no stage has a key that begins with" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_tables_of_each_published_study_are_those_of_its_records(folder: Path, tmp_path: Path) -> None:
    """On one processor the whole report is equal bit for bit; on another last bits may differ."""
    write_report(read_results(str(folder)), tmp_path / "report")
    made, published = read_files(tmp_path / "report"), read_files(folder / "report")
    assert made.keys() == published.keys()
    for name in (name for name in made if name.endswith(".csv")):
        tables = [pd.read_csv(io.BytesIO(files[name])) for files in (made, published)]
        pd.testing.assert_frame_equal(*tables, rtol=1e-6)
