"""Where the state lives. Every default works with the servers that `trellis up` starts."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from pydantic import Field, NonNegativeInt, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.core.prices import validate_prices
from db.core.queues import QUEUES
from db.core.viewer import UserTier

_PER_TIER = {UserTier.FREE.value: 8, UserTier.PRO.value: 32, UserTier.ENTERPRISE.value: 0}

Interval = Annotated[float, Field(ge=0)]


class StateSettings(BaseSettings):
    """Addresses and credentials of PostgreSQL, Redis and S3, and the limits on using them. Read from `TRELLIS_*`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_", extra="ignore")

    database_url: str = Field(
        default="", description="PostgreSQL 18, `postgresql://user:password@host:port/name`. Empty: `trellis up` starts its own."
    )
    database_pool_size: int = Field(default=20, ge=2, description="Connections a process keeps to PostgreSQL.")
    database_read_concurrency: int = Field(
        default=12, ge=1, description="Reads one process runs at once, so that a wide query cannot drain the pool."
    )
    statement_timeout: float = Field(default=10.0, gt=0, description="Seconds after which PostgreSQL gives up on a statement of the API.")
    idle_transaction_timeout: float = Field(
        default=5.0,
        gt=0,
        description="Seconds after which PostgreSQL ends a transaction whose process asks nothing more; workers with a short lease take half of that.",
    )
    redis_url: str = Field(default="", description="Redis or Valkey, `redis://:password@host:port/0`. Empty: `trellis up` starts its own.")
    s3_endpoint_url: str = Field(
        default="", description="S3 endpoint as the API and the workers reach it. Empty: `trellis up` starts its own."
    )
    s3_public_url: str = Field(
        default="", description="S3 endpoint as clients reach it: what presigned URLs name. Empty: the same as `TRELLIS_S3_ENDPOINT_URL`."
    )
    s3_bucket: str = Field(
        default="trellis", min_length=3, description="Bucket that holds every object; made at start where it is missing."
    )
    s3_region: str = Field(default="us-east-1", description="Region that requests are signed for.")
    s3_access_key_id: str = Field(default="", description="Key id of the S3 account.")
    s3_secret_access_key: SecretStr = Field(default=SecretStr(""), description="Secret of the S3 account.")
    session_recheck: float = Field(
        default=30.0,
        gt=0,
        description="Seconds between two looks at whether those who hold open connections are still signed in and may see what they follow.",
    )
    upload_max_bytes: int = Field(default=50 * 1024**3, gt=0, description="Largest file that `requestUpload` accepts, in bytes.")
    storage_quota_bytes: int = Field(
        default=1024**4, ge=0, description="What one user may store, in bytes; uploads under way count. 0: no limit."
    )
    upload_expires: int = Field(default=900, ge=60, le=604_800, description="Seconds for which an upload's presigned URL is valid.")
    upload_grace: float = Field(
        default=86_400.0, ge=0, description="Seconds for which an upload may still be completed after its URL ended; then it expires."
    )
    max_tries: int = Field(default=3, ge=1, description="Times that a job is tried before it is FAILED, unless its maker says otherwise.")
    running_per_user: dict[str, NonNegativeInt] = Field(
        default_factory=_PER_TIER.copy,
        description="Jobs of one user that run at once, by tier, as JSON; a tier left out keeps its default. 0: no limit.",
    )
    running_per_queue: dict[str, NonNegativeInt] = Field(
        default_factory=dict[str, int],
        description='Jobs of a queue that run at once on all workers together, as JSON: `{"video": 2}`. 0, or left out: no limit.',
    )
    credit_prices: dict[str, int] = Field(
        default_factory=dict[str, int],
        description='Credits that a job costs, by its kind, as JSON: `{"TRAIN": 10}`. Held when it is submitted, charged when it completes,'
        " released when it ends otherwise. Left out, or 0: nothing.",
    )
    worker_silence: float = Field(
        default=60.0, gt=0, description="Seconds without a heartbeat after which a worker's row says that it stopped; well over its lease."
    )
    orphan_age: float = Field(
        default=86_400.0, ge=0, description="Seconds after which an object that no row refers to is removed, by the store's clock."
    )
    chore_retire_workers: Interval = Field(default=60.0, description="Seconds between looks for workers that went silent. 0: never.")
    chore_make_partitions: Interval = Field(default=3_600.0, description="Seconds between looks at the partitions ahead. 0: never.")
    chore_forget_keys: Interval = Field(default=3_600.0, description="Seconds between removals of idempotency keys of a day ago. 0: never.")
    chore_forget_staged_points: Interval = Field(
        default=600.0, description="Seconds between removals of points that were staged and never taken. 0: never."
    )
    chore_expire_uploads: Interval = Field(default=300.0, description="Seconds between looks for uploads that never came. 0: never.")
    chore_remove_unreferenced: Interval = Field(
        default=3_600.0, description="Seconds between removals of stored objects that nothing refers to any more. 0: never."
    )
    chore_collect_orphans: Interval = Field(
        default=86_400.0, description="Seconds between walks through the bucket for objects that no row knows. 0: never."
    )
    chore_reconcile_counters: Interval = Field(
        default=86_400.0, description="Seconds between recounts of what users store and of references to objects. 0: never."
    )

    chore_reconcile_credits: Interval = Field(
        default=86_400.0, description="Seconds between checks that what users have is what the ledger of credits says. 0: never."
    )

    @field_validator("credit_prices", mode="before")
    @classmethod
    def _validate_prices(cls, value: object) -> dict[str, int]:
        return validate_prices(value)

    @field_validator("running_per_user")
    @classmethod
    def _fill_in_tiers(cls, limits: dict[str, int]) -> dict[str, int]:
        return {**_PER_TIER, **_check_names(limits, tuple(_PER_TIER), "tier", "tiers")}

    @field_validator("running_per_queue")
    @classmethod
    def _check_queues(cls, limits: dict[str, int]) -> dict[str, int]:
        return _check_names(limits, QUEUES, "queue", "queues")


def _check_names(limits: dict[str, int], names: tuple[str, ...], one: str, many: str) -> dict[str, int]:
    for name in limits:
        if name not in names:
            raise ValueError(f"There is no {one} {name!r}. The {many} are {', '.join(names)}.")
    return limits


@lru_cache
def state_settings() -> StateSettings:
    """The settings of this process, read once."""
    return StateSettings()
