"""A plain arq worker whose function records when it was entered. `python -m arq tests.benchmarks.bare_arq.Settings`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from arq.connections import RedisSettings

QUEUE = "bare"
ENTERED = "BENCH_ENTERED"  # environment variable with the path of the file to write to


async def enter(_ctx: dict[str, Any], number: int) -> None:
    entered = time.monotonic()  # all processes of a machine share this clock
    with Path(os.environ[ENTERED]).open("a") as file:
        file.write(f"{number} {entered}\n")


class Settings:
    """arq's settings; all others are defaults."""

    functions = (enter,)
    queue_name = QUEUE
    keep_result = 0
    redis_settings = RedisSettings.from_dsn(os.environ.get("TRELLIS_REDIS_URL", "redis://127.0.0.1:6379"))
