"""The lists that can be exported, and how their rows are read: page by page, each with the rights that the maker of the export has then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, cast
from uuid import UUID

import orjson
from sqlalchemy import Row, select
from sqlalchemy.exc import DBAPIError

from db.core.criteria import Criteria
from db.core.database_errors import is_transient
from db.core.listing import Listing
from db.core.page import Slice
from db.core.policy import visible
from db.core.prepared import Record, RecordColumn
from db.core.record_page import PageParts
from db.core.sql import Column, Rows, equals_any
from db.core.viewer import ApiScope, Viewer
from db.core.work import Database
from db.queries import (
    accounts,
    api_keys,
    artifacts,
    audit,
    billing,
    datasets,
    experiments,
    explanations,
    exports,
    items,
    jobevents,
    jobs,
    leaderboard,
    models,
    notifications,
    pipelines,
    proposals,
    runs,
    sign_ins,
    studies,
    tags,
    usage,
    versions,
    webhooks,
)
from db.queries.stored_criteria import from_json, to_json
from db.tables import ApiKey, Dataset, DatasetVersion, Export, Job, Model, ModelVersion, Run, RunMetric, Study, User, WebhookEndpoint
from db.tables.datasets import ColumnType
from db.tables.exports import ExportTarget

PAGE_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class ListParent:
    """What a list is under: the prefix of its ids, the rows that lookups by id find, and their key."""

    prefix: str
    rows: Callable[[Viewer], Rows]
    key: Column


@dataclass(frozen=True, slots=True)
class ExportedList:
    """A list as the API serves it, what it is under, None for the list of all rows that a viewer sees, and the scope that reading it takes."""

    listing: Listing
    parent: ListParent | None = None
    scope: ApiScope = ApiScope.READ


_DATASET = ListParent("dataset", datasets.datasets, Dataset.id)
_VERSION = ListParent("version", versions.versions, DatasetVersion.id)
_MODEL = ListParent("model", models.models, Model.id)
_MODEL_VERSION = ListParent("mversion", models.live_versions, ModelVersion.id)
_STUDY = ListParent("study", studies.studies, Study.id)
_RUN = ListParent("run", runs.runs, Run.id)
_JOB = ListParent("job", jobs.jobs, Job.id)
_USER = ListParent("user", accounts.live, User.id)
_API_KEY = ListParent("apikey", api_keys.api_keys, ApiKey.id)
_WEBHOOK = ListParent("webhook", webhooks.endpoints, WebhookEndpoint.id)
LISTS: Mapping[ExportTarget, ExportedList] = {
    ExportTarget.DATASETS: ExportedList(datasets.listing),
    ExportTarget.DATASET_VERSIONS: ExportedList(versions.of_dataset, _DATASET),
    ExportTarget.DATASET_ITEMS: ExportedList(items.of_version, _VERSION),
    ExportTarget.PIPELINES: ExportedList(pipelines.listing),
    ExportTarget.JOBS: ExportedList(jobs.listing),
    ExportTarget.EXPERIMENTS: ExportedList(experiments.listing),
    ExportTarget.RUNS: ExportedList(leaderboard.listing),
    ExportTarget.MODELS: ExportedList(models.listing),
    ExportTarget.MODEL_VERSIONS: ExportedList(models.of_model, _MODEL),
    ExportTarget.STUDIES: ExportedList(studies.listing),
    ExportTarget.TRIALS: ExportedList(studies.trials_of_study, _STUDY),
    ExportTarget.USERS: ExportedList(accounts.listing, scope=ApiScope.ACCOUNT),
    ExportTarget.TAGS: ExportedList(tags.listing),
    ExportTarget.EXPORTS: ExportedList(exports.listing),
    ExportTarget.EXPLANATIONS: ExportedList(explanations.of_model_version, _MODEL_VERSION),
    ExportTarget.SCHEMA_PROPOSALS: ExportedList(proposals.of_version, _VERSION),
    ExportTarget.ALIAS_EVENTS: ExportedList(models.alias_history, _MODEL),
    ExportTarget.ARTIFACTS: ExportedList(artifacts.of_run, _RUN),
    ExportTarget.JOB_EVENTS: ExportedList(jobevents.of_job, _JOB),
    ExportTarget.NOTIFICATIONS: ExportedList(notifications.listing),
    ExportTarget.CREDIT_TRANSACTIONS: ExportedList(billing.transactions_listing, scope=ApiScope.BILLING),
    ExportTarget.AUDIT_EVENTS: ExportedList(audit.listing, scope=ApiScope.ACCOUNT),
    ExportTarget.LOGIN_EVENTS: ExportedList(sign_ins.login_events_of_user, _USER, ApiScope.ACCOUNT),
    ExportTarget.API_REQUESTS: ExportedList(usage.of_api_key, _API_KEY, ApiScope.ACCOUNT),
    ExportTarget.WEBHOOK_DELIVERIES: ExportedList(webhooks.deliveries_of_endpoint, _WEBHOOK, ApiScope.ACCOUNT),
}


@dataclass(frozen=True, slots=True)
class ListedColumn:
    """A column of the table: the value of a `column` of the list.

    With `prefix`, it is an id of this type; with `path`, what is there in a document; with `until`, the seconds from the time in `column` to the one in
    `until`, or to now. With `metric`, it is the last value of that metric of a run instead. `type` is None if the values tell it.
    """

    name: str
    type: ColumnType | None
    column: str | None = None
    prefix: str | None = None
    path: str | None = None
    until: str | None = None
    metric: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        values: dict[str, Any] = {**document, "type": None if document["type"] is None else ColumnType(document["type"])}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ListPlan:
    """What is read: the rows that meet the criteria, in an order, and their columns. `key_id` is the API key that the maker used, if they used one."""

    columns: Sequence[ListedColumn]
    criteria: Criteria | None = None
    order: Any = None
    key_id: UUID | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": [asdict(column) for column in self.columns],
            "criteria": to_json(self.criteria),
            "order": to_json(self.order),
            "key": None if self.key_id is None else self.key_id.hex,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Raises `KeyError`, `TypeError` or `ValueError` for what another release has written and this one does not know."""
        return cls(
            [ListedColumn.of(column) for column in document["columns"]],
            from_json(document["criteria"]),
            from_json(document["order"]),
            None if document["key"] is None else UUID(hex=document["key"]),
        )


async def load(database: Database, export_id: UUID) -> Row[Any] | None:
    """The row of an export: whose it is, of which list, and its plan. For its job alone."""
    columns = (Export.created_by_id, Export.target, Export.list_parent_id, Export.plan, Export.format, Export.options)
    rows = await database.rows(select(*columns).where(Export.id == export_id))
    return rows[0] if rows else None


def parent_row(target: ExportTarget, viewer: Viewer, parent_id: UUID) -> Rows:
    """The row that a list is under, if the viewer may see it and it is not deleted."""
    parent = LISTS[target].parent
    assert parent is not None
    return parent.rows(viewer).with_only_columns(parent.key, maintain_column_froms=True).where(parent.key == parent_id)


@dataclass(frozen=True, slots=True)
class ListPage:
    """Rows of a list. `cursor` is where the next page begins; None for the last one."""

    records: Sequence[Record]
    metrics: Mapping[tuple[UUID, str], float | None]
    read_at: datetime
    cursor: str | None


class ListReader:
    """Reads the rows of one list, a page at a time. Rows that change meanwhile are as they are when their page is read."""

    def __init__(self, target: ExportTarget, parent_id: UUID | None, plan: ListPlan) -> None:
        exported = LISTS[target]
        self._target, self._parent_id, self._plan = target, parent_id, plan
        self._listing, self._has_parent = exported.listing, exported.parent is not None
        needed = {name for column in plan.columns for name in (column.column, column.until) if name is not None}
        key = ("id",) if "id" in self._listing.columns else ()  # events of jobs have none
        self._names = (*key, *sorted(needed - {*key}))
        self._metric_keys = sorted({column.metric for column in plan.columns if column.metric is not None})
        self._cells = [self._cell(column) for column in plan.columns]

    @property
    def _parents(self) -> Sequence[UUID]:
        nobody: Any = None  # the parent of a list without parents
        return [nobody if self._parent_id is None else self._parent_id]

    async def has_parent(self, database: Database, viewer: Viewer) -> bool:
        """Whether the viewer still sees what the list is under; true of a list that is under nothing."""
        if not self._has_parent:
            return True
        return self._parent_id is not None and bool(await database.rows(parent_row(self._target, viewer, self._parent_id)))

    async def count(self, database: Database, viewer: Viewer) -> int | None:
        """How many rows there are; None if counting them takes longer than a statement may."""
        try:
            counts = await self._listing.record_counts(database, viewer, self._parents, self._plan.criteria)
        except DBAPIError as error:
            if is_transient(error):
                return None
            raise
        return counts[self._parents[0]]

    async def page(self, database: Database, viewer: Viewer, after: str | None, size: int = PAGE_ROWS) -> ListPage:
        parts = PageParts(self._names, cursors=True, ends=True)
        read_at = datetime.now(UTC)
        pages = await self._listing.record_pages(
            database, viewer, self._parents, Slice(size, after), self._plan.criteria, self._plan.order, parts
        )
        ids = [record[0] for record in pages.records]
        metrics: dict[tuple[UUID, str], float | None] = {}
        if self._metric_keys and ids:
            statement = select(RunMetric.run_id, RunMetric.key, RunMetric.last).where(
                equals_any(RunMetric.run_id, ids), equals_any(RunMetric.key, self._metric_keys), visible(RunMetric, viewer)
            )
            metrics = {(row.run_id, row.key): row.last for row in await database.rows(statement)}
        has_next = bool(pages.ends and pages.ends[0][0])
        return ListPage(pages.records, metrics, read_at, pages.cursors[-1] if has_next else None)

    def lines(self, page: ListPage) -> bytes:
        """The rows as JSON lines, an array of cells each. Ids and enums are as in the API, times in RFC 3339; NaN and infinities are null."""
        cells = self._cells
        return b"".join(orjson.dumps([cell(record, page) for cell in cells], option=orjson.OPT_APPEND_NEWLINE) for record in page.records)

    def _cell(self, column: ListedColumn) -> Callable[[Record, ListPage], Any]:
        if column.metric is not None:
            key = column.metric
            return lambda record, page: page.metrics.get((record[0], key))
        assert column.column is not None
        position = self._names.index(column.column)
        if column.prefix is not None:
            prefix = column.prefix
            return lambda record, _page: None if record[position] is None else f"{prefix}_{record[position].hex}"
        described = self._listing.columns[column.column]
        if column.until is not None:
            end = self._names.index(column.until)
            return lambda record, page: _seconds(record[position], record[end], page.read_at)
        if column.path is not None:
            path = column.path
            return lambda record, _page: value_at(described.read(record[position]), path)
        return lambda record, _page: _plain(described, record[position])


def _plain(described: RecordColumn, value: Any) -> Any:
    read = described.read(value)
    return read.name if isinstance(read, StrEnum) else read


def _seconds(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    return None if start is None else max(((end or now) - start).total_seconds(), 0.0)


def value_at(document: Any, path: str) -> Any:
    """The value at a path, whose dots lead into objects and, with numbers, into arrays; else that of the key of this name. None where there is none."""
    value = document
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = cast("dict[str, Any]", value)[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[int(name)]
        else:
            return cast("dict[str, Any]", document).get(path) if isinstance(document, dict) else None
    return value
