"""Limits that are checked before execution: the shape of a document, the cost of an operation, and the points of a viewer."""
