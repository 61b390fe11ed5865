"""Exports of lists: the rows under a filter, in an order, as a table that a job writes with the rights of who asked for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select

from db.core.audit import ref
from db.core.checks import Checks
from db.core.viewer import ApiScope, Viewer
from db.core.work import Database, Work
from db.errors import NotFound
from db.queries import accounts
from db.queries.list_exports import LISTS, ListPlan, parent_row
from db.services import export_options, exports, idempotency, jobs
from db.tables import Export
from db.tables.exports import ExportFormat, ExportTarget
from db.tables.jobs import JobKind

OPERATION = "exportTable"
FORMATS = (ExportFormat.CSV, ExportFormat.JSON, ExportFormat.JSONL, ExportFormat.PARQUET)
DOCUMENT_BYTES = 16_384  # of a filter or an order

EXPORT_LIST = jobs.declare(
    jobs.JobKindSpec(JobKind.EXPORT_LIST, title="list export", queue="default", outputs=(Export,), on_retry=exports.follow_retry)
)


@dataclass(frozen=True, slots=True)
class NewListExport:
    """Which rows of which list to export, and how. `filter`, `order_by` and `options` are the JSON objects of the client.

    `columns` are names, None for all; `parent_id` is the row that the list is under.
    """

    target: ExportTarget
    format: ExportFormat
    parent_id: UUID | None = None
    filter: Any = None
    order_by: Any = None
    columns: Sequence[str] | None = None
    options: Any = None
    idempotency_key: str | None = None


MakePlan = Callable[[NewListExport, Checks], ListPlan | None]
"""What the list takes of filter, order and columns, as a plan; None if there are issues."""


async def create(work: Work, new: NewListExport, make_plan: MakePlan) -> tuple[UUID, UUID]:
    """Submit the job of an export of a list; return the ids of export and job. The export is its maker's, whoever owns the rows.

    Raises `Forbidden`, `InvalidInput`, `NotFound`, `Conflict` or `QuotaExceeded`; the end of the unit of work `InsufficientCredits`.
    """
    viewer = work.viewer
    viewer.require_write()
    for scope in (ApiScope.READ, LISTS[new.target].scope):
        viewer.require_scope(scope, f"{OPERATION} of {new.target.name}")
    request = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request)
    if stored_answer is not None:
        return UUID(stored_answer["export"]), UUID(stored_answer["job"])
    plan, options = _checked(new, make_plan)
    if new.parent_id is not None and await work.first(parent_row(new.target, viewer, new.parent_id)) is None:
        raise NotFound(str(new.parent_id))
    plan = replace(plan, key_id=None if viewer.is_session else viewer.key_id)
    export_id: UUID = await work.scalar(select(func.uuidv7()))
    parameters = {"exportId": str(export_id), "target": new.target.name, "format": new.format.name, "options": options}
    kind = EXPORT_LIST.kind
    job = await jobs.submit(
        work,
        jobs.NewJob(owner_id=viewer.id, kind=kind, queue=jobs.queue_for(kind, None), parameters=parameters, requires_space=True),
    )
    told = {
        "target": new.target,
        "list_parent_id": new.parent_id,
        "filter": new.filter or None,
        "order_by": new.order_by or None,
        "columns": [column.name for column in plan.columns],
        "format": new.format,
        "options": options,
    }
    values = {"id": export_id, "owner_id": viewer.id, "created_by_id": viewer.maker_id, "job_id": job.id, "plan": plan.to_json()}
    await work.run(insert(Export).values(**values, **told))
    await idempotency.remember(work, new.idempotency_key, {"export": str(export_id), "job": str(job.id)})
    work.record("export_table", "export", export_id, viewer.id, after={**_without_nulls(told), "job": ref("job", job.id)})
    return export_id, job.id


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _checked(new: NewListExport, make_plan: MakePlan) -> tuple[ListPlan, dict[str, Any]]:
    """Return the plan and the options with their defaults. Raises `InvalidInput` with all issues."""
    checks = Checks()
    parent = LISTS[new.target].parent
    if parent is None and new.parent_id is not None:
        checks.add("parentId", message=f"The list {new.target.name} is under nothing: leave this out, and narrow it by `filter`.")
    if parent is not None and new.parent_id is None:
        checks.add("parentId", message=f"Name what the list {new.target.name} is under, as `{parent.prefix}_…`.")
    checks.document(new.filter, "filter", size=DOCUMENT_BYTES)
    checks.document(new.order_by, "orderBy", size=DOCUMENT_BYTES)
    plan = None if checks.issues else make_plan(new, checks)
    options: dict[str, Any] = {}
    given: Any = new.options
    if new.format not in FORMATS:
        checks.add(
            "format", message=f"A list is exported as {', '.join(each.name for each in FORMATS)}; {new.format.name} is for versions."
        )
    elif isinstance(given, dict) and "columns" in given:
        checks.add("options", "columns", message="Name the columns as `columns` of the input.")
    else:
        options = export_options.validated(new.format, given, export_options.Source(None), checks)
    checks.raise_if_invalid()
    assert plan is not None
    return plan, options


class RightsLost(Exception):
    """Who asked for an export may not see any more what they saw when its job began. The message is for them."""


class MakerRights:
    """The rights of who asked for an export, which are read again for each page: what they lose ends it."""

    def __init__(self, database: Database, maker_id: UUID | None, key_id: UUID | None, scope: ApiScope, viewer: Viewer) -> None:
        self._database, self._maker_id, self._key_id, self._scope = database, maker_id, key_id, scope
        self.viewer = viewer

    @classmethod
    async def of(cls, database: Database, maker_id: UUID | None, key_id: UUID | None, scope: ApiScope = ApiScope.READ) -> MakerRights:
        """`scope` is what reading the list takes. Raises `RightsLost` for who may not export it any more."""
        return cls(database, maker_id, key_id, scope, await _current(database, maker_id, key_id, scope))

    async def check(self) -> Viewer:
        """Return the viewer of the first page, with rights that they still have. Raises `RightsLost`."""
        current, before = await _current(self._database, self._maker_id, self._key_id, self._scope), self.viewer
        if (before.sees_all and not current.sees_all) or not set(before.accounts) <= set(current.accounts):
            raise RightsLost(
                "You may not see all any more that you saw when this export began, so it was ended and nothing of it was kept."
                " Retry it to export what you see now."
            )
        return before


async def _current(database: Database, maker_id: UUID | None, key_id: UUID | None, scope: ApiScope) -> Viewer:
    viewer = await accounts.viewer_with(database, maker_id, key_id)
    if viewer is None or not {ApiScope.READ, ApiScope.RUN, scope} <= viewer.scopes:
        how = "The account" if key_id is None else "The account or the API key"
        raise RightsLost(
            f"{how} that asked for this export may not read this list and run jobs any more. Make the export again with one that may."
        )
    return viewer
