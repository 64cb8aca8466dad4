"""Help texts offer what a command takes, with the defaults of each preset."""

import argparse
from collections.abc import Mapping, Sequence

import pytest

import analysis.__main__
from lt_rebalance.cli.completion import list_commands
from lt_rebalance.cli.parser import make_parser
from lt_rebalance.cli.stores import SHORTEST_PREFIX
from lt_rebalance.commands.options import say_defaults
from lt_rebalance.search.search import SCHEDULERS
from sweeps import tune_methods
from tests.commands.test_option_contract import CPU, PLAN, SEARCHES, SWEEPS, Call, call, load_sweep

__all__ = ["call"]  # the fixture

REFUSED: Mapping[str, Sequence[str]] = {
    "tune_methods": [f"--{name.replace('_', '-')}" for name in tune_methods.FIXED],
    "nested_seeds": ["--seeds"],
}
"""options that a sweep takes in order to refuse them with its reason"""


def say_help(parser: argparse.ArgumentParser, flag: str) -> str:
    """Return the usage and the help text of one option, as --help prints it."""
    (action,) = (each for each in parser._actions if flag in each.option_strings)
    formatter = argparse.HelpFormatter("", width=10_000)
    formatter.add_argument(action)
    return " ".join(formatter.format_help().split())


@pytest.mark.parametrize("name", SWEEPS)
def test_help_leaves_out_exactly_the_options_that_are_always_refused(name: str, call: Call) -> None:
    parser, run = load_sweep(name)
    hidden = [action.option_strings[-1] for action in parser._actions if action.help == argparse.SUPPRESS]
    assert sorted(hidden) == sorted(REFUSED.get(name, []))
    for flag in hidden:
        assert f"{flag} " not in parser.format_help()
        answer = call(run, [*CPU, *PLAN, flag, "none" if flag == "--scheduler" else "4"])
        assert answer.code == 2 and answer.err.startswith(f"error: {flag} "), answer.err


@pytest.mark.parametrize("name", sorted(SEARCHES - {"tune_methods"}))
def test_help_of_a_search_offers_the_schedulers_that_it_takes(name: str, call: Call) -> None:
    parser, run = load_sweep(name)
    for scheduler in SCHEDULERS:
        answer = call(run, [*CPU, *PLAN, "--scheduler", scheduler])
        assert (answer.code == 0) == (f" {scheduler}" in say_help(parser, "--scheduler").partition("(")[0])


@pytest.mark.parametrize(
    ("name", "flag", "said"),
    [
        ("full_grid", "--preset", "(default: quick)"),
        ("full_grid", "--seeds", "(default: 3; paper, full: 10)"),
        ("full_grid", "--c", "(default: original 1/2; paper, full: original 7/9 1/2)"),
        ("full_grid", "--steps", "(default: 200; paper, full: protocol's)"),
        ("full_grid", "--generator-steps", "(default: 600; paper, full: protocol's)"),
        ("full_grid", "--protocol", "18000 steps; cifar_lt: ResNet-32 by SGD, 200 epochs (default: sound; "),
        ("full_grid", "--methods", "; imblearn.over_sampling.NAME; "),
        ("full_grid", "--image-size", "16 to 224"),
        ("compare_methods", "--seeds", "(default: 3; full: 12)"),
        ("compare_methods", "--steps", "(default: 200; full: 1,200)"),
        ("compare_methods", "--tuned", "(default --name: compare_methods-tuned-PRESET)"),
        ("cifar_lt", "--preset", "(default: quick; with --dataset: full)"),
        ("cifar_lt", "--seeds", "(default: 3)"),
        ("nested_seeds", "--subsets", "(default: 2; full: 10)"),
        ("nested_seeds", "--classifiers", "(default: 2)"),
        ("tune_classifier", "--steps", "(default: 90; full: 1,800), a multiple of 9, "),
        ("tune_classifier", "--trials", "(default: 6; full: 40), any number with --max-steps or "),
        ("tune_classifier", "--confirm-seeds", "(default: 3; full: 10)"),
        ("tune_classifier", "--search-seed", "(default: 0)"),
        ("tune_classifier", "--name", "(default: SEARCH-PRESET)"),
        ("tune_cgan", "--steps", "(default: 90; full: 9,000), a multiple of 9, "),
        ("tune_cgan", "--classifier-steps", "(default: 30; full: 900)"),
        ("tune_methods", "--steps", "(default: 100; full: 1,200)"),
        ("tune_methods", "--generator-steps", "(default: 600; full: protocol's)"),
    ],
)
def test_help_has_the_defaults_of_every_preset(name: str, flag: str, said: str) -> None:
    assert said in say_help(load_sweep(name)[0], flag)


@pytest.mark.parametrize("name", ["cifar_lt", "imbalance_levels"])
def test_sweep_with_levels_of_its_own_promises_no_default_of_c(name: str) -> None:
    assert "default" not in say_help(load_sweep(name)[0], "--c")


def test_defaults_name_presets_of_equal_values_together() -> None:
    assert say_defaults({"a": "1", "b": "1"}) == "(default: 1)"
    assert say_defaults({"a": "1", "b": "2", "c": "3", "d": "2"}) == "(default: 1; b, d: 2; c: 3)"


def test_commands_and_sweeps_say_the_same_of_options_that_they_share() -> None:
    sweep = load_sweep("full_grid")[0]
    for name, command in list_commands(make_parser()).items():
        own = {flag for action in command._actions for flag in action.option_strings}
        for flag in own & {"--data-dir", "--address", "--gpus-per-trial", "--lanes", "--max-concurrent"}:
            assert say_help(command, flag) == say_help(sweep, flag), f"{name} {flag}"
    report, export = analysis.__main__.make_parser(), list_commands(make_parser())["export"]
    assert say_help(report, "--allow") == say_help(export, "--allow")
    assert "versions of torch, each shown as a cell of its own; versions: " in say_help(export, "--allow")


def test_help_of_commands_has_what_they_need() -> None:
    commands = list_commands(make_parser())
    assert " --failed " in commands["retry"].format_usage()
    for name in ("show", "verify"):
        assert f"at least {SHORTEST_PREFIX} first letters" in " ".join(commands[name].format_help().split())
    assert "folder of a published study" in " ".join(analysis.__main__.make_parser().format_help().split())
