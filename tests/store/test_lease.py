"""One sweep at a time on a store: a live one keeps its lease, a dead one loses it, one of many gets it."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.ground.errors import LeaseError, LeaseLostError
from lt_rebalance.store import lease
from lt_rebalance.store.lease import DIRECTORY, Holder, Lease
from lt_rebalance.store.presence import Process, process_space

TAKE_AT_ONCE = """
import sys, time
from pathlib import Path
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.store.lease import Lease, LeaseError
root, me = Path(sys.argv[1]), sys.argv[2]
lease = Lease(LocalFilesystem(root), "the store", me, beat_s=0.1, stale_s=1)
(root.parent / f"ready-{me}").touch()
while not (root.parent / "go").exists():
    time.sleep(0.001)
try:
    with lease:
        print("taken", flush=True)
        time.sleep(3)
except LeaseError:
    print("refused")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the directory of a store."""
    return tmp_path / "störe one"


def make_lease(root: Path, title: str = "grid", *, beat_s: float = 0.05, stale_s: float = 60.0) -> Lease:
    return Lease(LocalFilesystem(root), "the store", title, beat_s=beat_s, stale_s=stale_s)


def list_leases(root: Path) -> list[str]:
    return LocalFilesystem(root).list(DIRECTORY)


def leave_lease(root: Path, holder: Holder, generation: int = 1) -> None:
    """Write a lease as a holder leaves it that has died."""
    LocalFilesystem(root).replace(f"{DIRECTORY}/{generation:06d}.json", holder.to_json())


def make_stranger() -> Holder:
    """Return a holder on a machine that cannot be seen from here."""
    return Holder(title="theirs", host="elsewhere", pid=4242, pid_space="another")


def find_ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_second_driver_is_refused_with_the_name_of_the_first(root: Path) -> None:
    with make_lease(root, "first"), pytest.raises(LeaseError) as error, make_lease(root, "second"):
        pass
    process = Process()
    for part in ("the store is in use: first, process", str(process.pid), process.host, "name another store"):
        assert part in str(error.value)


def test_refusal_says_for_how_long_by_the_clock_of_the_holder(root: Path) -> None:
    holder = dataclasses.replace(make_stranger(), held_s=7200.0)
    leave_lease(root, holder)
    sign_of_life = threading.Timer(0.5, leave_lease, [root, dataclasses.replace(holder, beats=1)])
    sign_of_life.start()
    with (
        pytest.raises(LeaseError, match=r"theirs, process 4242 on elsewhere, for 2\.0 h"),
        make_lease(root, stale_s=10),
    ):
        pass
    sign_of_life.join()


def test_released_lease_is_taken_at_once_and_generations_grow(root: Path) -> None:
    for generation in (1, 2, 3):
        with make_lease(root):
            assert list_leases(root) == [f"{generation:06d}.json"]
    assert list_leases(root) == ["000003.json"]


def test_lease_of_a_process_that_has_ended_here_is_taken_at_once(root: Path) -> None:
    leave_lease(root, Holder(title="killed", pid=find_ended_pid()), generation=7)
    start = time.monotonic()
    with make_lease(root):
        assert list_leases(root) == ["000008.json"]
    assert time.monotonic() - start < 30


def test_lease_from_before_a_reboot_is_not_told_by_its_process_number(root: Path) -> None:
    pid = find_ended_pid()
    assert Process(pid=pid).has_died
    assert not Process(pid=pid, pid_space=f"another-boot {process_space().partition(' ')[2]}").has_died
    assert not Process(pid=pid, host="elsewhere").has_died


@pytest.mark.slow
@pytest.mark.parametrize("content", [make_stranger().to_json(), b"", b"{", b"[1]", b'{"title": 1}', b"\xff"])
def test_lease_that_stands_still_is_taken_after_the_time_for_it_and_not_before(
    content: bytes, root: Path
) -> None:
    LocalFilesystem(root).replace(f"{DIRECTORY}/000001.json", content)
    start = time.monotonic()
    with make_lease(root, stale_s=0.5):
        assert time.monotonic() - start >= 0.5
        assert list_leases(root) == ["000002.json"]


def test_paused_driver_finds_that_its_lease_is_lost_and_leaves_the_new_one_alone(root: Path) -> None:
    with make_lease(root, "paused", beat_s=1e9) as paused:
        with make_lease(root, "next", stale_s=0.5) as other:
            paused.check()
            paused.beat()
            with pytest.raises(LeaseLostError, match="the store was taken over by another process"):
                paused.check()
            other.check()
            kept = (root / DIRECTORY / "000002.json").read_bytes()
        assert json.loads(kept)["title"] == "next"
    (name,) = list_leases(root)
    left = Holder.from_json((root / DIRECTORY / name).read_bytes())
    assert name == "000002.json" and left is not None and (left.title, left.is_released) == ("next", True)


def test_paused_driver_that_wakes_after_the_next_has_ended_gets_nothing_back(root: Path) -> None:
    with make_lease(root, "paused", beat_s=1e9) as paused:
        with make_lease(root, "next", stale_s=0.5):
            pass
        paused.beat()
        with pytest.raises(LeaseLostError):
            paused.check()


@pytest.mark.slow
def test_of_8_that_find_a_stale_lease_at_once_one_gets_it(root: Path) -> None:
    leave_lease(root, make_stranger())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_AT_ONCE, str(root), str(index)], stdout=subprocess.PIPE, text=True
        )
        for index in range(8)
    ]
    deadline = time.monotonic() + 60
    while len(list(root.parent.glob("ready-*"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    (root.parent / "go").touch()
    answers = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert answers == ["refused"] * 7 + ["taken"]


class FailingFilesystem(LocalFilesystem):
    """A place that can refuse every write, and counts them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fails, self.num_writes = False, 0

    def replace(self, path: str, content: bytes) -> None:
        self.num_writes += 1
        if self.fails:
            raise OSError("no answer")
        super().replace(path, content)

    def wait_for_writes(self, num_more: int) -> None:
        until, deadline = self.num_writes + num_more, time.monotonic() + 60
        while self.num_writes < until:
            assert time.monotonic() < deadline, "the holder gives no heartbeat"
            time.sleep(0.01)


def test_storage_that_fails_for_a_while_costs_no_lease(root: Path) -> None:
    def read() -> Holder:
        holder = Holder.from_json((root / DIRECTORY / "000001.json").read_bytes())
        assert holder is not None
        return holder

    files = FailingFilesystem(root)
    with Lease(files, "the store", "grid", beat_s=0.02) as lease:
        files.fails = True
        files.wait_for_writes(3)
        before = read()
        files.wait_for_writes(3)
        assert read() == before
        files.fails = False
        files.wait_for_writes(3)
        after = read()
        lease.check()
    assert after.beats > before.beats


class SilentFilesystem(LocalFilesystem):
    """A place that can stop to answer, as a bucket does."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.answers, self.is_asked = threading.Event(), threading.Event()
        self.answers.set()

    def replace(self, path: str, content: bytes) -> None:
        self.is_asked.set()
        self.answers.wait(20)
        super().replace(path, content)


@pytest.mark.parametrize("beat_s", [0.01, 1e9])
def test_lease_on_a_place_that_does_not_answer_is_left_as_it_is(
    root: Path, beat_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RELEASE_S", 0.2)
    files = SilentFilesystem(root)
    with Lease(files, "the store", "grid", beat_s=beat_s):
        files.answers.clear()
        files.is_asked.clear()
        if beat_s < 1:
            assert files.is_asked.wait(20)
        start = time.monotonic()
    assert time.monotonic() - start < 10
    left = Holder.from_json((root / DIRECTORY / "000001.json").read_bytes())
    assert left is not None and not left.is_released
    files.answers.set()


def test_second_interrupt_ends_the_wait_for_a_place_that_does_not_answer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(thread: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    try:
        with monkeypatch.context() as patch, make_lease(root):
            patch.setattr(threading.Thread, "join", interrupt)
    except KeyboardInterrupt:
        pytest.fail("it came out of the release of a lease")


def test_lease_of_the_living_is_kept_however_the_clocks_of_the_day_jump(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**9, 10**18, 10**8))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    with make_lease(root, "first") as first:
        with pytest.raises(LeaseError, match="first"), make_lease(root, "second", stale_s=10):
            pass
        first.check()
