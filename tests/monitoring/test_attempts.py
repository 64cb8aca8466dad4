"""Attempts at a stage are counted from its log, by the words that the log is written in."""

from lt_rebalance.monitoring.stage_log import Attempts, read_attempts, say_begin, say_round


def write(*said: str, title: str = "seed 1") -> str:
    return "".join(f"time INFO module: {title}: {each}\n" for each in said)


def test_resumed_attempts_save_what_had_been_trained_and_repeat_whole_rounds_that_were_lost() -> None:
    rounds = [say_round(number, 3, 10.0 * number) for number in (1, 2, 3)]
    log = write(say_begin(0, 3), rounds[0], rounds[1])
    log += write(say_begin(1, 3), rounds[1])  # the checkpoint of the second round was of no use
    log += write(say_begin(2, 3), f"{rounds[2]}: train_loss 0.1")
    assert read_attempts(log, "seed 1") == Attempts(
        num_begun=1, num_resumed=2, resumed_s=30.0, repeated_s=10.0
    )


def test_attempt_after_the_end_and_one_from_the_first_round_on_are_told() -> None:
    log = write(say_begin(0, 1), say_round(1, 1, 5.0), say_begin(0, 1), say_round(1, 1, 6.0))
    assert read_attempts(log, "seed 1") == Attempts(num_begun=2, num_again=1, repeated_s=5.0)


def test_other_lanes_and_other_lines_count_for_nothing() -> None:
    log = (
        write(say_begin(0, 1), title="seed 10")
        + write("diverged at step 3", "begins well")
        + "\nseed 1: begins"
    )
    assert read_attempts(log, "seed 1") == Attempts()
