"""Take the lt_rebalance that lies beside this package, whatever else of that name stands earlier on the path.

`python -m analysis` puts the current directory first, which may hold another one.
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
