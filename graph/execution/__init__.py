"""How operations are run: documents, admission, execution, subscriptions. It imports `graph.core` and no domain."""
