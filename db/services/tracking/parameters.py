"""Log hyperparameters of an external run: each is written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import bindparam, update
from sqlalchemy.dialects.postgresql import JSONB

from db.core.checks import Checks
from db.core.work import Work
from db.services.tracking.runs import PARAMETERS_BYTES, heartbeat, lock
from db.tables import Run

NAME_LENGTH = 250


async def log(work: Work, run_id: UUID, parameters: Mapping[str, Any]) -> UUID:
    """Add hyperparameters, all of them or none. One that the run has with the same value stays; with another one it is an issue at its name.

    Raises `InvalidInput`, `NotFound`, or `WrongState` for the run of a job.
    """
    run = await lock(work, run_id)
    checks = Checks()
    given = checks.document(parameters, "parameters", size=PARAMETERS_BYTES)
    for name, value in given.items():
        if not name.strip() or len(name) > NAME_LENGTH:
            checks.add("parameters", name[:NAME_LENGTH], message=f"The name of a parameter has 1 to {NAME_LENGTH} characters.")
        elif name in run.hyperparameters and not _is_same(run.hyperparameters[name], value):
            checks.add(
                "parameters",
                name,
                message=f"It was logged as {_shown(run.hyperparameters[name])} before; a parameter keeps its value. Use another name, or another run.",
            )
    checks.raise_if_invalid()
    added = {name: value for name, value in given.items() if name not in run.hyperparameters}
    changes = heartbeat()
    if not added:  # a sign of life is no change of the run
        changes["last_batch"] = Run.last_batch + 1
    else:
        checks.document({**run.hyperparameters, **added}, "parameters", size=PARAMETERS_BYTES)
        checks.raise_if_invalid()
        changes["hyperparameters"] = Run.hyperparameters.op("||")(bindparam("p_added", added, type_=JSONB))
        work.record("log_parameters", "run", run_id, run.owner_id, after={"hyperparameters": added})
    await work.run(update(Run).where(Run.id == run_id).values(changes))
    return run_id


def _is_same(stored: Any, given: Any) -> bool:
    """Whether two JSON values are equal; 1 and 1.0 are, 1 and true are not."""
    if isinstance(stored, int | float) and isinstance(given, int | float) and not isinstance(stored, bool) and not isinstance(given, bool):
        return stored == given
    return orjson.dumps(stored, option=orjson.OPT_SORT_KEYS) == orjson.dumps(given, option=orjson.OPT_SORT_KEYS)


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 100 else f"{text[:100]}…"
