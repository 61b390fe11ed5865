"""Selects the operation of a document. None is guessed."""

from __future__ import annotations

from graphql import DocumentNode, GraphQLError, OperationDefinitionNode

MAX_LISTED_NAMES = 5  # names that an error lists


def select_operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """Return the operation called `name`, or without a name the only one. Raises a GraphQLError that lists those there are."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is None and len(operations) == 1:
        return operations[0]
    for operation in operations:
        if operation.name is not None and operation.name.value == name:
            return operation
    if not operations:
        message = "The document contains no operation, only fragments or type definitions. Add a query, a mutation or a subscription."
    elif name is None:
        message = f"The document contains {len(operations)} operations. Select one with `operationName`: {_list_names(operations)}."
    else:
        message = f"The document contains no operation named {_truncate(name)!r}. It has {_list_names(operations)}."
    raise GraphQLError(message, extensions={"code": "BAD_REQUEST"})


def _list_names(operations: list[OperationDefinitionNode]) -> str:
    names = [_truncate(operation.name.value) if operation.name else "one without a name" for operation in operations]
    return ", ".join(names[:MAX_LISTED_NAMES]) + (f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else "")


def _truncate(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:80]}…"
