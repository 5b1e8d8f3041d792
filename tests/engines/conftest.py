"""Lets the tests of the engine, and the processes that they start, import the toy experiment."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
