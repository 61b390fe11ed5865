"""How GraphQL travels: over HTTP, websockets and server-sent events."""
