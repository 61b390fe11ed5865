"""`/metrics` for Prometheus: access control and exposition."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from db.errors import Unavailable
from server.db_metrics import DatabaseMetrics, MetricFamily
from server.metrics import current_registry
from server.settings import ServerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# A proxy on this machine connects from loopback on behalf of others; one of these headers shows it.
_FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")

SERVICE_UP = MetricFamily("trellis_service_up", "Whether a service that Trellis depends on answers (1) or not (0).", ("service",))


class _StaticCollector(Collector):
    """Metrics that were collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def route(services: Callable[[State], Awaitable[dict[str, bool]]], settings: ServerSettings) -> Route:
    """The route. `services` returns which services are up; the application's state must have `database`."""
    database_metrics = DatabaseMetrics()

    async def metrics(request: Request) -> Response:
        if not may_read(request, settings):
            return _access_denied(settings)
        service_states = await services(request.app.state)
        up = GaugeMetricFamily(SERVICE_UP.name, SERVICE_UP.help, labels=SERVICE_UP.labels)
        for name, is_up in service_states.items():
            up.add_metric([name], float(is_up))
        collected: list[Metric] = [up]
        if service_states.get("postgres"):
            try:
                collected += await database_metrics.metrics(request.app.state.database)
            except Unavailable as error:  # it went away since the check; the other metrics are exported all the same
                log.info("database_metrics_unavailable", detail=error.detail)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_StaticCollector(collected))
        return Response(generate_latest(current_registry()) + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", metrics)


def may_read(request: Request, settings: ServerSettings) -> bool:
    """Whether the client's address or token admits this request."""
    if settings.metrics == "off":
        return False
    if settings.metrics == "all":
        return True
    token = settings.metrics_token.get_secret_value()
    authorization = request.headers.get("authorization", "")
    if token and hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
        return True
    return _is_local(request)


def _is_local(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in _FORWARDING_HEADERS):
        return False
    # DNS rebinding: a page may point its own host name at loopback, so that a visitor's browser asks from here; Host still has that name.
    host = request.headers.get("host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return _is_loopback(request.client.host) and _is_loopback(name)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _access_denied(settings: ServerSettings) -> Response:
    if settings.metrics == "off":
        return PlainTextResponse("Not Found", status_code=404)
    text = "/metrics is for this machine only. From elsewhere, send TRELLIS_METRICS_TOKEN as `Authorization: Bearer <token>`.\n"
    return PlainTextResponse(text, status_code=403)
