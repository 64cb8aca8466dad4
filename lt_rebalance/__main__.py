"""`python -m lt_rebalance`: the same as the command `lt-rebalance`."""

import sys

from lt_rebalance.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
