"""Options that sweeps and commands on stores share: data, cluster, and the resources of a trial."""

import argparse

from lt_rebalance.data.spec import DATA_DIR_VARIABLE
from lt_rebalance.ground.option_types import finite, place, whole


def add_data_dir(group: argparse._ActionsContainer) -> None:
    """Add the option that names the directory of data sets."""
    group.add_argument(
        "--data-dir",
        type=place,
        metavar="DIR",
        help=f"directory with FashionMNIST/raw and others (default: the variable {DATA_DIR_VARIABLE}, "
        "else data)",
    )


def add_address(group: argparse._ActionsContainer) -> None:
    """Add the option that names a cluster."""
    group.add_argument(
        "--address", help='a running Ray cluster, "auto" on its head (default: start Ray on this machine)'
    )


def add_resources(group: argparse._ActionsContainer) -> None:
    """Add the options for what one trial gets, and how many run at a time."""
    group.add_argument(
        "--gpus-per-trial", type=finite, metavar="X", help="share of a GPU for one trial (default: 1)"
    )
    group.add_argument(
        "--lanes",
        type=whole,
        metavar="N",
        help="maximum number of seeds per trial, trained as one program (default: 64 on a GPU, 1 on a CPU)",
    )
    group.add_argument(
        "--max-concurrent",
        type=whole,
        metavar="N",
        help="concurrent trials (default: as many as fit the cluster)",
    )
