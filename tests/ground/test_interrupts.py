"""Checks of the stop signals, sent for real to a process that runs a tiny script."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from lt_rebalance.ground.interrupts import STOP_SIGNALS, Interrupted, InterruptWatch

PATIENCE_S = 60

HEAD = """
import signal, sys, time
from lt_rebalance.ground.interrupts import Interrupted, InterruptWatch

def wait():
    print("waiting", flush=True)
    while True:
        time.sleep(0.01)
        if watch is not None:
            watch.check()

def mine(number, frame):
    sys.exit(7)

watch = None
"""
WATCHING = """
try:
    with InterruptWatch() as watch:
        wait()
except Interrupted as interrupt:
    sys.exit(interrupt.exit_code)
"""
STUBBORN = """
with InterruptWatch() as watch:
    try:
        wait()
    except Interrupted:
        print("noted", flush=True)
        watch = None
        wait()
"""
REPLACED = """
try:
    with InterruptWatch() as watch:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, mine)
        watch.install()
        wait()
except Interrupted as interrupt:
    sys.exit(interrupt.exit_code)
"""
AFTERWARDS = """
signal.signal(signal.SIGINT, mine)
signal.signal(signal.SIGTERM, mine)
with InterruptWatch():
    pass
wait()
"""
Launch = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Return what starts a script and waits until it waits."""
    children = []

    def start(script: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HEAD + script]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        children.append(child)
        expect_line(child, "waiting")
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def expect_line(child: subprocess.Popen[str], expected: str) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == f"{expected}\n"


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_watch_leaves_with_the_exit_code_of_the_signal(
    launch: Launch, number: signal.Signals, exit_code: int
) -> None:
    child = launch(WATCHING)
    child.send_signal(number)
    assert child.wait(PATIENCE_S) == exit_code


@pytest.mark.parametrize("second", STOP_SIGNALS)
@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_watch_lets_a_second_signal_end_the_process_at_once(
    launch: Launch, first: signal.Signals, second: signal.Signals
) -> None:
    child = launch(STUBBORN)
    child.send_signal(first)
    expect_line(child, "noted")
    expect_line(child, "waiting")
    child.send_signal(second)
    assert child.wait(PATIENCE_S) == -second
    assert child.stderr is not None
    assert child.stderr.read() == ""


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_install_puts_handlers_back_that_other_code_replaced(
    launch: Launch, number: signal.Signals, exit_code: int
) -> None:
    child = launch(REPLACED)
    child.send_signal(number)
    assert child.wait(PATIENCE_S) == exit_code


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_watch_leaves_the_signals_to_earlier_handlers_after_its_block(
    launch: Launch, number: signal.Signals
) -> None:
    child = launch(AFTERWARDS)
    child.send_signal(number)
    assert child.wait(PATIENCE_S) == 7


def handler_of_another(number: int, frame: FrameType | None) -> None:
    """Stand for other code that replaces a handler."""


@pytest.mark.parametrize("error", [None, ValueError("ours"), Interrupted(signal.SIGINT)])
def test_watch_restores_all_handlers_however_its_block_ends(error: BaseException | None) -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with contextlib.suppress(ValueError, Interrupted), InterruptWatch() as watch:
        assert not set(before) & {signal.getsignal(number) for number in STOP_SIGNALS}
        signal.signal(signal.SIGTERM, handler_of_another)
        watch.install()
        assert signal.getsignal(signal.SIGTERM) is not handler_of_another
        if error is not None:
            raise error
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_check_without_a_signal_does_nothing() -> None:
    with InterruptWatch() as watch:
        watch.check()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_check_raises_the_signal_that_came_first_as_often_as_asked(number: signal.Signals) -> None:
    with InterruptWatch() as watch:
        signal.raise_signal(number)
        for _ in range(2):
            with pytest.raises(Interrupted) as interrupted:
                watch.check()
            assert interrupted.value.signal is number


def test_interrupted_is_not_caught_as_an_error() -> None:
    # Code that survives errors, by `except Exception`, must not survive Ctrl-C.
    assert not issubclass(Interrupted, Exception)
