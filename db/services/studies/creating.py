"""Create a study: what it searches is checked against the steps of its pipeline, and nothing is started yet."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert

from db.core import search_space
from db.core.audit import ref
from db.core.checks import Checks
from db.core.goal import Goal
from db.core.search_space import SearchParameter
from db.core.unique import translate_unique_violation
from db.core.work import Work
from db.errors import InvalidInput, Issue, NameTaken, invalid
from db.services import credits, idempotency, quota
from db.services.pipelines import definitions, running
from db.services.pipelines.editing import lock
from db.services.studies import architectures, budgets, halving
from db.services.studies.adding import KIND
from db.services.studies.budgets import BudgetChange
from db.services.studies.drawing import nested
from db.services.studies.objectives import check_objective, reported_metrics
from db.services.studies.scheduling import schedule_after_commit
from db.tables import Study
from db.tables.pipelines import StepType
from db.tables.studies import StudyKind, StudyMethod

OPERATION = "createStudy"
_AFTER_THE_TRAINING = {StepType.EXPLAIN, StepType.EXPORT}


@dataclass(frozen=True, slots=True)
class NewStudy:
    """A study to be created."""

    name: str
    kind: StudyKind
    method: StudyMethod
    pipeline_id: UUID
    dataset_version_id: UUID
    metric: str
    space: tuple[SearchParameter, ...]
    goal: Goal | None = None
    target: float | None = None
    experiment_id: UUID | None = None
    budget: BudgetChange = field(default_factory=BudgetChange)
    seed: int | None = None
    is_reproducible: bool = False
    idempotency_key: str | None = None


async def create(work: Work, new: NewStudy) -> UUID:
    """Create a study, whose first trials are made after the commit.

    Raises `NotFound`, `InvalidInput`, `NameTaken`, `WrongState`, `Conflict`, `QuotaExceeded` or `InsufficientCredits`.
    """
    work.viewer.require_write()
    request_input = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request_input)
    if stored_answer is not None:
        return UUID(stored_answer["study"])
    checks = Checks()
    name = checks.name(new.name, "name")
    if new.target is not None and not math.isfinite(new.target):
        checks.add("objective", "target", message="The target is no finite number. Give one, or leave it out.")
    budget = budgets.check(checks, budgets.Budget(), new.budget)
    pipeline = await lock(work, new.pipeline_id, to_run=True)
    steps = await definitions.load_steps(work)
    base = _without_ends(definitions.normalise(pipeline.definition), steps)
    _check_space(checks, new.space, base, steps)
    checks.raise_if_invalid()
    request = running.RunRequest(
        new.pipeline_id, new.dataset_version_id, experiment_id=new.experiment_id, parameters=_first_point(new.space) or None
    )
    prepared = await _prepare(work, request, new.space)
    training = prepared.training
    if training is None:
        raise invalid(
            "pipelineId", message="This pipeline trains nothing, so there is nothing to compare. Choose one with a training node."
        )
    goal = check_objective(checks, new.metric, new.goal, reported_metrics(base, steps, training, new.space))
    if new.kind is StudyKind.NAS:
        architectures.check(checks, new.method, budget, training, new.space, is_reproducible=new.is_reproducible)
    budget, base = halving.apply(checks, new.method, budget, base, training, new.space, new.metric)
    total = _trials_total(checks, new, budget)
    checks.raise_if_invalid()
    owner_id = pipeline.owner_id
    await _require_means(work, owner_id)
    seed = secrets.randbelow(2**31) if new.seed is None else new.seed
    values = {
        "name": name,
        "kind": new.kind,
        "method": new.method,
        "metric": new.metric,
        "goal": goal,
        "target": new.target,
        "space": [parameter.to_json() for parameter in new.space],
        "seed": seed,
        "is_reproducible": new.is_reproducible,
        **asdict(budget),
    }
    references = {
        "experiment_id": await running.experiment_id(work, request, owner_id),
        "pipeline_id": pipeline.id,
        "dataset_version_id": prepared.version.id,
        "snapshot_id": await running.ensure_snapshot(work, pipeline.id, owner_id, base),
    }
    insertion = insert(Study).values(
        owner_id=owner_id,
        created_by_id=work.viewer.maker_id,
        input_version_ids=prepared.inputs,
        extras=prepared.extras,
        trials_total=total,
        **values,
        **references,
    )
    with translate_unique_violation("uq_studies_owner_id_name", NameTaken("study", name)):
        study_id: UUID = await work.scalar(insertion.returning(Study.id))
    await idempotency.remember(work, new.idempotency_key, {"study": str(study_id)})
    recorded = {"pipeline": ref("pipeline", pipeline.id), "dataset_version": ref("version", prepared.version.id)}
    work.record("create_study", "study", study_id, owner_id, after=values | recorded)
    schedule_after_commit(work, study_id)
    return study_id


def _first_point(space: Sequence[SearchParameter]) -> dict[str, Any]:
    """A point of the space, with which the pipeline is checked as a run of it would be."""
    return nested({parameter.key: parameter.examples[0] for parameter in space if parameter.examples})


async def _prepare(work: Work, request: running.RunRequest, space: Sequence[SearchParameter]) -> running.Prepared:
    """`running.prepare`, with what is wrong with the point told at the parameter of the space."""
    places = {(parameter.node, parameter.name): ("space", str(index)) for index, parameter in reversed(list(enumerate(space)))}
    nodes = {parameter.node: ("space", str(index), "node") for index, parameter in reversed(list(enumerate(space)))}
    try:
        return await running.prepare(work, request)
    except InvalidInput as error:
        located: list[Issue] = []
        for issue in error.issues:
            match issue.path:
                case ("parameters", node, name, *_) if (node, name) in places:
                    located.append(Issue(places[node, name], issue.message))
                case ("parameters", node, *_) if node in nodes:
                    located.append(Issue(nodes[node], issue.message))
                case ("definition", *_):
                    located.append(Issue(("pipelineId",), issue.message))
                case _:
                    located.append(issue)
        raise InvalidInput(located) from error


def _without_ends(definition: definitions.Definition, steps: definitions.Steps) -> definitions.Definition:
    """The definition without the nodes that explain or export the model: a trial's is not registered."""
    removed = {node["key"] for node in definition["nodes"] if node["step"] in steps and steps[node["step"]].type in _AFTER_THE_TRAINING}
    return {
        "nodes": [node for node in definition["nodes"] if node["key"] not in removed],
        "links": [link for link in definition["links"] if not removed & {link["source"], link["target"]}],
    }


def _check_space(checks: Checks, space: Sequence[SearchParameter], definition: definitions.Definition, steps: definitions.Steps) -> None:
    nodes = {node["key"]: node for node in definition["nodes"]}
    known = {
        key: [name for name, schema in steps[node["step"]].parameter_schema.get("properties", {}).items() if not schema.get("x-version")]
        for key, node in nodes.items()
        if node["step"] in steps
    }

    def accepts(key: str, name: str, value: Any) -> str | None:
        node = nodes[key]
        issues = definitions.parameter_issues(steps[node["step"]], {**node["parameters"], name: value})
        return next((issue.message for issue in issues if issue.path[:1] == (name,)), None)

    search_space.check(checks, space, known, accepts)


def _trials_total(checks: Checks, new: NewStudy, budget: budgets.Budget) -> int:
    """How many trials there will be: all points of a grid, or as many as the budget has."""
    if new.method is not StudyMethod.GRID:
        return budget.max_trials
    endless = next((index for index, parameter in enumerate(new.space) if not math.isfinite(parameter.count)), None)
    if endless is not None:
        message = f"{new.space[endless].key} has no step, so a grid of it has no end. Give it a step, or use the method RANDOM."
        checks.add("space", endless, "step", message=message)
        return budget.max_trials
    size = int(search_space.grid_size(new.space))
    if size > budget.max_trials:
        message = (
            f"The grid has {size:,} points, and the budget {budget.max_trials:,} trials. Raise it, use larger steps, or the method RANDOM."
        )
        checks.add("budget", "maxTrials", message=message)
    return min(size, budget.max_trials)


async def _require_means(work: Work, owner_id: UUID) -> None:
    """Refuse a study of an account that could not keep anything, or not pay for a first trial."""
    use: Row[Any] = await work.one(quota.USE, {"p_owner_id": owner_id})
    quota.require_space(use.used_bytes, use.quota_bytes)
    await credits.require(work, use.payer_id, credits.price(KIND))
