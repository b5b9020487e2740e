"""Arrow without its stubs, which know fewer signatures than the library has.

Belongs here: the names under which this package uses Arrow. Does not belong here: anything that
computes.
"""

from __future__ import annotations

from typing import Any

import pyarrow
import pyarrow.compute

pa: Any = pyarrow
pc: Any = pyarrow.compute

Column = Any
"""An Arrow array."""

Table = Any
"""An Arrow table."""
