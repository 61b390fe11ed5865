"""The lists that can be exported: their fields in the schema, and the columns that these make."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import strawberry
from strawberry.types.base import StrawberryOptional, get_object_definition
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField
from strawberry.utils.str_converters import to_camel_case

from db.core.checks import Checks
from db.core.suggestions import closest
from db.queries.list_exports import LISTS, ListedColumn, ListPlan
from db.services.list_exports import NewListExport
from db.tables.datasets import ColumnType
from db.tables.exports import ExportTarget
from graph.accounts.types import Profile, User
from graph.core.edges import EdgeField, One
from graph.core.ids import Node
from graph.core.list_inputs import ListField
from graph.core.permissions import METADATA_KEY
from graph.core.scalars import JSON, BigInt, Duration

FIELDS: Mapping[ExportTarget, ListField] = {
    ExportTarget.DATASETS: ListField("Query", "datasets"),
    ExportTarget.DATASET_VERSIONS: ListField("Dataset", "versions"),
    ExportTarget.DATASET_ITEMS: ListField("DatasetVersion", "items"),
    ExportTarget.PIPELINES: ListField("Query", "pipelines"),
    ExportTarget.JOBS: ListField("Query", "jobs"),
    ExportTarget.EXPERIMENTS: ListField("Query", "experiments"),
    ExportTarget.RUNS: ListField("Query", "runs"),
    ExportTarget.MODELS: ListField("Query", "models"),
    ExportTarget.MODEL_VERSIONS: ListField("Model", "versions"),
    ExportTarget.STUDIES: ListField("Query", "studies"),
    ExportTarget.TRIALS: ListField("Study", "trials"),
    ExportTarget.USERS: ListField("Query", "users"),
    ExportTarget.TAGS: ListField("Query", "tags"),
    ExportTarget.EXPORTS: ListField("Query", "exports"),
    ExportTarget.EXPLANATIONS: ListField("ModelVersion", "explanations"),
    ExportTarget.SCHEMA_PROPOSALS: ListField("DatasetVersion", "schemaProposals"),
    ExportTarget.ALIAS_EVENTS: ListField("Model", "aliasHistory"),
    ExportTarget.ARTIFACTS: ListField("Run", "artifacts"),
    ExportTarget.JOB_EVENTS: ListField("Job", "events"),
    ExportTarget.NOTIFICATIONS: ListField("Query", "notifications"),
    ExportTarget.CREDIT_TRANSACTIONS: ListField("Query", "creditTransactions"),
    ExportTarget.AUDIT_EVENTS: ListField("Query", "auditEvents"),
    ExportTarget.LOGIN_EVENTS: ListField("User", "loginEvents"),
    ExportTarget.API_REQUESTS: ListField("ApiKey", "requests"),
    ExportTarget.WEBHOOK_DELIVERIES: ListField("WebhookEndpoint", "deliveries"),
}
_TYPES: Mapping[Any, ColumnType] = {
    str: ColumnType.STRING,
    int: ColumnType.INTEGER,
    BigInt: ColumnType.INTEGER,
    float: ColumnType.FLOAT,
    Duration: ColumnType.FLOAT,
    bool: ColumnType.BOOLEAN,
    datetime: ColumnType.DATETIME,
    JSON: ColumnType.JSON,
    strawberry.ID: ColumnType.STRING,
}
_METRICS, _PARAMETERS = "metrics", "parameters"
_DOCUMENTS = {ExportTarget.RUNS: {_PARAMETERS: "hyperparameters"}}
"""Further names of columns that are documents, for paths in them."""
_COMPUTED = {ExportTarget.TRIALS: {_PARAMETERS: "drawn"}}
"""Fields with a resolver that returns a column."""
_PARTS = {
    ExportTarget.JOBS: {name: ListedColumn(name, ColumnType.STRING, "failure", path=name[6:]) for name in ("error.code", "error.message")}
}
"""Plain values in fields that are objects."""
MAX_NAME = 200


@cache
def columns_of(schema: strawberry.Schema, target: ExportTarget) -> Mapping[str, ListedColumn]:
    """The columns of a list by name: its fields that are plain values, and the ids of what it refers to, in the order of the schema."""
    node_type = FIELDS[target].declared(schema).node_type
    known = LISTS[target].listing.columns
    return {column.name: column for column in _columns(target, node_type) if column.column in known}


def _columns(target: ExportTarget, node_type: type[Any]) -> Iterator[ListedColumn]:
    if issubclass(node_type, Node):
        yield ListedColumn("id", ColumnType.STRING, "id", prefix=node_type.prefix)
    fields: Any = get_object_definition(node_type, strict=True).fields
    for field in fields:
        name = to_camel_case(field.python_name)
        type_ = _plain_type(field)
        if field.python_name == "id" or METADATA_KEY in field.metadata or type_ is None:
            continue
        if field.base_resolver is None:
            yield ListedColumn(name, type_, field.python_name)
        elif field.python_name == "duration":
            yield ListedColumn(name, type_, "started_at", until="completed_at")
        elif (column := _COMPUTED.get(target, {}).get(name)) is not None:
            yield ListedColumn(name, type_, column)
    yield from _PARTS.get(target, {}).values()
    references: dict[str, str] = {}
    for field in fields:
        if isinstance(field, EdgeField) and isinstance(field.declaration, One) and field.declaration.key.endswith("_id"):
            of = User if field.node_type is Profile else field.node_type
            references.setdefault(field.declaration.key, of.prefix)
    for key, prefix in references.items():
        yield ListedColumn(to_camel_case(key), ColumnType.STRING, key, prefix=prefix)


def _plain_type(field: StrawberryField) -> ColumnType | None:
    """The type of a field's values; None for what is no plain value."""
    if isinstance(field, EdgeField):
        return None
    type_: Any = field.type
    if isinstance(type_, StrawberryOptional):
        type_ = type_.of_type
    return ColumnType.STRING if isinstance(type_, StrawberryEnumDefinition) else _TYPES.get(type_)


def make_plan(schema: strawberry.Schema, new: NewListExport, checks: Checks) -> ListPlan | None:
    """Read filter, order and columns of an export. Returns None, and adds to the issues, if the list does not take them."""
    field = FIELDS[new.target]
    before = len(checks.issues)
    criteria, order = field.criteria(schema, new.filter, checks.issues), field.order(schema, new.order_by or None, checks.issues)
    known = columns_of(schema, new.target)
    columns = list(known.values()) if new.columns is None else []
    for position, name in enumerate(new.columns or ()):
        column = _column(new.target, known, name)
        if isinstance(column, str):
            checks.add("columns", position, message=column)
        else:
            columns.append(column)
    names = [column.name for column in columns]
    if len(checks.issues) == before and (not names or len(set(names)) < len(names)):
        checks.add("columns", message="Name at least one column, and each once; leave this out for all.")
    return None if len(checks.issues) > before else ListPlan(columns, criteria, order)


def _column(target: ExportTarget, known: Mapping[str, ListedColumn], name: str) -> ListedColumn | str:
    """The column of this name, or what is wrong with it."""
    if len(name) > MAX_NAME or "\x00" in name:
        return f"A column's name has at most {MAX_NAME} characters, and not the character NUL."
    if name in known:
        return known[name]
    first, _, rest = name.partition(".")
    if rest and target is ExportTarget.RUNS and first == _METRICS:
        return ListedColumn(name, ColumnType.FLOAT, metric=rest)
    document = known.get(_DOCUMENTS.get(target, {}).get(first, first))
    if rest and document is not None and document.type is ColumnType.JSON:
        return ListedColumn(name, None, document.column, path=rest)
    close = closest(name, known)
    hint = f"Did you mean {close!r}?" if close is not None else f"Its columns are: {', '.join(known)}."
    further = " `metrics.<name>` and `parameters.<name>` are columns, too." if target is ExportTarget.RUNS else ""
    return f"The list has no column {name[:100]!r}. {hint}{further}"
