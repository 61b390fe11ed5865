"""Lineage as one recursive statement over version → snapshot → job → run → model version, see `db.queries.lineage_relations` for its edges.

Upstream goes from effects to causes, downstream from causes to effects. BOTH is the two walks from the start, not every path: other
effects of a cause are not included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    Row,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by

from db.core.prepared_rows import PreparedRows
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.lineage_relations import (
    EXPORT,
    JOB,
    KEYS,
    MODEL,
    RELATIONS,
    RUN,
    SNAPSHOT,
    START_ROWS,
    VERSION,
    LineageKind,
    LineageRelation,
    derived_from,
    scored_by,
)
from db.tables import (
    Dataset,
    DatasetVersion,
    Experiment,
    Export,
    Job,
    Model,
    ModelAliasEvent,
    ModelVersion,
    Pipeline,
    PipelineSnapshot,
    Run,
)

PRODUCTION = "production"
"""The alias of the version of a model that is in use."""
MAX_DEPTH = 50
MAX_NODES = 1_000


class LineageDirection(StrEnum):
    """Which way to go from the start."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Lineage:
    """`nodes`: kind, id, depth, is_in_production, label, status, aliases; the nearest first, of equally near ones those in production.

    `edges`: (source, target, relation). `is_partial`: the bounds left something out.
    """

    nodes: Sequence[Row[Any]]
    edges: Sequence[tuple[UUID, UUID, LineageRelation]]
    is_partial: bool


async def trace(
    database: Database,
    viewer: Viewer,
    kind: LineageKind,
    key: UUID,
    *,
    direction: LineageDirection = LineageDirection.BOTH,
    depth: int = 5,
    max_nodes: int = 200,
) -> Lineage | None:
    """The nearest `max_nodes` nodes within `depth` edges of the start. None where the viewer sees no such start."""
    # A node may occur several times, on paths of different lengths, so the limit of rows is a multiple of the nodes.
    arguments = {"start": key, "depth": depth, "nodes": max_nodes, "more_nodes": max_nodes + 1, "rows": 4 * (max_nodes + 1)}
    rows = await _walks(kind, direction)(database, viewer, **arguments)
    if not rows:
        return None
    edges = {
        (UUID(source), row.id, LineageRelation(relation))
        for row in rows
        for source, relation in row.causes  # listed with the effect: an effect has few causes, a cause may have many effects
    }
    return Lineage(rows, sorted(edges), rows[0].is_partial)


_START = bindparam("start", type_=Uuid)
_DEPTH: ColumnElement[int] = bindparam("depth", type_=Integer)
_NODES, _MORE_NODES, _ROWS = (bindparam(name, type_=BigInteger) for name in ("nodes", "more_nodes", "rows"))


@cache
def _walks(kind: LineageKind, direction: LineageDirection) -> PreparedRows:
    return PreparedRows(lambda viewer: _statement(viewer, kind, direction), "start", "depth", "nodes", "more_nodes", "rows")


def _statement(viewer: Viewer, kind: LineageKind, direction: LineageDirection) -> Rows:
    walk = _walk(viewer, kind, direction)
    # Rows come level by level, so the limit ends the recursion and keeps the nearest.
    visited = select(walk.c.kind, walk.c.id, walk.c.depth).limit(_ROWS).cte("visited")
    nearest = (
        select(visited.c.kind, visited.c.id, func.min(visited.c.depth).label("depth"), _is_in_production(visited).label("is_in_production"))
        .group_by(visited.c.kind, visited.c.id)
        .cte("nearest")
    )
    first = (nearest.c.depth, nearest.c.is_in_production.desc(), nearest.c.id)
    nodes = select(nearest).where(nearest.c.depth <= _DEPTH).order_by(*first).limit(_NODES).cte("nodes")
    counts = [select(func.count()).select_from(cte).scalar_subquery() for cte in (visited, nearest, nodes)]
    is_cut = or_(counts[0] >= _ROWS, counts[1] > counts[2])
    edges = _edges(viewer, nodes)
    causes = select(func.jsonb_agg(func.jsonb_build_array(edges.c.source, edges.c.relation))).where(edges.c.target == nodes.c.id)
    return select(
        nodes.c.kind,
        nodes.c.id,
        nodes.c.depth,
        nodes.c.is_in_production,
        _by_kind(nodes, _labels()).label("label"),
        _by_kind(nodes, _statuses()).label("status"),
        func.coalesce(_aliases(nodes), literal_column("'[]'::jsonb", JSONB)).label("aliases"),
        func.coalesce(causes.scalar_subquery(), literal_column("'[]'::jsonb", JSONB)).label("causes"),
        is_cut.label("is_partial"),
    ).order_by(nodes.c.depth, nodes.c.is_in_production.desc(), nodes.c.id)


def _walk(viewer: Viewer, kind: LineageKind, direction: LineageDirection) -> CTE:
    """(kind, id, depth, up): one level more than asked for, to know whether anything was left out."""
    directions = {
        LineageDirection.UPSTREAM: (True,),
        LineageDirection.DOWNSTREAM: (False,),
        LineageDirection.BOTH: (True, False),
    }[direction]
    start = START_ROWS[kind](viewer).where(KEYS[kind] == _START).subquery("start")
    direction_rows = func.unnest(literal(list(directions), ARRAY(Boolean))).table_valued("up", name="directions").render_derived()
    seed = select(
        _literal_kind(kind).label("kind"), start.c.id, cast(0, Integer).label("depth"), cast(direction_rows.c.up, Boolean).label("up")
    ).select_from(start.join(direction_rows, true()))
    walk = seed.cte("walk", recursive=True)
    steps = [
        neighbours(viewer, walk.c.id)
        .add_columns(_literal_kind(target_kind).label("kind"))
        .where(walk.c.kind == _literal_kind(source_kind), walk.c.up.is_(upstream))
        .order_by(KEYS[target_kind].desc())
        .limit(_MORE_NODES)
        .correlate(walk)
        for relation in RELATIONS
        for source_kind, target_kind, upstream, neighbours in (
            (relation.cause, relation.effect, False, relation.down),
            (relation.effect, relation.cause, True, relation.up),
        )
        if upstream in directions
    ]
    neighbour_rows = union_all(*steps).lateral("neighbours")
    next_level = select(neighbour_rows.c.kind, neighbour_rows.c.id, walk.c.depth + 1, walk.c.up).select_from(
        walk.join(neighbour_rows, true())
    )
    return walk.union(next_level.where(walk.c.depth <= _DEPTH))


def _edges(viewer: Viewer, nodes: CTE) -> CTE:
    """(source, target, relation) between the nodes, looked up from the effects."""
    lookups = [(relation.name, relation.effect, relation.up) for relation in RELATIONS]
    lookups += [(LineageRelation.DERIVED_FROM, VERSION, derived_from), (LineageRelation.SCORED_BY, VERSION, scored_by)]
    steps = [
        up(viewer, nodes.c.id)
        .add_columns(_literal_kind(name).label("relation"))
        .where(nodes.c.kind == _literal_kind(effect))
        .correlate(nodes)
        for name, effect, up in lookups
    ]
    cause = union_all(*steps).lateral("cause")
    source = nodes.alias("source")
    statement = select(cause.c.id.label("source"), nodes.c.id.label("target"), cause.c.relation)
    return statement.select_from(nodes.join(cause, true()).join(source, source.c.id == cause.c.id)).distinct().cte("edges")


def _literal_kind(value: LineageKind | LineageRelation) -> ColumnElement[str]:
    """A literal, not a parameter, so that the planner skips the branches of other kinds."""
    return literal_column(f"'{value.value}'::text", Text)


def _by_kind(nodes: CTE, values: dict[LineageKind, Callable[[Column], Rows]]) -> ColumnElement[Any]:
    """One lookup by key per node, in the table of its kind."""
    return case(
        *((nodes.c.kind == _literal_kind(kind), value(nodes.c.id).correlate(nodes).scalar_subquery()) for kind, value in values.items())
    )


def _labels() -> dict[LineageKind, Callable[[Column], Rows]]:
    number = " v"
    return {
        VERSION: lambda id_: (
            select(Dataset.name + number + cast(DatasetVersion.number, Text))
            .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
            .where(DatasetVersion.id == id_)
        ),
        SNAPSHOT: lambda id_: (
            select(func.coalesce(Pipeline.name, "Snapshot") + " @ " + func.left(PipelineSnapshot.sha256, 8))
            .select_from(PipelineSnapshot)
            .outerjoin(Pipeline, Pipeline.id == PipelineSnapshot.pipeline_id)
            .where(PipelineSnapshot.id == id_)
        ),
        JOB: lambda id_: select(func.upper(cast(Job.kind, Text))).where(Job.id == id_),
        RUN: lambda id_: (
            select(func.coalesce(Run.name, Experiment.name + " #" + cast(Run.number, Text)))
            .join(Experiment, Experiment.id == Run.experiment_id)
            .where(Run.id == id_)
        ),
        MODEL: lambda id_: (
            select(Model.name + number + cast(ModelVersion.number, Text))
            .join(ModelVersion, ModelVersion.model_id == Model.id)
            .where(ModelVersion.id == id_)
        ),
        EXPORT: lambda id_: select(func.upper(cast(Export.format, Text))).where(Export.id == id_),
    }


def _statuses() -> dict[LineageKind, Callable[[Column], Rows]]:
    return {
        VERSION: lambda id_: select(func.upper(cast(DatasetVersion.status, Text))).where(DatasetVersion.id == id_),
        JOB: lambda id_: select(func.upper(cast(Job.status, Text))).where(Job.id == id_),
        RUN: lambda id_: select(func.upper(cast(Run.status, Text))).where(Run.id == id_),
        EXPORT: lambda id_: select(func.upper(cast(Job.status, Text))).join(Export, Export.job_id == Job.id).where(Export.id == id_),
    }


def _aliases(nodes: CTE) -> ColumnElement[Any]:
    names = select(func.jsonb_agg(aggregate_order_by(ModelAliasEvent.name, ModelAliasEvent.name.asc())))
    return names.where(*_is_alias_of(nodes)).correlate(nodes).scalar_subquery()


def _is_in_production(nodes: CTE) -> ColumnElement[bool]:
    is_production = ModelAliasEvent.name == literal_column(f"'{PRODUCTION}'", Text)
    return select(ModelAliasEvent.id).where(*_is_alias_of(nodes), is_production).correlate(nodes).exists()


def _is_alias_of(nodes: CTE) -> tuple[ColumnElement[bool], ...]:
    return (
        nodes.c.kind == _literal_kind(MODEL),
        ModelAliasEvent.model_version_id == nodes.c.id,
        ModelAliasEvent.superseded_at.is_(None),
    )
