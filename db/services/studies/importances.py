"""How much each parameter of a study matters: ranked by the bodies of its trials now and then, and stored with the study."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.dialects.postgresql import JSONB

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.tables import Study, Trial
from db.tables.studies import TrialStatus

MIN_TRIALS = 10
"""The best tenth is compared with all; of fewer trials it would be less than one."""
GROWTH = 1.5
"""Ranked again when so many times as many trials have completed: of a thousand trials, a dozen rank."""


async def is_due(database: Database, trial: Row[Any]) -> bool:
    """Whether this trial ranks the parameters when its training is done. The last ones, which may end in any order, all do."""
    statement = select(Study.trials_completed, Study.importances_of).where(Study.id == trial.study_id)
    (study,) = await database.rows(statement)
    completed = study.trials_completed + 1
    is_last = trial.number > trial.trials_total - trial.max_parallel
    return completed >= MIN_TRIALS and (is_last or completed >= GROWTH * study.importances_of)


async def ranking_spec(database: Database, trial: Row[Any], value: float) -> dict[str, Any]:
    """What a body ranks: the trials that have completed, and this one with its `value`."""
    statement = select(Trial.number, Trial.parameters, Trial.value).where(
        Trial.study_id == trial.study_id, Trial.status == TrialStatus.COMPLETED, Trial.id != trial.id
    )
    rows = [(row.number, row.parameters, row.value) for row in await database.rows(statement.order_by(Trial.number))]
    own = await database.rows(select(Trial.number, Trial.parameters).where(Trial.id == trial.id))
    rows += [(row.number, row.parameters, value) for row in own]
    trials: list[dict[str, Any]] = [
        {"number": number, "status": "completed", "parameters": parameters, "value": each, "points": {}}
        for number, parameters, each in rows
    ]
    return {"space": trial.space, "trials": trials, "goal": trial.goal.value}


async def store(database: Database, trial: Row[Any], importances: list[dict[str, Any]], count: int) -> None:
    """Store what was found of `count` trials, unless somebody has ranked more meanwhile."""
    statement = update(Study).where(Study.id == trial.study_id, Study.importances_of < count)
    values = {"importances": bindparam("p_importances", type_=JSONB), "importances_of": count}
    async with database.work(SYSTEM) as work:
        await work.run(statement.values(values), {"p_importances": importances})
