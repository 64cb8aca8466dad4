"""Several stores are analysed as one that holds the studies of all."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.collect import read_results
from lt_rebalance.files.archive import ARCHIVE, CHECKSUMS, write_archive, write_checksums
from lt_rebalance.store import Store, StoreError
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from tests.analysis.synthetic import make_store, plan_study
from tests.store.test_store import make_failure

FRAMES = ("cells", "runs", "rounds", "classes", "generators", "generator_classes")


def publish(store: Path, folder: Path, *, without: str) -> Path:
    """Put the files of a store into the folder of a published study, without those of a role."""
    paths = [path for path in store.rglob("*") if path.is_file() and not path.name.startswith(without)]
    content = write_archive({path.relative_to(store).as_posix(): path.read_bytes() for path in paths})
    folder.mkdir()
    (folder / ARCHIVE).write_bytes(content)
    (folder / CHECKSUMS).write_bytes(write_checksums({ARCHIVE: content}))
    return folder


def plan_methods(name: str, *methods: str, dataset: str = "fashion_mnist") -> Plan:
    generators = ("mlp_cgan_relu",) if "cgan" in methods else ()
    return plan_study(
        name=name, methods=methods, generators=generators, cs=("1/2",), num_seeds=2, dataset=dataset
    )


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    """A store of none and oversample, and one of none and CGANs; none has other results in the second."""
    first = make_store(tmp_path / "a", plan_methods("first", "none", "oversample"), rng_seed=1)
    second = make_store(tmp_path / "b", plan_methods("second", "none", "cgan"), rng_seed=2)
    return first, second


def test_frames_are_those_of_one_store_with_all_studies(stores: tuple[Store, Store], tmp_path: Path) -> None:
    first, second = stores
    both = make_store(tmp_path / "both", plan_methods("first", "none", "oversample"), rng_seed=1)
    # The runs of none have results already, which stay.
    make_store(tmp_path / "both", plan_methods("second", "none", "cgan"), rng_seed=2)
    joined = read_results([first.location, second.location])
    expected = read_results(both.location)
    for name in FRAMES:
        assert getattr(joined, name).equals(getattr(expected, name)), name
    assert joined.studies == ("first", "second")
    key = joined.generators["key"].iloc[0]
    samples, expected_samples = joined.read_samples(key), expected.read_samples(key)
    assert samples is not None and expected_samples is not None and (samples == expected_samples).all()


@pytest.mark.parametrize("is_swapped", [False, True])
def test_stage_that_both_have_is_read_from_the_first_and_counted(
    stores: tuple[Store, Store], is_swapped: bool, tmp_path: Path
) -> None:
    ordered = stores[::-1] if is_swapped else stores
    joined = read_results([each.location for each in ordered])
    alone = read_results(ordered[0].location).runs.set_index("key")
    none = joined.runs[joined.runs["method"] == "none"].set_index("key")
    assert len(joined.runs) == 6 and len(none) == 2
    assert none["accuracy"].equals(alone.loc[none.index, "accuracy"])
    said = "results of {} stages are in several of these stores, and those of the first are read; "
    assert f"{said.format(2)}those of 2 differ" in joined.notes
    copied = shutil.copytree(ordered[0].location, tmp_path / "copy")
    notes = read_results([ordered[0].location, str(copied)]).notes
    assert f"{said.format(len(ordered[0].list_keys()))}all are equal" in notes


def test_stores_without_a_common_stage_need_no_note(stores: tuple[Store, Store], tmp_path: Path) -> None:
    other = make_store(tmp_path / "c", plan_methods("third", "none", dataset="mnist"))
    assert read_results([stores[0].location, other.location]).notes == ()


def test_gap_in_one_store_is_named_with_both(
    stores: tuple[Store, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = stores
    key = second.load_study("second").runs[-1].key
    (Path(second.location) / "stages" / key / "result.json").unlink()
    assert main([first.location, second.location]) == 2
    error = capsys.readouterr().err
    assert f"{first.location} and {second.location}: 1 of 6 planned runs has no result" in error
    assert len(read_results([first.location, second.location], studies=["first"]).runs) == 4


def test_studies_of_one_name_must_be_equal(
    stores: tuple[Store, Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, plan = stores[0], plan_methods("first", "none", "oversample")
    copy = make_store(tmp_path / "c", plan)
    on_another_machine = {"num_slots": 7, "devices_per_slot": 0.5, "expected_s": {"classifier": 1e-9}}
    copy.write_study(dataclasses.replace(describe_plan(plan), **on_another_machine))
    assert len(read_results([first.location, copy.location]).runs) == 4
    fewer = compile_study(dataclasses.replace(plan.study, seeds=(0,)), plan.execution)
    copy.write_study(describe_plan(fewer))
    assert main([first.location, copy.location]) == 2
    assert capsys.readouterr().err == (
        f"error: {first.location} and {copy.location} have different studies first; leave out one of these "
        "stores\n"
    )


def test_result_of_a_later_store_counts_where_the_first_has_a_failure(stores: tuple[Store, Store]) -> None:
    first, second = stores
    runs = [run.key for run in first.load_study("first").runs]
    (shared, *_), alone = [key for key in runs if key in second.list_keys()], runs[-1]
    for key in (shared, alone):
        (Path(first.location) / "stages" / key / "result.json").unlink()
        first.mark_failed(make_failure(key))
    joined = read_results([first.location, second.location], allow=["gaps"])
    states = joined.runs.set_index("key")["state"]
    assert states[shared] == "complete" and states[alone] == "failed"
    assert any("results of 1 stage are" in note and "of 1 differ" in note for note in joined.notes)


@pytest.mark.parametrize("file", ["result.json", "samples-"])
def test_damage_names_the_store_that_has_it_and_its_remedy(
    stores: tuple[Store, Store], tmp_path: Path, file: str
) -> None:
    """Beside a published study, whose remedy is another."""
    other = make_store(tmp_path / "c", plan_methods("third", "cgan", dataset="mnist"))
    published = publish(Path(other.location), tmp_path / "published", without="samples-")
    path = next(each for each in Path(stores[1].location).glob("stages/*/*") if each.name.startswith(file))
    path.write_bytes(b"damaged")

    def read() -> None:
        joined = read_results([str(published), stores[1].location])
        for key in joined.generators["key"]:
            joined.read_samples(key)

    with pytest.raises(StoreError) as error:
        read()
    said = str(error.value)
    assert said.startswith(f"{stores[1].location}: ") and path.parent.name in said
    assert "published" not in said and "publish it again" not in said


@pytest.mark.parametrize(
    ("places", "words"),
    [([], "no store is named"), (["a", "a"], "a is named twice; name every store once")],
)
def test_places_are_some_and_each_is_given_once(
    stores: tuple[Store, Store], tmp_path: Path, places: list[str], words: str
) -> None:
    with pytest.raises(StoreError, match=words):
        read_results([str(tmp_path / place) for place in places])


def test_unknown_study_is_refused_with_those_of_all_stores(stores: tuple[Store, Store]) -> None:
    with pytest.raises(StoreError, match="no study 'none'; known: first, second"):
        read_results([each.location for each in stores], studies=["none"])


def test_samples_of_one_store_are_shown_beside_a_published_study_without_any(
    stores: tuple[Store, Store], tmp_path: Path
) -> None:
    other = make_store(tmp_path / "c", plan_methods("third", "cgan", dataset="mnist"))
    published = publish(Path(other.location), tmp_path / "published", without="samples-")
    joined = read_results([str(published), stores[1].location])
    has_samples = {
        (generator.dataset, joined.read_samples(generator.key) is not None)
        for generator in joined.generators.itertuples()
    }
    assert has_samples == {("mnist", False), ("fashion_mnist", True)}


def test_missing_store_among_several_is_named(
    stores: tuple[Store, Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([stores[0].location, str(tmp_path / "nowhere")]) == 2
    assert f"{tmp_path / 'nowhere'}: there is no store" in capsys.readouterr().err
