"""Checks of overrides: what files and settings may say, what cells become, what the command records."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.studies.overrides import change_cell, change_study, make_overrides, read_overrides
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell, step_budget
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import Budget, Execution
from sweeps import full_grid

MINI = {"dataset": "fashion_mnist_mini", "c": "1/2"}
SOUND = get_protocol("sound")
NONE = make_cell(SOUND, method="none", generator=None, **MINI)
ORIGINAL = make_cell(SOUND, dataset="fashion_mnist_mini", c=None, method="none", generator=None)
CGAN = make_cell(SOUND, method="cgan", generator="mlp_cgan_relu", **MINI)


def change(cell: Cell, *settings: str) -> Cell:
    return change_cell(cell, read_overrides(None, settings))


def study_of(*cells: Cell) -> Study:
    return Study(name="asked", cells=cells, seeds=(0,))


def test_option_of_another_method_is_refused_with_the_methods_that_have_it() -> None:
    with pytest.raises(ValueError, match=r"none of the methods has an option 'alpha'; known: none; alpha"):
        change_study(study_of(NONE), read_overrides(None, ["method.options.alpha=0.5"]))
    with pytest.raises(ValueError, match=r"alpha is an option of .*mixup"):
        MethodConfig(name="focal", draw=None, options={"alpha": 0.5})
    with pytest.raises(ValueError, match=r"has no option 'nowhere'; known: deferred, gamma$"):
        MethodConfig(name="focal", draw=None, options={"nowhere": 0.5})


def test_field_that_is_set_twice_is_named_once_with_the_value_that_it_has() -> None:
    settings = ["classifier.beta1=0.5", "classifier.beta2=0.9", "classifier.beta1=0.7"]
    assert read_overrides(None, settings).label == "classifier.beta2=0.9+classifier.beta1=0.7"
    cells = [make_cell(SOUND, method=f"focal:gamma={gamma}", generator=None, **MINI) for gamma in (1, 3)]
    assert len({str(cell) for cell in cells}) == 2


# Values


def test_setting_replaces_one_field_and_nothing_else() -> None:
    changed = change(NONE, "classifier.learning_rate=0.001")
    assert changed.classifier == dataclasses.replace(NONE.classifier, learning_rate=0.001)
    assert (changed.data, changed.method, changed.generator) == (NONE.data, NONE.method, None)


def test_values_are_toml_and_bare_words_are_strings() -> None:
    changed = change(NONE, "classifier.loss=double_softmax", "classifier.batch_size=64", "data.c='7/9'")
    assert (changed.classifier.loss, changed.classifier.batch_size) == ("double_softmax", 64)
    assert changed.data.c == "7/9"
    assert change(NONE, "data.c=7/9").data == changed.data


def test_whole_number_in_a_field_of_floats_becomes_one() -> None:
    assert isinstance(change(NONE, "classifier.learning_rate=1").classifier.learning_rate, float)


def test_null_empties_a_field_that_may_be_empty() -> None:
    oversample = make_cell(SOUND, method="oversample", generator=None, **MINI)
    changed = change(oversample, "method.name=none", "method.draw=null")
    assert changed.method == MethodConfig(name="none", draw=None)
    raw = change(CGAN, "generator.training_method.name=none", "generator.training_method.draw=null")
    assert raw.generator is not None
    assert raw.generator.training_method == MethodConfig(name="none", draw=None)


@pytest.mark.parametrize(
    ("setting", "budget"),
    [
        ("classifier.budget.steps=600", step_budget(600)),
        ("classifier.budget={steps=600}", step_budget(600)),
        ("classifier.budget={steps=600, rounds=3}", Budget(steps=600, rounds=3)),
        ("classifier.budget.epochs=2", Budget(epochs=2)),
    ],
)
@pytest.mark.parametrize("protocol", ["paper", "sound"])
def test_budget_in_one_unit_replaces_one_in_the_other(protocol: str, setting: str, budget: Budget) -> None:
    cell = make_cell(get_protocol(protocol), method="none", generator=None, **MINI)
    assert change(cell, setting).classifier.budget == budget


def test_rounds_alone_keep_the_steps_of_a_budget() -> None:
    assert change(NONE, "classifier.budget.rounds=4").classifier.budget == Budget(steps=18_000, rounds=4)


def test_file_is_read_and_later_settings_win(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text(
        "[classifier]\nlearning_rate = 0.002\nbeta1 = 0.8\n[classifier.budget]\nsteps = 900\n"
        '[generator]\narchitecture = "dccgan_leaky"\n'
    )
    settings = ["classifier.beta1=0.5", "classifier.beta1=0.7"]
    changed = change_cell(CGAN, read_overrides(str(path), settings))
    assert changed.classifier == dataclasses.replace(
        CGAN.classifier, learning_rate=0.002, beta1=0.7, budget=step_budget(900)
    )
    assert changed.generator is not None and changed.generator.architecture == "dccgan_leaky"


def test_later_unit_of_a_budget_wins_and_keeps_no_number_of_the_earlier(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text("[classifier.budget]\nepochs = 30\n")
    steps, epochs = "classifier.budget.steps=600", "classifier.budget.epochs=4"
    rounds = "classifier.budget.rounds=3"
    for settings, budget in (
        ([steps], step_budget(600)),
        ([rounds, steps], Budget(steps=600, rounds=3)),
        ([steps, rounds], Budget(steps=600, rounds=3)),
        ([steps, rounds, epochs], Budget(epochs=4)),
    ):
        assert change_cell(NONE, read_overrides(str(path), settings)).classifier.budget == budget


def test_file_of_the_documentation_is_one_that_sweeps_take(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "tuned.toml"
    path.write_text(content)
    changed = change_cell(CGAN, read_overrides(str(path), []))
    assert changed.classifier.budget == step_budget(900)
    assert changed.generator is not None and changed.generator.beta1 == 0.5


# Names


def test_changed_cells_do_not_bear_the_plain_name_of_their_protocol(tmp_path: Path) -> None:
    (tmp_path / "tuned.toml").write_text("[classifier]\nbeta1 = 0.8\n")
    overrides = read_overrides(str(tmp_path / "tuned.toml"), ["classifier.batch_size = 64"])
    assert change_cell(NONE, overrides).protocol == "sound+tuned+classifier.batch_size=64"
    assert change_cell(NONE, make_overrides({"data.class_order": "permuted"})).protocol == (
        "sound+data.class_order=permuted"
    )


def test_dotted_changes_are_what_settings_are() -> None:
    changes = {"classifier.loss": "double_softmax", "classifier.budget.steps": 600}
    settings = ["classifier.loss=double_softmax", "classifier.budget.steps=600"]
    assert make_overrides(changes) == read_overrides(None, settings)


# Studies


def test_generator_fields_pass_by_cells_without_a_generator() -> None:
    changed = change_study(study_of(NONE, CGAN), read_overrides(None, ["generator.beta1=0.5"]))
    none, cgan = changed.cells
    assert none.generator is None and none.classifier == NONE.classifier
    assert cgan.generator is not None and cgan.generator.beta1 == 0.5


def test_fields_of_cuts_pass_by_cells_that_are_not_cut() -> None:
    settings = ["data.class_order=permuted", "data.subset_draw=paper"]
    changed = change_study(study_of(ORIGINAL, NONE), read_overrides(None, settings))
    original, cut = (cell.data for cell in changed.cells)
    assert original == ORIGINAL.data
    assert cut == dataclasses.replace(NONE.data, class_order="permuted", subset_draw="paper")
    assert {cell.protocol for cell in changed.cells} == {f"sound+{'+'.join(settings)}"}
    assert changed.overrides == {"data": {"class_order": "permuted", "subset_draw": "paper"}}
    label = {"class_order": "label", "subset_draw": "per_seed"}
    asked = ["data.c=7/9", *(f"data.{name}={value}" for name, value in label.items())]
    (made,) = change_study(study_of(ORIGINAL), read_overrides(None, asked)).cells
    assert made.data == dataclasses.replace(ORIGINAL.data, c="7/9", **label)


def test_fields_of_cuts_are_refused_if_nothing_is_cut() -> None:
    with pytest.raises(ValueError, match="neither a subset draw nor a class order; leave them out, or cut"):
        change_study(study_of(ORIGINAL), read_overrides(None, ["data.class_order=permuted"]))


def test_study_without_overrides_stays_as_it_is() -> None:
    study = study_of(NONE, CGAN)
    assert change_study(study, read_overrides(None, [])) is study


def test_overrides_are_written_into_the_study(cpu_execution: Execution) -> None:
    study = study_of(NONE, CGAN)
    settings = ["classifier.budget.steps=600", "classifier.learning_rate=1"]
    changed = change_study(study, read_overrides(None, settings))
    described = describe_plan(compile_study(changed, cpu_execution))
    assert described.overrides == {"classifier": {"budget": {"steps": 600}, "learning_rate": 1.0}}
    assert {cell.protocol for cell in described.cells} == {
        "sound+classifier.budget.steps=600+classifier.learning_rate=1"
    }
    assert describe_plan(compile_study(study, cpu_execution)).overrides == {}


# Errors


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "clasifier.loss=x",
            "unknown section of a cell 'clasifier'; known: data, method, generator, classifier",
        ),
        ("classifier.los=x", "unknown field of classifier 'los'; known: learning_rate, beta1, beta2"),
        (
            "classifier.budget.step=9",
            "unknown field of classifier.budget 'step'; known: epochs, steps, rounds",
        ),
        ("protocol=x", "unknown section of a cell 'protocol'"),
        ("classifier=x", "classifier is a table of learning_rate, beta1, beta2"),
        ("classifier.budget=600", "classifier.budget is a table of epochs, steps, rounds; got 600"),
        ("classifier.loss.name=x", "classifier.loss must be a value of type str, got {'name': 'x'}"),
        ("classifier.batch_size=64.0", "classifier.batch_size must be a value of type int, got 64.0"),
        ("classifier.batch_size=true", "classifier.batch_size must be a value of type int, got True"),
        ("classifier.batch_size=many", "classifier.batch_size must be a value of type int, got 'many'"),
        ("classifier.batch_size=null", "classifier.batch_size must be a value of type int, got 'null'"),
        ("classifier.loss=5", "got 5; quote it: 'classifier.loss=\"5\"'"),
        ("classifier.beta1='0.9'", "classifier.beta1 must be a value of type float, got '0.9'"),
        (
            "data.c=0.5",
            "data.c must be a value of type str, or 'null' for none, got 0.5; quote it: 'data.c=\"0.5\"'",
        ),
        ("classifier.loss", "--set takes section.field=value, got 'classifier.loss'"),
        ("classifier.loss=", "--set takes section.field=value"),
        ("=1", "--set takes section.field=value"),
    ],
)
def test_wrong_setting_is_refused_with_what_is_known(setting: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        read_overrides(None, [setting])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["classifier.loss=mse"], "classifier.loss=mse does not go with sound 1/2 none: unknown loss 'mse'"),
        (["classifier.learning_rate=nan"], "learning_rate must be a finite number, got nan"),
        (["classifier.budget={steps=9, epochs=9}"], "a budget is in epochs or in steps"),
        (["classifier.budget.steps=0"], "steps must be above 0"),
        (["data.c=2/4"], "C must be given in lowest terms"),
        (["method.draw=cyclic"], "unknown draw 'cyclic' of method 'none'"),
        (["method.name=cgan"], "method 'cgan' needs a generator"),
    ],
)
def test_value_that_a_cell_cannot_hold_is_refused_and_names_the_cell(
    settings: list[str], expected: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        change(NONE, *settings)


def test_option_of_a_method_that_has_none_is_refused_in_words_wherever_it_is_set() -> None:
    for setting in ("generator.training_method.options.k=3", "generator.training_method.options={k=3}"):
        with pytest.raises(ValueError, match=r"does not go with .*'k'"):
            change(CGAN, setting)


def test_generator_fields_without_any_generator_are_refused() -> None:
    with pytest.raises(ValueError, match=r"generator.beta1=0.5: none of the methods has a generator"):
        change_study(study_of(NONE), read_overrides(None, ["generator.beta1=0.5"]))


def test_replacing_what_a_study_compares_is_refused() -> None:
    double = make_cell(
        dataclasses.replace(SOUND, name="double", loss="double_softmax"),
        method="none",
        generator=None,
        **MINI,
    )
    with pytest.raises(ValueError, match="replaces what study 'asked' compares"):
        change_study(study_of(NONE, double), read_overrides(None, ["classifier.loss=double_softmax"]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[classifier\n", "is not a TOML file"),
        (b"\xff", "is not a TOML file"),
        (b"loss = 1\n", "unknown section of a cell 'loss'"),
        (b"[classifier]\nlr = 1\n", "unknown field of classifier 'lr'"),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        read_overrides(str(path), [])


def test_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--config .*nowhere.toml cannot be read: No such file"):
        read_overrides(str(tmp_path / "nowhere.toml"), [])


def test_pipe_is_read_to_its_end_and_not_waited_for_where_nobody_writes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"--config .*pipe sets nothing"):
        read_overrides(str(tmp_path / "pipe"), [])
    reading, writing = os.pipe()
    os.write(writing, b"[classifier]\nlearning_rate = 0.002\n")
    os.close(writing)
    try:
        found = read_overrides(f"/dev/fd/{reading}", [])
    finally:
        os.close(reading)
    assert found.tables == {"classifier": {"learning_rate": 0.002}}


# The whole grid takes them


def test_grid_with_a_file_trains_other_stages_than_without(tmp_path: Path, cpu_execution: Execution) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text("[classifier]\nlearning_rate = 0.002\n")
    options = full_grid.make_grid_parser().parse_args(["--config", str(path)])
    study = full_grid.build_study(options)
    changed = change_study(study, read_overrides(options.config, options.set))
    plain, tuned = (compile_study(each, cpu_execution) for each in (study, changed))
    kinds = {key: stage.kind for key, stage in tuned.stages.items()}
    # Generators are the same, and are shared; classifiers are others.
    assert {kinds[key] for key in set(plain.stages) & set(tuned.stages)} == {"generator"}
