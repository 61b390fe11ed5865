"""GraphQL over HTTP, websockets and server-sent events."""
