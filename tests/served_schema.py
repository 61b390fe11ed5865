"""The schema as clients read it, built once for each test process. Strawberry's own object does not mark OneOf inputs, for example."""

from __future__ import annotations

from graphql import GraphQLSchema, build_schema

from graph.schema import schema

SERVED: GraphQLSchema = build_schema(schema.as_str())
