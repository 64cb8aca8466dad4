"""Several stores are analysed as one that holds the studies of all."""

import dataclasses
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.collect import read_results
from lt_rebalance.files.archive import ARCHIVE, CHECKSUMS, write_archive, write_checksums
from lt_rebalance.store import Store
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from tests.analysis.synthetic import make_store, plan_study

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
    stores: tuple[Store, Store], is_swapped: bool
) -> None:
    ordered = stores[::-1] if is_swapped else stores
    joined = read_results([each.location for each in ordered])
    alone = read_results(ordered[0].location).runs.set_index("key")
    none = joined.runs[joined.runs["method"] == "none"].set_index("key")
    assert len(joined.runs) == 6 and len(none) == 2
    assert none["accuracy"].equals(alone.loc[none.index, "accuracy"])
    assert "in several of these stores, and read from the first of them: 2 stages" in joined.notes


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
    first = stores[0]
    copy = make_store(tmp_path / "c", plan_methods("first", "none", "oversample"))
    assert len(read_results([first.location, copy.location]).runs) == 4
    plan = plan_methods("first", "none", "oversample")
    fewer = compile_study(dataclasses.replace(plan.study, seeds=(0,)), plan.execution)
    copy.write_study(describe_plan(fewer))
    assert main([first.location, copy.location]) == 2
    assert capsys.readouterr().err == (
        f"error: {first.location} and {copy.location} have different studies first; leave out one of these "
        "stores\n"
    )


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
