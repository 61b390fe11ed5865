"""The GraphiQL page: its sources (built by vite into `dist/`), the build, and the routes that serve it."""

from server.console.page import page, routes

__all__ = ["page", "routes"]
