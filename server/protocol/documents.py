"""From a request to the text of its document and the type of its operation, before anything of it is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphql import GraphQLError, OperationType

from graph.execution.operations import select_operation
from graph.execution.persisted_documents import persisted_query_hash
from graph.schema import schema
from server.protocol.http_errors import bad_request

if TYPE_CHECKING:
    from graph.execution.context import OperationContext
    from server.protocol.graphql_request import GraphQLRequest


async def resolve_document(graphql_request: GraphQLRequest, context: OperationContext) -> str:
    """Return the text of the document that is meant, and take the points for validating it.

    Raises `HttpError` where none is sent or named, and a GraphQLError for one that is not to be had or that the viewer cannot pay for.
    """
    gate, text = context.services.gate, graphql_request.query
    if gate is not None:
        text = await gate.documents.resolve(graphql_request.query, graphql_request.document_id, graphql_request.extensions)
    if not text:
        raise bad_request('There is no `query`. Send a JSON object: {"query": "…", "variables": {…}}.')
    if gate is not None:
        if not schema.document_validator.has_seen(text):
            context.prepaid_points = await gate.take_validation_points(context.viewer, context.services.address, text)
        if graphql_request.query and graphql_request.document_id is None and context.viewer is not None:
            # Anonymous clients register nothing, or they could evict the documents of others.
            context.hash_to_register = persisted_query_hash(graphql_request.extensions)
    return text


def operation_type(text: str, operation_name: str | None) -> OperationType | None:
    """Return the type of the operation that is meant; None for a text that cannot be parsed, which its execution will report.

    Raises a GraphQLError where the document has no such operation, or several and no name was sent.
    """
    try:
        document = schema.read(text)
    except (GraphQLError, RecursionError):
        return None
    return select_operation(document, operation_name).operation
