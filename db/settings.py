"""Where the state lives. Every default works with the servers that `trellis up` starts."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    upload_max_bytes: int = Field(default=50 * 1024**3, gt=0, description="Largest file that `requestUpload` accepts, in bytes.")
    storage_quota_bytes: int = Field(
        default=1024**4, ge=0, description="What one user may store, in bytes; uploads under way count. 0: no limit."
    )
    upload_expires: int = Field(default=900, ge=60, le=604_800, description="Seconds for which an upload's presigned URL is valid.")


@lru_cache
def state_settings() -> StateSettings:
    """The settings of this process, read once."""
    return StateSettings()
