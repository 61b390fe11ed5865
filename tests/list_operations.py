"""Every list of the schema with each filter, order and page, as GraphQL operations: what the benchmark measures and the tests of plans explain.

The connection fields, filters and orders come from the schema. The values of filters are those of `tests/benchmarks/scale_data.py`; a filter
field without values raises `LookupError`.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    get_named_type,
    is_input_object_type,
    is_object_type,
)

from tests.served_schema import SERVED

PAGES = ("first", "deep", "last")
NAMES = (
    {"eq": "OAK survey 10"},
    {"contains": "survey"},
    {"contains": "ZEBRA"},
    {"contains": "no such name"},
    {"startsWith": "oak"},
    {"startsWith": "no such name"},
    {"in": ["oak survey 10", "no such name"]},
)
TIMES = (
    {"gte": "2026-05-20T00:00:00Z"},
    {"lt": "2025-06-10T00:00:00Z"},
    {"gte": "2025-11-01T00:00:00Z", "lt": "2026-02-01T00:00:00Z"},
    {"lt": "2025-01-01T00:00:00Z"},
)
MODALITIES, PROBLEMS = (["TABULAR"], ["SIGNAL"], ["AUDIO"], ["SIGNAL", "AUDIO"]), (["REGRESSION"], ["CLUSTERING"], ["OTHER"])
VALUES: Mapping[str, Sequence[Any]] = {
    "UserFilter.email": ({"contains": "no such name"}, {"startsWith": "u1"}),
    "UserFilter.username": ({"contains": "no such name"}, {"in": ["light", "no such name"]}),
    "UserFilter.kind": (["PERSON"], ["TEAM"], ["TEAM", "SYSTEM"]),
    "UserFilter.role": (["MEMBER"], ["VIEWER"], ["VIEWER", "ADMIN"]),
    "UserFilter.tier": (["FREE"], ["PRO"], ["ENTERPRISE"]),
    "UserFilter.isActive": (True, False),
    "AuditEventFilter.action": (["create_dataset"], ["login"], ["delete_dataset"], ["login", "create_dataset"]),
    "DatasetFilter.modality": MODALITIES,
    "DatasetFilter.problemType": PROBLEMS,
    "DatasetFilter.source": (["UPLOAD"], ["DERIVED"], ["API"]),
    "PipelineFilter.modality": MODALITIES,
    "PipelineFilter.status": (["VALIDATED"], ["ARCHIVED"], ["DRAFT", "ARCHIVED"]),
    "PipelineFilter.isTemplate": (True, False),
    "PipelineFilter.stepKey": ("dataset", "rare", "none"),
    "ModelFilter.problemType": PROBLEMS,
    "ModelFilter.alias": ("production", "rare", "none"),
    "ModelFilter.algorithm": ("ridge", "rare", "none"),
    "JobFilter.kind": (["TRAIN"], ["PROFILE"], ["PURGE"], ["TRAIN", "INGEST"]),
    "JobFilter.status": (["COMPLETED"], ["PENDING"], ["RUNNING"], ["PENDING", "FAILED"]),
    "JobFilter.queue": (["tabular"], ["signal"], ["audio"], ["signal", "upload"]),
    "ExportFilter.format": (["CSV"], ["PARQUET"], ["JSON", "PARQUET"]),
    "ExportFilter.target": (["RUNS"], ["TRIALS"], ["RUNS", "TRIALS"]),
    "ItemFilter.label": (["fault"], ["none"], ["fault", "normal"]),
    "ItemFilter.split": (["train"], ["none"]),
    "ItemFilter.severity": (["high"], ["none"]),
    "ItemFilter.hasIssues": (True, False),
    "ItemFilter.features": ([{"key": "rms", "lte": 0.5}], [{"key": "width"}], [{"key": "rms", "gte": 0.1}, {"key": "peak", "gte": 0.99}]),
    "StudyFilter.status": (["COMPLETED"], ["PAUSED"], ["PAUSED", "FAILED"]),
    "TrialFilter.status": (["COMPLETED"], ["PRUNED"], ["PRUNED", "FAILED"]),
    "CreditTransactionFilter.type": (["CONSUMPTION"], ["ADJUSTMENT"], ["HOLD", "RELEASE"]),
    "DeliveryFilter.status": (["DELIVERED"], ["PENDING"], ["PENDING", "FAILED"]),
    "DeliveryFilter.eventType": (["JOB_FAILED"], ["CREDITS_LOW"], ["JOB_FAILED", "CREDITS_LOW"]),
    "EmailMessageFilter.status": (["SENT"], ["FAILED"], ["SENT", "FAILED"]),
    "EmailMessageFilter.eventType": (["CREDITS_LOW"], ["QUOTA_NEAR", "JOB_FAILED"]),
    "NotificationFilter.type": (["VERSION_READY"], ["QUOTA_NEAR"], ["QUOTA_NEAR", "JOB_FAILED"]),
    "NotificationFilter.isRead": (True, False),
    "RunFilter.source": (["JOB"], ["EXTERNAL"], ["JOB", "EXTERNAL"]),
    "RunFilter.status": (["COMPLETED"], ["RUNNING"], ["CANCELLED"], ["RUNNING", "FAILED"]),
    "RunFilter.metrics": (
        [{"key": "loss", "lte": 0.5}],
        [{"key": "loss", "lte": 0.00001}],
        [{"key": "rare"}],
        [{"key": "none"}],
        [{"key": "loss", "lte": 0.01}, {"key": "auc", "gte": 0.99}],
    ),
    "RunFilter.parameters": (
        [{"key": "model", "eq": "ridge"}],
        [{"key": "train.alpha", "eq": 10}],
        [{"key": "train.rare", "eq": 10}],
        [{"key": "train.rare", "in": [10, 20]}],
        [{"key": "none"}],
        [{"key": "train"}],
        [{"key": "train.alpha", "gte": 90}],
        [{"key": "train.rare", "gte": 10, "lte": 11}],
    ),
    "RunFilter.annotations": ([{"key": "team", "eq": "north"}], [{"key": "none"}]),
    "RunFilter.algorithm": ("ridge", "rare", "none"),
    "RunFilter.duration": ({"gte": 10}, {"lte": 0.0001}, {"gte": 50, "lte": 50.01}),
    "ExperimentFilter.algorithm": ("ridge", "rare", "none"),
}
BY_TYPE: Mapping[str, Sequence[Any]] = {"StringFilter": NAMES, "DateTimeFilter": TIMES}
OBJECTS: Mapping[str, str] = {
    "parentRun": "run",
    "owner": "user",
    "datasetVersion": "version",
    "actor": "user",
    "subject": "dataset",
    "account": "user",
}  # that filters refer to by other names
METRICS = ("loss", "rare", "none")  # to order runs by
PARAMETERS = ("train.alpha", "none")
FEATURES = ("rms", "width")  # to order items by
KEY = "01997a00000070008000000000000000"  # of a row in the middle of a list, if there were one


@dataclass(frozen=True)
class Parents:
    """Ids for the lists under an object and for filters by id: `dataset`, `pipeline`, `version`, `job`, `experiment`, `model`, `study`, `user`."""

    ids: Mapping[str, str]


@dataclass(frozen=True)
class Operation:
    """One list with a filter, an order and a page."""

    place: str
    filter: Mapping[str, Any] = field(default_factory=dict[str, Any])
    order: Mapping[str, Any] | None = None
    page: str = "first"
    parent: str | None = None  # the id of the object that the list is under
    arguments: frozenset[str] = frozenset()
    selection: str = "nodeIds"

    def __str__(self) -> str:
        order = "" if self.order is None else f" by {orjson.dumps(self.order).decode()}"
        return f"{self.place} {orjson.dumps(self.filter).decode()}{order} {self.page if self.selection == 'nodeIds' else self.selection}"

    def request(self, cursor: str | None = None, size: int = 20) -> dict[str, Any]:
        """The body of the request. A deep page starts after the cursor, or if there is none returns the first cursor."""
        type_, name = self.place.split(".")
        declared = {"filter": f"{type_of_filter(self.place)}", "orderBy": f"{type_of_order(self.place)}"}
        variables: dict[str, Any] = {}
        if "filter" in self.arguments and self.filter:
            variables["filter"] = self.filter
        if "orderBy" in self.arguments and self.order is not None:
            variables["orderBy"] = self.order
        declarations = [f"${key}: {declared[key]}" for key in variables]
        given = [f"{key}: ${key}" for key in variables]
        if self.selection == "totalCount":
            selected = "{ totalCount }"
        else:
            given.append(f"last: {size}" if self.page == "last" else f"first: {size}")
            if cursor is not None:
                given.append(f"after: {orjson.dumps(cursor).decode()}")
            node = {"events": "sequence", "members": "role"}.get(name, "id")
            selected = f"{{ edges {{ cursor node {{ {node} }} }} pageInfo {{ hasNextPage hasPreviousPage }} }}"
        listed = f"{name}{'(' + ', '.join(given) + ')' if given else ''} {selected}"
        head = f"query({', '.join(declarations)}) " if declarations else ""
        if self.parent is None:
            return {"query": f"{head}{{ {listed} }}", "variables": variables}
        return {"query": f'{head}{{ node(id: "{self.parent}") {{ ... on {type_} {{ {listed} }} }} }}', "variables": variables}


def deep_cursor(cursor: str) -> str:
    """A cursor in the middle of the list that this one belongs to."""
    name, value, _, *place = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_"))
    if isinstance(value, str):
        value = "2025-12-01T00:00:00+00:00" if value[:4].isdigit() else "larch survey"
    elif isinstance(value, list):
        value = [0.5, 50]
    elif isinstance(value, float):
        value = 0.5
    elif isinstance(value, int) and value > 100:
        value //= 2
    return base64.urlsafe_b64encode(orjson.dumps([name, value, KEY, *place])).decode().rstrip("=")


def type_of_filter(place: str) -> str:
    return _argument_type(place, "filter")


def type_of_order(place: str) -> str:
    return _argument_type(place, "orderBy")


def _argument_type(place: str, argument: str) -> str:
    type_, name = place.split(".")
    object_type: Any = SERVED.type_map[type_]
    found = object_type.fields[name].args.get(argument)
    return "" if found is None else str(found.type)


def connection_fields() -> Iterator[tuple[str, GraphQLField]]:
    """Each field that is a list, as (`Type.field`, field). A search is none: `tests/search` has its plans."""
    for name, type_ in SERVED.type_map.items():
        if is_object_type(type_):
            assert isinstance(type_, GraphQLObjectType)
            for field_name, found in type_.fields.items():
                if get_named_type(found.type).name.endswith("Connection") and field_name != "search":
                    yield f"{name}.{field_name}", found


def filter_values(filter_type: GraphQLInputObjectType, ids: Parents) -> Iterator[tuple[str, Any]]:
    """Each field of a filter with each of its values."""
    for name, input_field in filter_type.fields.items():
        if name.endswith("Id"):
            object_name = name.removesuffix("Id")
            yield name, ids.ids[OBJECTS.get(object_name, object_name)]
            continue
        if name == "tags":
            yield from ((name, [tag]) for tag in (ids.ids["tag"], ids.ids["rareTag"], f"tag_{KEY}"))
            yield name, [ids.ids["tag"], ids.ids["rareTag"]]
            continue
        values = VALUES.get(f"{filter_type.name}.{name}") or BY_TYPE.get(get_named_type(input_field.type).name)
        if values is None:
            raise LookupError(f"{filter_type.name}.{name} has no values to measure it with: add them to {Path(__file__).name}.")
        for value in values:
            yield name, value


def orders(order_type: GraphQLInputObjectType) -> Iterator[Mapping[str, Any]]:
    """Each order in both directions."""
    for direction in ("DESC", "ASC"):
        if "field" in order_type.fields:
            enum = get_named_type(order_type.fields["field"].type)
            assert isinstance(enum, GraphQLEnumType)
            yield from ({"field": member, "direction": direction} for member in enum.values)
            if "feature" in order_type.fields:
                yield from ({"feature": name, "direction": direction} for name in FEATURES)
            continue
        key = get_named_type(order_type.fields["by"].type)
        assert is_input_object_type(key)
        enum = get_named_type(key.fields["field"].type)  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType,reportAttributeAccessIssue,reportUnknownVariableType]
        assert isinstance(enum, GraphQLEnumType)
        yield from ({"by": {"field": member}, "direction": direction} for member in enum.values)
        yield from ({"by": {"metric": metric}, "direction": direction} for metric in METRICS)
        yield from ({"by": {"parameter": parameter}, "direction": direction} for parameter in PARAMETERS)
        yield {"by": {"metric": "loss"}, "direction": direction, "thenBy": {"parameter": "train.alpha"}}


def operations(ids: Parents, *, pages: Sequence[str] = PAGES, pairs: bool = True, counts: bool = True) -> Iterator[Operation]:
    """All lists; with `pairs`, each two conditions together on the first page too."""
    for place, found in connection_fields():
        type_ = place.split(".")[0]
        parent_key = {"DatasetVersion": "version", "DatasetItem": "item"}.get(type_, type_[0].lower() + type_[1:])
        parent = None if type_ == "Query" else ids.ids[parent_key]
        arguments = frozenset(found.args) & {"filter", "orderBy"}
        filter_type = get_named_type(found.args["filter"].type) if "filter" in arguments else None
        order_type = get_named_type(found.args["orderBy"].type) if "orderBy" in arguments else None
        singles: list[dict[str, Any]] = [{}]
        both: list[dict[str, Any]] = []
        if filter_type is not None:
            assert isinstance(filter_type, GraphQLInputObjectType)
            values = list(filter_values(filter_type, ids))
            singles += [{name: value} for name, value in values]
            both = [{a: x, b: y} for (a, x), (b, y) in itertools.combinations(values, 2) if a != b]
        all_orders: list[Any] = [None]
        if order_type is not None:
            assert isinstance(order_type, GraphQLInputObjectType)
            all_orders = list(orders(order_type))
        for criteria in singles:
            for order in all_orders:
                for page in pages:
                    yield Operation(place, criteria, order, page, parent, arguments)
            if counts:
                yield Operation(place, criteria, None, "first", parent, arguments, "totalCount")
        if pairs and parent is None:
            for criteria in both:
                yield Operation(place, criteria, None, "first", parent, arguments)
