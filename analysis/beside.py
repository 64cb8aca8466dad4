"""Import the lt_rebalance next to this package, even if the path has another one first.

`python -m analysis` puts the current directory first, and it may contain another lt_rebalance.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if "lt_rebalance" not in sys.modules:
    sys.path.insert(0, str(ROOT))
    try:
        importlib.import_module("lt_rebalance")
    finally:
        sys.path.remove(str(ROOT))
