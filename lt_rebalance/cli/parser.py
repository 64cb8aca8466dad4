"""The arguments of every command; the commands' own modules are not imported."""

import argparse

from lt_rebalance.commands.own_images import add_own_images, add_upload
from lt_rebalance.commands.shared_options import add_address, add_data_dir, add_resources
from lt_rebalance.ground.exits import Parser
from lt_rebalance.ground.option_types import finite, place, price, whole
from lt_rebalance.monitoring.tensorboard.server import DEFAULT_PORT, LOOPBACK

DEFAULT_STORE = "results"
SHORTEST_PREFIX = 4
FRAMES = ("runs", "rounds", "classes", "generators", "generator_rounds", "generator_classes")
EXAMPLES = """\
examples:
  lt-rebalance plan sweeps/full_grid.py --preset paper
  lt-rebalance status results --watch
  lt-rebalance show results                           all stages, with their keys
  lt-rebalance show 3f2a                              one stage, by the first letters of its key
  lt-rebalance verify 3f2a --storage results
  lt-rebalance tensorboard results
  lt-rebalance export results --out runs.parquet
  lt-rebalance export results --to mlflow --out http://127.0.0.1:5000
  lt-rebalance publish studies/pilot --storage results
  lt-rebalance data path/to/pictures --image-size 32  images of your own, before a sweep
  source <(lt-rebalance completion bash)

A sweep starts with python sweeps/full_grid.py, and the same command resumes it. A report:
python -m analysis results, whose tables are LaTeX too; with --paper, a paper's.

exit codes: 0 done; 1 failed: verify found a difference, retry left failures, or an error
ended the work; 2 refused: wrong input, or a store that cannot be used; 130 Ctrl-C; 143 SIGTERM"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; `options.command` is the name of a module of this package."""
    parser = Parser(
        prog="lt-rebalance",
        description="Inspect sweeps, check them, and clean up after them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_plan(commands)
    _add_status(commands)
    _add_show(commands)
    _add_verify(commands)
    _add_retry(commands)
    _add_gc(commands)
    _add_export(commands)
    _add_tensorboard(commands)
    _add_publish(commands)
    _add_data(commands)
    _add_completion(commands)
    return parser


def _add_plan(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]  # not subscriptable
    parser = _add(
        commands,
        "plan",
        "stages, finished work, device-hours, time left, price",
        usage="lt-rebalance plan SWEEP.py [ITS OPTIONS] [--rate PRICE] [--json]\n"
        "       lt-rebalance plan STORE [--study NAME ...] [--rate PRICE] [--json]",
    )
    of_store = make_store_plan_parser(has_help=False).format_help().partition("options:")[2]
    parser.epilog = f"options of a store:{of_store}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "what", type=place, metavar="SWEEP.py | STORE", help="a sweep, with its own options, or a store"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def make_store_plan_parser(*, has_help: bool = True) -> argparse.ArgumentParser:
    """Return the parser of the arguments after the store of the command `plan`."""
    parser = Parser(prog="lt-rebalance plan STORE", add_help=has_help, allow_abbrev=False)
    _add_studies(parser)
    _add_rate(parser)
    _add_json(parser)
    return parser


def _add_status(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(
        commands,
        "status",
        "finished, running (where, since when) and failed (why) runs, stragglers, time left",
    )
    _add_store(parser)
    _add_studies(parser)
    parser.add_argument(
        "--watch", action="store_true", help="update it until Ctrl-C, or until nothing is left to run"
    )
    parser.add_argument(
        "--every", type=finite, metavar="SECONDS", help="with --watch: how often (default: 5)"
    )
    _add_rate(parser)
    _add_json(parser)


def _add_show(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(
        commands, "show", "one stage: its record or why it failed, its classes, its log; of a store, all keys"
    )
    _add_record(parser)
    parser.usage = (
        "%(prog)s [--storage STORE] [--log] [--json] [STORE] RECORD\n       %(prog)s STORE [--json]"
    )
    parser.add_argument("--log", action="store_true", help="print its log and nothing else")
    _add_json(parser)


def _add_verify(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(
        commands, "verify", "run a finished stage again in a temporary store and compare, bit by bit"
    )
    _add_record(parser)
    add_data_dir(parser)
    _add_own_file(parser)
    _add_dataset(parser)
    _add_json(parser)


def _add_retry(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(commands, "retry", "rerun failed runs")
    _add_store(parser)
    parser.usage = "%(prog)s [STORE] --failed [options]"
    parser.add_argument(
        "--failed", action="store_true", required=True, help="required: says that failed runs are meant"
    )
    parser.add_argument("--study", metavar="NAME", help="the study (needed where there are several)")
    add_data_dir(parser)
    _add_own_file(parser)
    _add_dataset(parser)
    add_upload(parser)
    add_address(parser)
    add_resources(parser)
    parser.add_argument("--dry-run", action="store_true", help="list them, run nothing")
    _add_json(parser)


def _add_gc(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(
        commands,
        "gc",
        "delete files that no result needs: checkpoints of finished stages, leftovers of writes",
    )
    _add_store(parser)
    parser.add_argument(
        "--orphans",
        action="store_true",
        help="also delete the results, events and logs of stages that nothing in the store owns",
    )
    parser.add_argument("--dry-run", action="store_true", help="list them, delete nothing")
    _add_json(parser)


def _add_export(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(
        commands, "export", "tidy frames as CSV or parquet, or finished runs to MLflow or Weights & Biases"
    )
    _add_store(parser)
    _add_studies(parser)
    parser.add_argument(
        "--to",
        choices=("csv", "parquet", "mlflow", "wandb-offline"),
        help="what to make (default: a file as --out ends, else CSV); mlflow and wandb-offline take each "
        "finished run once, however often they are asked, and need the extra of that name",
    )
    parser.add_argument(
        "--frame", choices=FRAMES, help="which frame (default: runs, or all of them into a folder)"
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        default=[],
        choices=("duplicates", "versions"),
        help="what is mixed. duplicates: results of one cell and seed from several devices, precisions, "
        "numbers of threads or versions of torch, each shown as a cell of its own; versions: results of "
        "several versions of the code",
    )
    parser.add_argument(
        "--out",
        type=place,
        metavar="PLACE",
        help="a name that ends in .csv or .parquet (default: CSV to the terminal); with --to csv, parquet or "
        "wandb-offline also a folder; with --to mlflow a server, http://HOST:PORT, or sqlite:///FILE "
        "(default: the variable MLFLOW_TRACKING_URI)",
    )
    _add_json(parser)


def _add_tensorboard(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(commands, "tensorboard", "update the events and start TensorBoard, on this machine only")
    _add_store(parser)
    parser.add_argument("--study", metavar="NAME", help="the study (needed where there are several)")
    parser.add_argument("--port", type=whole, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}; 0: any")
    parser.add_argument("--host", default=LOOPBACK, help=f"address to listen at (default: {LOOPBACK})")
    parser.add_argument(
        "--listen-publicly",
        action="store_true",
        help="allow another --host: anyone who reaches it can read everything",
    )
    parser.add_argument("--no-server", action="store_true", help="update the events only")
    _add_json(parser)


def _add_publish(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(commands, "publish", "write a finished study to its folder, with records, report and costs")
    parser.add_argument(
        "folder", type=place, metavar="studies/NAME", help="contains the plan.toml of study NAME"
    )
    parser.add_argument(
        "--storage", type=place, metavar="STORE", help=f"store of its results (default: {DEFAULT_STORE})"
    )
    parser.add_argument("--partial", action="store_true", help="publish despite missing runs or seeds")
    _add_dataset(parser)
    _add_json(parser)


def _add_data(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(commands, "data", "a set of images: classes, sizes, samples, and faults")
    parser.add_argument(
        "what",
        type=place,
        metavar="PATH | NAME",
        help=(
            "a folder of pictures (train/CLASS/*.png, test/CLASS/*.png), an npz in MedMNIST's format, or a "
            "set of the catalogue"
        ),
    )
    add_own_images(parser)
    parser.add_argument("--samples", type=place, metavar="FILE.png", help="draw some images of each class")
    add_data_dir(parser)
    _add_json(parser)


def _add_completion(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    parser = _add(commands, "completion", "print a completion script for a shell")
    parser.add_argument("shell", choices=("bash", "zsh"))


def _add(
    commands: argparse._SubParsersAction,  # type: ignore[type-arg]
    name: str,
    summary: str,
    usage: str | None = None,
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        usage=usage,
        allow_abbrev=False,
    )
    return added


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [STORE] [options]"  # an option with several values would take a STORE after it
    parser.add_argument(
        "store",
        type=place,
        nargs="?",
        default=DEFAULT_STORE,
        metavar="STORE",
        help=f"a directory or s3://BUCKET/PREFIX (default: {DEFAULT_STORE})",
    )


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [STORE] RECORD [options]"
    parser.add_argument(
        "store", type=place, nargs="?", metavar="STORE", help="the store, or the folder of a published study"
    )
    parser.add_argument(
        "record",
        type=place,
        metavar="RECORD",
        help=f"at least {SHORTEST_PREFIX} first letters of the key of a stage, or the path of its directory",
    )
    parser.add_argument(
        "--storage", type=place, metavar="STORE", help=f"the same as STORE (default: {DEFAULT_STORE})"
    )


def _add_studies(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", nargs="+", default=[], metavar="NAME", help="these studies (default: all)")


def _add_rate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=price, metavar="PRICE", help="price of a device-hour, to show prices")


def _add_own_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--own-file",
        type=place,
        nargs="+",
        metavar="FILE",
        help="files of your own that the stages were run with; no code is loaded from the store",
    )


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        type=place,
        metavar="PATH",
        help="images of your own that the stages learned from, with the options of their sweep but --flip:",
    )
    add_own_images(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer in JSON")
