"""Logging of every process: one line per event on standard error, for people or for machines."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from types import FrameType
from typing import Any

import orjson
import structlog

from db.core.base_settings import deprecated_settings_in_use, unknown_settings
from db.settings import StateSettings
from graph.settings import GraphSettings
from server.settings import ServerSettings, server_settings
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ALL_SETTINGS = (StateSettings, GraphSettings, ServerSettings, WorkerSettings)
NOISY_LOGGERS = ("botocore", "aiobotocore", "aioboto3", "boto3", "urllib3", "asyncio", "uvicorn", "alembic", "matplotlib", "PIL")


def _add_logger_name(logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")  # of the standard library
    event["logger"] = logger.name if record is None else record.name
    return event


def _to_json(event: object, default: Callable[[Any], Any], **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=default).decode()
    except TypeError:  # such as half of a surrogate pair, which JSON can escape and UTF-8 cannot hold
        return json.dumps(event, default=default)


class _Logger(structlog.WriteLogger):
    """Writes our own events at once: on their way through the standard library they cost as much as a small operation's statement."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name


def _make_logger(*_arguments: Any) -> _Logger:
    """The logger of the module that logs: the first one up the stack that is not structlog's."""
    frame = inspect.currentframe()
    names = (frame.f_globals.get("__name__", "") for frame in _callers(frame))
    return _Logger(next((name for name in names if name != __name__ and name.partition(".")[0] != "structlog"), "?"))


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def configure_logs() -> None:
    """Render what structlog and the standard library log as the settings say, and warn of deprecated settings in the environment."""
    settings = server_settings()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared_processors: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        _add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    is_json = settings.log_format == "json"
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if is_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default shows local variables, which hold tokens and people's data.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            *shared_processors,
            *([structlog.processors.format_exc_info] if is_json else []),
            renderer,
        ],
        logger_factory=_make_logger,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_processors, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # Its warning of a refused websocket names an argument of Strawberry's; the endpoint logs its own, with our setting.
    logging.getLogger("strawberry.ws").setLevel(logging.ERROR)
    for old_name, new_name in deprecated_settings_in_use(*ALL_SETTINGS):
        log.warning("setting_deprecated", setting=old_name, use_instead=new_name)
    for name, similar in unknown_settings(*ALL_SETTINGS):
        log.warning("setting_unknown", setting=name, **({"similar": similar} if similar else {}))
