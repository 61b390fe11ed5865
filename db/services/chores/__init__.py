"""What recurs without anybody asking: sweeps, removals, recounts. One worker at a time does each; `run_chore` does one now."""

from db.services.chores.registry import CHORES, Chore, ChoreFailed, Ground
from db.services.chores.rows import PARTITIONS_AHEAD
from db.services.chores.running import Ran, run_chore, run_if_due, waits

__all__ = ["CHORES", "PARTITIONS_AHEAD", "Chore", "ChoreFailed", "Ground", "Ran", "run_chore", "run_if_due", "waits"]
