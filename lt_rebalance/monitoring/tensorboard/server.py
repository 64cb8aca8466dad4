"""The command that starts TensorBoard on a study, by default for this machine only."""

import sys

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 6006
SHOWN_IMAGES = 100
"""steps of an image that the server keeps; by default it would draw ten at random"""


def server_command(logdir: str, *, host: str, port: int, reload_s: int) -> list[str]:
    """Return the command that starts TensorBoard.

    Args:
        logdir: directory of a study's events.
        host: address to listen at; anyone who can reach it can read everything, without a password.
        port: 0 uses any free port.
        reload_s: seconds between looks at the files.
    """
    options = {
        "logdir": logdir,
        "host": host,
        "port": port,
        "reload_interval": reload_s,
        # An earlier attempt's file may still grow after a later one exists.
        "reload_multifile": "true",
        "samples_per_plugin": f"images={SHOWN_IMAGES}",
        "window_title": "lt_rebalance",
    }
    return [
        sys.executable,
        "-m",
        "tensorboard.main",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
