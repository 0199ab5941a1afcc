"""What becomes of a table's rows in code that nobody runs: which side of a split they are on, what was learnt of them.

`interpret` walks statements in the order of execution with stand-ins for values (`Value`) and notes what matters for
an honest measurement (`Events`): splits, fits, metrics, choices made by a metric.
"""

from __future__ import annotations

from trilho.adopt.doctor.flow.events import Events
from trilho.adopt.doctor.flow.interpreter import interpret

__all__ = ["Events", "interpret"]
