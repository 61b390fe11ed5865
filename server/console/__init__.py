"""GraphiQL and the account page: their sources (built by vite into `dist/`), the build, and the routes that serve them."""

from server.console.page import page, routes

__all__ = ["page", "routes"]
