"""A stock server as in the libraries' tutorials: Strawberry types, an ORM session per request, a DataLoader per edge.

It serves the part of the graph that the nested read selects, from the same tables, so that both responses are the same bytes.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import aliased
from starlette.applications import Starlette
from starlette.routing import Route
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from strawberry.extensions import ParserCache, ValidationCache

from db import tables
from db.tables.datasets import DatasetVersionStatus
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

engine = create_async_engine(os.environ["TRELLIS_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"), pool_size=20)
sessions = async_sessionmaker(engine, expire_on_commit=False)
VersionStatus = strawberry.enum(DatasetVersionStatus, name="DatasetVersionStatus")
Kind = strawberry.enum(JobKind, name="JobKind")
Status = strawberry.enum(JobStatus, name="JobStatus")
Info = strawberry.Info[dict[str, Any], None]


@strawberry.type
class User:
    id: strawberry.ID
    username: str


@strawberry.type
class Version:
    id: strawberry.ID
    number: int
    status: VersionStatus  # pyright: ignore[reportInvalidTypeForm] - created by a call
    created_at: datetime


@strawberry.type
class Job:
    id: strawberry.ID
    kind: Kind  # pyright: ignore[reportInvalidTypeForm] - created by a call
    status: Status  # pyright: ignore[reportInvalidTypeForm] - created by a call
    progress: int
    created_at: datetime


@strawberry.type
class VersionEdge:
    node: Version


@strawberry.type
class VersionConnection:
    edges: list[VersionEdge]


@strawberry.type
class JobEdge:
    node: Job


@strawberry.type
class JobConnection:
    edges: list[JobEdge]


@strawberry.type
class Dataset:
    id: strawberry.ID
    name: str
    created_at: datetime
    owner_id: strawberry.Private[UUID]
    uuid: strawberry.Private[UUID]

    @strawberry.field
    async def owner(self, info: Info) -> User:
        row = await info.context["users"].load(self.owner_id)
        return User(id=strawberry.ID(f"user_{row.id.hex}"), username=row.username)

    @strawberry.field
    async def versions(self, info: Info, first: int) -> VersionConnection:
        rows = await info.context["versions"].load((self.uuid, first))
        return VersionConnection(
            edges=[
                VersionEdge(
                    node=Version(id=strawberry.ID(f"version_{row.id.hex}"), number=row.number, status=row.status, created_at=row.created_at)
                )
                for row in rows
            ]
        )

    @strawberry.field
    async def jobs(self, info: Info, first: int) -> JobConnection:
        rows = await info.context["jobs"].load((self.uuid, first))
        return JobConnection(
            edges=[
                JobEdge(
                    node=Job(
                        id=strawberry.ID(f"job_{row.id.hex}"),
                        kind=row.kind,
                        status=row.status,
                        progress=row.progress,
                        created_at=row.created_at,
                    )
                )
                for row in rows
            ]
        )


@strawberry.type
class DatasetEdge:
    node: Dataset


@strawberry.type
class DatasetConnection:
    edges: list[DatasetEdge]


@strawberry.type
class Query:
    @strawberry.field
    async def datasets(self, info: Info, first: int) -> DatasetConnection:
        async with sessions() as session:
            statement = select(tables.Dataset).where(tables.Dataset.deleted_at.is_(None))
            scalars = await session.scalars(statement.order_by(tables.Dataset.created_at.desc(), tables.Dataset.id.desc()).limit(first))
            rows = scalars.all()
        return DatasetConnection(
            edges=[
                DatasetEdge(
                    node=Dataset(
                        id=strawberry.ID(f"dataset_{row.id.hex}"),
                        name=row.name,
                        created_at=row.created_at,
                        owner_id=row.owner_id,
                        uuid=row.id,
                    )
                )
                for row in rows
            ]
        )


def load_by_id(table: Any) -> Callable[[list[UUID]], Any]:
    async def load(keys: list[UUID]) -> list[Any]:
        async with sessions() as session:
            rows = (await session.scalars(select(table).where(table.id.in_(keys)))).all()
        rows_by_id = {row.id: row for row in rows}
        return [rows_by_id.get(key) for key in keys]

    return load


def load_children(table: Any, parent: str, *order: Any) -> Callable[[list[tuple[UUID, int]]], Any]:
    async def load(keys: list[tuple[UUID, int]]) -> list[Sequence[Any]]:
        column = getattr(table, parent)
        numbered = select(table, func.row_number().over(partition_by=column, order_by=order).label("place")).where(
            column.in_([key for key, _ in keys])
        )
        ranked = numbered.subquery()
        row = aliased(table, ranked)
        async with sessions() as session:
            rows = (await session.scalars(select(row).where(ranked.c.place <= keys[0][1]).order_by(ranked.c.place))).all()
        rows_by_parent: dict[UUID, list[Any]] = defaultdict(list)
        for item in rows:
            rows_by_parent[getattr(item, parent)].append(item)
        return [rows_by_parent[key] for key, _ in keys]

    return load


class View(GraphQL[dict[str, Any], None]):
    async def get_context(self, request: Any, response: Any) -> dict[str, Any]:
        token = request.headers["authorization"].split()[1]
        async with sessions() as session:
            await _viewer(session, token)
        return {
            "users": DataLoader(load_by_id(tables.User)),
            "versions": DataLoader(load_children(tables.DatasetVersion, "dataset_id", tables.DatasetVersion.number.desc())),
            "jobs": DataLoader(load_children(tables.Job, "dataset_id", tables.Job.created_at.desc(), tables.Job.id.desc())),
        }


async def _viewer(session: AsyncSession, token: str) -> Any:
    from db.queries.accounts import token_hash

    statement = (
        select(tables.User)
        .join(tables.ApiKey, tables.ApiKey.user_id == tables.User.id)
        .where(tables.ApiKey.token_sha256 == token_hash(token))
    )
    return (await session.scalars(statement)).one()


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
    yield
    await engine.dispose()


schema = strawberry.Schema(Query, extensions=[lambda: ParserCache(100), lambda: ValidationCache(100)])
app = Starlette(routes=[Route("/graphql", View(schema))], lifespan=lifespan)
