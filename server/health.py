"""`/healthz` (liveness) and `/readyz` (readiness)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from db.core.work import Database
from db.errors import DatabaseNotMigrated, StoreRefused, Unavailable
from db.migrations import revisions
from db.queries.jobs import live_workers
from db.settings import StateSettings
from server import metrics_endpoint
from server.settings import ServerSettings, server_settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PROBE_TIMEOUT = 2.0  # seconds for one service to respond
CACHE_SECONDS = 0.5  # for which requests get the same results, so that requests cannot overload the services


class ProbeFailed(Exception):
    """Raised by a probe with the reason to report."""


@dataclass(frozen=True)
class ProbeResult:
    """The state of one service. `reason` is short, holds no address or password, and is empty if the service is up."""

    up: bool
    reason: str = ""


async def _postgres(state: State) -> None:
    async with state.database.read() as connection:
        revision = (await connection.exec_driver_sql("SELECT max(version_num) FROM alembic_version")).scalar()
    *earlier, needed = revisions()
    if revision is None or revision in earlier:  # during a rolling release it may be a later one
        raise ProbeFailed(f"the database is at revision {revision}, this release needs {needed}: run `trellis migrate`")


async def _redis(state: State) -> None:
    await state.redis.set("trellis:ready", 1, ex=60)  # a write, since a Redis without free memory still answers PING


async def _s3(state: State) -> None:
    await state.objects.check()


async def _workers(state: State) -> None:
    if not await live_workers(state.database):
        raise ProbeFailed("no worker has sent a heartbeat in the last seconds")


async def _streams(state: State) -> None:
    if broken := state.feed.broken_parts:
        raise ProbeFailed(f"parts of the job feed keep failing: {', '.join(broken)}")


PROBES: Mapping[str, Callable[[State], Awaitable[None]]] = {
    "postgres": _postgres,
    "redis": _redis,
    "s3": _s3,
    "workers": _workers,
    "streams": _streams,
}


class Readiness:
    """Probes all services at most once in `CACHE_SECONDS`, whatever the number of requests."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._probed_at = float("-inf")
        self._results: dict[str, ProbeResult] = {}

    async def results(self, state: State) -> dict[str, ProbeResult]:
        async with self._lock:
            if time.monotonic() - self._probed_at > CACHE_SECONDS:
                results = await asyncio.gather(*(_probe(name, probe, state) for name, probe in PROBES.items()))
                self._results = dict(zip(PROBES, results, strict=True))
                self._probed_at = time.monotonic()
            return self._results


async def _probe(name: str, probe: Callable[[State], Awaitable[None]], state: State) -> ProbeResult:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await probe(state)
    except TimeoutError:
        return ProbeResult(up=False, reason=f"no answer within {PROBE_TIMEOUT:g} s")
    except ProbeFailed as error:
        return ProbeResult(up=False, reason=str(error))
    except DatabaseNotMigrated:
        return ProbeResult(up=False, reason="the database has no tables yet: run `trellis migrate`")
    except StoreRefused as error:
        log.warning("object_store_refused", detail=error.detail)
        return ProbeResult(
            up=False,
            reason=f"refused the credentials ({error.reason}): correct TRELLIS_S3_ACCESS_KEY_ID and TRELLIS_S3_SECRET_ACCESS_KEY, or what they allow",
        )
    except Unavailable as error:
        log.info("service_down", service=name, detail=error.detail)
        return ProbeResult(up=False, reason="does not answer, or refuses the connection")
    except Exception as error:  # noqa: BLE001 - whatever its client raises, the service is unusable
        log.info("service_down", service=name, detail=repr(error))
        return ProbeResult(up=False, reason=type(error).__name__)
    return ProbeResult(up=True)


async def is_worker_alive(settings: StateSettings, host: str) -> bool:
    """Whether a live worker's name begins with this host name."""
    async with Database.open(settings) as database:
        return any(worker.name.startswith(f"{host}-") for worker in await live_workers(database))


def routes(settings: ServerSettings | None = None) -> list[BaseRoute]:
    """`/healthz`, `/readyz` and `/metrics`. They need `database`, `redis`, `objects` and `feed` in the application's state."""
    readiness = Readiness()

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(request: Request) -> Response:
        results = await readiness.results(request.app.state)
        status = _status(results)
        strict = "strict" in request.query_params
        failed = status == "unavailable" or (strict and status != "ready")
        return JSONResponse(_report(status, results), status_code=503 if failed else 200, headers={"Cache-Control": "no-store"})

    async def services(state: State) -> dict[str, bool]:
        return {name: result.up for name, result in (await readiness.results(state)).items()}

    return [Route("/healthz", healthz), Route("/readyz", readyz), metrics_endpoint.route(services, settings or server_settings())]


def _status(results: Mapping[str, ProbeResult]) -> str:
    if not results["postgres"].up or not results["streams"].up:
        return "unavailable"
    return "ready" if all(result.up for result in results.values()) else "degraded"


def _report(status: str, results: Mapping[str, ProbeResult]) -> dict[str, Any]:
    services = {name: {"state": "up"} if result.up else {"state": "down", "reason": result.reason} for name, result in results.items()}
    return {"status": status, "services": services}
