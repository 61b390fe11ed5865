"""Logging of every process: one line per event on standard error, for people or for machines."""

from __future__ import annotations

import logging
import sys

import structlog

from db.core.base_settings import deprecated_settings_in_use
from db.settings import StateSettings
from graph.settings import GraphSettings
from server.settings import ServerSettings, server_settings
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

NOISY_LOGGERS = ("botocore", "aiobotocore", "aioboto3", "boto3", "urllib3", "asyncio", "uvicorn", "alembic", "matplotlib", "PIL")


def configure_logs() -> None:
    """Render what structlog and the standard library log as the settings say, and warn of deprecated settings in the environment."""
    settings = server_settings()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared_processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    json = settings.log_format == "json"
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default shows local variables, which hold tokens and people's data.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared_processors,
            *([structlog.processors.format_exc_info] if json else []),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
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
    for old_name, new_name in deprecated_settings_in_use(StateSettings, GraphSettings, ServerSettings, WorkerSettings):
        log.warning("setting_deprecated", setting=old_name, use_instead=new_name)
