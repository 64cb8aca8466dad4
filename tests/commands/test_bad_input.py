"""Whatever is typed, a command plans, or answers in words and with exit code 2: no traceback, no file."""

import random
import re
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import analysis.__main__
from lt_rebalance.cli.main import main as look
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.configs import Execution
from tests.commands.test_option_contract import CPU, SWEEPS, Answer, Call, call, list_flags, load_sweep

__all__ = ["call"]

HUGE = str(10**30)
TEXTS = [
    *("", " ", "\n", "nan", "inf", "-inf", "-1", "0", "0.5", "1e400", HUGE, "9" * 5000, "ten", "1/0"),
    *("\x1b[31mred", "a\nerror: b", "\u202egnp", "\udcff", "[red]", "[/]", ":tada:", "x" * 300, "é" * 120),
    *("../../x", "/etc/passwd/x", ".", "..", "a/b", "a\\b", "~nobody-of-this-name/x", "~", "-", "--"),
    *("s3://", "s3://B@D/x", "ftp://x", "null", "%s", "{}", "$(id)", "1e-999999999", "1e300", "--plan"),
]
NUM_TRIES = 50
"""of each command"""


def assert_refused(answer: Answer) -> None:
    assert answer.code == 2, answer
    assert re.fullmatch(r"(note: [^\n]+\n)*error: [^\n]+\n", answer.err), answer.err
    assert answer.err.isascii() or all(letter.isprintable() or letter == "\n" for letter in answer.err)
    assert answer.out == ""


def assert_untouched(tmp_path: Path) -> None:
    assert [path.name for path in tmp_path.rglob("*")] == ["cwd"]


@pytest.mark.parametrize(
    "name", ["full_grid", "imbalance_levels", "nested_seeds", "tune_cgan", "tune_classifier", "tune_methods"]
)
def test_any_text_for_any_option_is_planned_or_refused_in_words(
    name: str, call: Call, tmp_path: Path
) -> None:
    parser, run = load_sweep(name)
    # What a plan does with a bucket or a cluster, other tests ask.
    flags = [flag for flag in list_flags(parser) if flag not in ("--help", "--address")]
    rng = random.Random(name)
    for _ in range(NUM_TRIES):
        flag, text = rng.choice(flags), rng.choice(TEXTS)
        answer = call(run, [*CPU, "--plan", f"{flag}={text}"])
        assert "Traceback" not in answer.err, (flag, text, answer.err)
        assert answer.code in (0, 2), (flag, text)
        if answer.code == 2:
            assert_refused(answer)
    assert_untouched(tmp_path)


BAD = {
    "validation that leaves nothing": ["--set", "data.validation_per_class=600"],
    "infinite rate": ["--set", "classifier.learning_rate=1e400"],
    "no number": ["--set", "classifier.beta1=nan"],
    "below zero": ["--set", "classifier.learning_rate=-0.1"],
    "huge batch": ["--set", f"classifier.batch_size={HUGE}"],
    "huge whole number for a float": ["--set", f"classifier.learning_rate={'9' * 400}"],
    "huge budget": ["--set", f"classifier.budget.epochs={HUGE}"],
    "many epochs": ["--set", "classifier.budget.epochs=999999999"],
    "deep table": ["--set", f"classifier.loss={'[' * 5000}"],
    "no value": ["--set", "classifier.loss="],
    "no field": ["--set", "=3"],
    "no section": ["--set", "nonsense"],
    "unknown section": ["--set", "optimizer.name='sgd'"],
    "table for a value": ["--set", "classifier.loss.x=1"],
    "value for a table": ["--set", "classifier=1"],
    "no device": ["--device", "tpu"],
    "huge name": ["--name", "x" * 300],
    "name elsewhere": ["--name", "../x"],
    "name of another system": ["--name", "a\\b"],
    "name that moves the cursor": ["--name", "a\x1b[2Jb"],
    "name of two lines": ["--name", "a\nplanned=9 complete=9"],
    "empty name": ["--name", ""],
    "empty store": ["--storage", ""],
    "empty data": ["--data-dir", ""],
    "no home": ["--data-dir", "~nobody-of-this-name/x"],
    "no home of a store": ["--storage", "~nobody-of-this-name/x"],
    "share": ["--gpus-per-trial", "inf"],
    "huge steps": ["--steps", HUGE],
    "huge seeds": ["--seeds", HUGE],
    "endless C": ["--c", "1e-999999999"],
    "C that is none": ["--c", "0"],
    "huge lanes": ["--lanes", HUGE],
    "no lanes": ["--lanes", "0"],
    "no file": ["--config", "nowhere.toml"],
    "directory for a file": ["--config", "/"],
    "endless file": ["--config", "/dev/zero"],
    "store in a file": ["--storage", "/etc/passwd/x"],
    "store in an unknown place": ["--storage", "ftp://x/y"],
    "store in a bucket of an impossible name": ["--storage", "s3://Bad_Name/x"],
}
ALONE = {"price": ["--rate", "nan"], "price below zero": ["--rate", "-1"], "download": ["--download"]}
"""with --plan"""


@pytest.mark.parametrize("name", ["full_grid", "tune_classifier"])
@pytest.mark.parametrize("extra", BAD.values(), ids=BAD)
def test_bad_input_is_one_line_with_and_without_a_plan(
    name: str, extra: list[str], call: Call, tmp_path: Path
) -> None:
    _, run = load_sweep(name)
    for plan in (["--plan"], []):
        assert_refused(call(run, [*CPU, *plan, *extra]))
    assert_untouched(tmp_path)


@pytest.mark.parametrize("extra", ALONE.values(), ids=ALONE)
@pytest.mark.parametrize("name", SWEEPS)
def test_bad_input_of_a_plan_is_one_line(name: str, extra: list[str], call: Call, tmp_path: Path) -> None:
    _, run = load_sweep(name)
    assert_refused(call(run, [*CPU, "--plan", *extra]))
    assert_untouched(tmp_path)


FILES = {
    "not UTF-8": b"[classifier]\nloss = '\xff'\n",
    "UTF-16": "[classifier]\nbeta1 = 0.5\n".encode("utf-16"),
    "no TOML": b"classifier: {loss: x}\n",
    "empty": b"",
    "only a mark": b"\xef\xbb\xbf",
    "an empty table": b"[classifier]\n",
    "a list of tables": b"[[classifier]]\nbeta1 = 0.5\n",
    "a date": b"[classifier]\nbeta1 = 2020-01-01\n",
    "infinity": b"[classifier]\nlearning_rate = inf\n",
    "a text for a number": b"[classifier]\nlearning_rate = 'fast'\n",
    "a truth for a number": b"[classifier]\nlearning_rate = true\n",
    "unknown field": b"[classifier]\nmomentum = 0.9\n",
    "unknown section": b"[optimizer]\nname = 'sgd'\n",
    "twice": b"[classifier]\nbeta1 = 0.5\nbeta1 = 0.6\n",
    "deep": b"[classifier]\nloss = " + b"[" * 5000,
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_bad_file_is_one_line_that_names_it_or_what_is_wrong_in_it(
    content: bytes, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "cwd" / "file.toml").write_bytes(content)
    for name in ("full_grid", "tune_classifier"):
        answer = call(load_sweep(name)[1], [*CPU, "--plan", "--config", "file.toml"])
        assert_refused(answer)
        assert re.search(r"file|classifier|optimizer", answer.err)


def test_file_of_an_editor_elsewhere_is_read_as_any(call: Call) -> None:
    text = "[classifier]\nbeta1 = 0.5\n"
    outs = set()
    for content in (text.encode(), b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()):
        Path("file.toml").write_bytes(content)
        answer = call(load_sweep("ablate_loss")[1], [*CPU, "--plan", "--json", "--config", "file.toml"])
        assert answer.code == 0
        outs.add(answer.out)
    assert len(outs) == 1


def test_home_of_the_user_is_meant_by_a_tilde(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "x").mkdir(parents=True)
    (tmp_path / "home" / "x" / "thesis.tex").touch()
    (tmp_path / "home" / "c.toml").write_text("[classifier]\nbeta1 = 0.5\n")
    _, run = load_sweep("full_grid")
    store = call(run, [*CPU, "--plan", "--storage=~/x"])
    assert f"{tmp_path}/home/x is not empty" in store.err
    data = call(run, [*CPU, "--preset", "paper", "--data-dir=~/x"])
    assert data.code == 2 and f"missing in {tmp_path}/home/x/FashionMNIST/raw" in data.err
    assert call(run, [*CPU, "--plan", "--config=~/c.toml"]).code == 0
    assert str(tmp_path) in call(look, ["status", "~/x"]).err
    assert str(tmp_path) in call(analysis.__main__.main, ["~/x"]).err


LOOKS = [
    *(
        ["status", "nowhere"],
        ["status", ""],
        ["status", ".", "--rate", "nan"],
        ["status", ".", "--every", "0"],
    ),
    *(["show", "x" * 300], ["show", "\x1b[2J"], ["plan", "nowhere.py"], ["plan", "nowhere"], ["plan", ""]),
    *(["verify", "abcd"], ["retry", "nowhere", "--failed"], ["retry", "nowhere"], ["gc", "nowhere"]),
    *(
        ["gc", "/"],
        ["export", "nowhere"],
        ["export", "nowhere", "--out", "x.doc"],
        ["tensorboard", "nowhere"],
    ),
    *(["tensorboard", "nowhere", "--port", HUGE], ["completion", "fish"], [], ["status", "/dev/null"]),
    *(["status", "s3://Bad_Name"], ["status", "~nobody-of-this-name"], ["status", "nowhere", "--study"]),
    ["nonsense"],
]


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_bad_input_of_commands_that_look_is_one_line(
    arguments: Sequence[str], call: Call, tmp_path: Path
) -> None:
    assert_refused(call(look, arguments))
    assert_untouched(tmp_path)


@pytest.mark.parametrize(
    "arguments", [["nowhere"], [""], [], ["x", "--nonsense"], ["/dev/null"], ["s3://Bad_Name"]]
)
def test_bad_input_of_the_report_is_one_line(arguments: list[str], call: Call, tmp_path: Path) -> None:
    assert_refused(call(analysis.__main__.main, arguments))
    assert_untouched(tmp_path)


def list_configurations(holder: type = Cell) -> list[type]:
    """Return the configurations inside one, and inside these."""
    hints = typing.get_type_hints(holder).values()
    inside = {kind for hint in hints for kind in (typing.get_args(hint) or (hint,)) if is_dataclass(kind)}
    found = inside.union(*(list_configurations(kind) for kind in inside))
    return sorted(found, key=lambda kind: kind.__name__)


def test_every_part_of_a_cell_is_among_the_configurations() -> None:
    names = {kind.__name__ for kind in list_configurations()}
    assert names >= {"DataConfig", "MethodConfig", "Budget", "GeneratorConfig", "ClassifierConfig"}


@pytest.mark.parametrize("config", [*list_configurations(), Execution])
def test_no_number_of_any_configuration_may_be_infinite_or_none(config: type) -> None:
    """All other fields hold what no other check lets pass, so that the one on numbers must come first."""
    hints = typing.get_type_hints(config)
    for name, hint in hints.items():
        kinds = typing.get_args(hint) or (hint,)
        bad = [float("nan"), float("inf"), -float("inf")] if float in kinds else []
        for value in bad or ([10**30] if int in kinds else []):
            made = object.__new__(config)
            for each in hints:
                object.__setattr__(made, each, value if each == name else None)
            with pytest.raises(ValueError, match=f"{name} must be (a finite number|at most)"):
                typing.cast(typing.Any, made).__post_init__()
