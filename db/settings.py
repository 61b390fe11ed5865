"""Settings of PostgreSQL, Redis, S3 and what is kept there. Every default works with the servers that `trellis up` starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from db.core.base_settings import TrellisSettings
from db.core.outbound import parse_networks
from db.core.prices import validate_prices
from db.core.queues import QUEUES
from db.core.viewer import UserTier

MIN_KEY_LENGTH = 32
MAX_PUT_BYTES = 5 * 1024**3  # the largest object that S3 takes in one PUT, and copies in one request
MAX_OBJECT_BYTES = 5 * 1024**4  # the largest object that S3 keeps
_PER_TIER = {UserTier.FREE.value: 8, UserTier.PRO.value: 32, UserTier.ENTERPRISE.value: 0}
_TIERS = tuple(_PER_TIER)
DEFAULT_PRIORITY, MAX_PRIORITY = 5, 10  # of jobs

Interval = Annotated[float, Field(ge=0)]
Days = Annotated[float, Field(ge=1)]


class StateSettings(TrellisSettings):
    """Addresses and credentials of PostgreSQL, Redis and S3, and the limits on using them. Read from `TRELLIS_*`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_", extra="ignore")
    deprecated_names: ClassVar[Mapping[str, str]] = {
        "session_revalidation_interval": "TRELLIS_SESSION_RECHECK",
        "user_concurrency_limits": "TRELLIS_RUNNING_PER_USER",
        "queue_concurrency_limits": "TRELLIS_RUNNING_PER_QUEUE",
        "worker_heartbeat_timeout": "TRELLIS_WORKER_SILENCE",
        "maintenance_retire_workers": "TRELLIS_CHORE_RETIRE_WORKERS",
        "maintenance_make_partitions": "TRELLIS_CHORE_MAKE_PARTITIONS",
        "maintenance_forget_keys": "TRELLIS_CHORE_FORGET_KEYS",
        "maintenance_forget_staged_points": "TRELLIS_CHORE_FORGET_STAGED_POINTS",
        "maintenance_expire_uploads": "TRELLIS_CHORE_EXPIRE_UPLOADS",
        "maintenance_remove_unreferenced": "TRELLIS_CHORE_REMOVE_UNREFERENCED",
        "maintenance_collect_orphans": "TRELLIS_CHORE_COLLECT_ORPHANS",
        "maintenance_reconcile_counters": "TRELLIS_CHORE_RECONCILE_COUNTERS",
        "maintenance_reconcile_credits": "TRELLIS_CHORE_RECONCILE_CREDITS",
    }

    database_url: str = Field(
        default="", description="PostgreSQL 18, `postgresql://user:password@host:port/name`. Empty: `trellis up` starts its own."
    )
    database_pool_size: int = Field(default=20, ge=2, description="Connections a process keeps to PostgreSQL.")
    database_read_concurrency: int = Field(
        default=12, ge=1, description="Reads one process runs at once, so that a wide query cannot drain the pool."
    )
    statement_timeout: float = Field(default=10.0, gt=0, description="Seconds after which PostgreSQL cancels a statement of the API.")
    idle_transaction_timeout: float = Field(
        default=5.0,
        gt=0,
        description="Seconds after which PostgreSQL ends an idle transaction; workers use half their lease where that is shorter.",
    )
    redis_url: str = Field(default="", description="Redis or Valkey, `redis://:password@host:port/0`. Empty: `trellis up` starts its own.")
    s3_endpoint_url: str = Field(
        default="", description="S3 endpoint as the API and the workers reach it. Empty: `trellis up` starts its own."
    )
    s3_public_url: str = Field(
        default="", description="S3 endpoint as clients reach it, used in presigned URLs. Empty: the same as `TRELLIS_S3_ENDPOINT_URL`."
    )
    s3_bucket: str = Field(
        default="trellis", min_length=3, description="Bucket that holds every object; created at start where it is missing."
    )
    s3_region: str = Field(default="us-east-1", description="Region for which requests are signed.")
    s3_access_key_id: str = Field(default="", description="Key id of the S3 account.")
    s3_secret_access_key: SecretStr = Field(default=SecretStr(""), description="Secret of the S3 account.")
    session_revalidation_interval: float = Field(
        default=30.0,
        gt=0,
        description="Seconds between checks that the viewers of open connections are still signed in and may still see what they subscribe to.",
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="Key of the tokens in mails, of the secrets of second factors and of the links to items, 32 characters or more, the same for the"
        " API and the workers. Empty: `trellis up` generates one and keeps it in `<data-dir>/secret-key`; else no password can be reset, nobody can register, and no"
        " second factor can be added.",
    )
    smtp_url: SecretStr = Field(
        default=SecretStr(""),
        description="Mail server, `smtp://user:password@host:587` (with STARTTLS where it is offered) or `smtps://…`. Empty: mails wait, and"
        " `trellis mail` shows them.",
    )
    mail_from: str = Field(default="Trellis <trellis@localhost>", description="Sender of mails.")
    digest_hour: int = Field(
        default=7,
        ge=0,
        le=23,
        description="Hour of the day, in UTC, from which the digests of events are mailed; those of the week on Monday.",
    )
    public_url: str = Field(
        default="",
        description="Address of the pages that mails link to: `<url>/reset-password#token=…`, `/verify-email` and `/register`. The API serves them,"
        " too. Its host is the one that passkeys are bound to, and links to items begin with it. Empty: mails name the mutation that takes the token, links"
        " to items are paths at the API, and passkeys work at `http://localhost` alone.",
    )
    registration: Literal["closed", "invited", "open"] = Field(
        default="closed",
        description="Who may register: nobody, so that operators add all users (`closed`); those whom an admin invited (`invited`); or"
        " everybody (`open`). Addresses are verified by mail.",
    )
    session_lifetime: float = Field(
        default=2_592_000.0, gt=0, description="Seconds after which a session, which a sign-in with a password begins, ends in any case."
    )
    session_idle_timeout: float = Field(
        default=604_800.0, ge=300, description="Seconds without use after which a session ends. Settings of sessions hold for new ones."
    )
    sign_in_retention: float = Field(
        default=7_776_000.0,
        gt=0,
        description="Seconds for which sign-ins stay in their history, sessions that are over and mails are kept, and devices that are not used are"
        " known. Sign-ins and mails have settings of their own, `TRELLIS_RETENTION_LOGIN_EVENTS` and `TRELLIS_RETENTION_MAILS`.",
    )
    audit_retention: float | None = Field(
        default=None,
        ge=2_678_400.0,
        description="Seconds for which events of the audit are kept, at least 31 days; empty: for ever. Months that are over as a whole are dropped by"
        " the daily check of the audit. Their seals stay, so a longer retention, set later, has the check report the events as missing.",
    )
    deleted_account_retention: float = Field(
        default=2_592_000.0,
        gt=0,
        description="Seconds for which a deleted account can be restored: 30 days. Then it is purged.",
    )
    deletion_retention: float = Field(
        default=2_592_000.0,
        gt=0,
        description="Seconds for which what was deleted can be restored, from its deletion: 30 days. Then it is purged. A change holds for what is deleted later.",
    )
    api_request_retention: float = Field(
        default=2_592_000.0,
        gt=0,
        description="Seconds for which operations are kept one by one, with addresses and user agents. Months that are over as a whole are dropped"
        " at once.",
    )
    api_metrics_retention: float = Field(
        default=34_214_400.0,
        gt=0,
        description="Seconds for which the hourly sums of operations are kept, which `apiUsage` reads: 13 months.",
    )
    retention_job_events: Days | None = Field(
        default=None,
        description="Days after its end for which all events of a job are kept, its log among them, at least 1; empty: for ever. The last event, which"
        " tells how it ended, always stays. Months are dropped as a whole once all of their jobs are past it.",
    )
    retention_metric_points: Days | None = Field(
        default=None,
        description="Days after its end for which the metric points of a run are kept, at least 1; empty: for ever. The summary of each metric always"
        " stays. Months are dropped as a whole once all of their runs are past it.",
    )
    retention_login_events: Days | None = Field(
        default=None,
        description="Days for which sign-ins stay in their history, at least 1; empty: for `TRELLIS_SIGN_IN_RETENTION`.",
    )
    retention_mails: Days | None = Field(
        default=None,
        description="Days for which the rows of mails are kept, at least 1; empty: for `TRELLIS_SIGN_IN_RETENTION`.",
    )
    retention_notifications: Days | None = Field(
        default=90.0, description="Days for which notifications are kept, read or not, at least 1; empty: for ever."
    )
    retention_deliveries: Days | None = Field(
        default=30.0,
        description="Days for which deliveries to webhooks are kept, with what receivers answered, at least 1; empty: for ever.",
    )
    retention_payment_events: Annotated[float, Field(ge=30)] | None = Field(
        default=90.0,
        description="Days for which the ids of the payment provider's events are kept, which take effect once because of them, at least 30; empty: for"
        " ever. The ledger stays.",
    )
    retention_archive: bool = Field(
        default=False,
        description="Whether months of job events and metric points are written to the bucket as Parquet, under `archive/`, before they are dropped. Then"
        " nothing of a month goes before all of it can. What belonged to a deleted account stays in the archives.",
    )
    upload_max_bytes: int = Field(
        default=10 * MAX_PUT_BYTES,
        gt=0,
        le=MAX_OBJECT_BYTES,
        description="Largest file that `requestUpload` accepts, in bytes: 50 GiB. More than 5 GiB are sent in parts, because S3 takes no more in"
        " one PUT.",
    )
    teams_per_user: int = Field(default=3, ge=0, description="Teams that one user may have made that are not deleted.")
    memberships_per_user: int = Field(
        default=50,
        ge=1,
        description="Teams that one user may be in: they are read with each of their requests, and their lists read each of them.",
    )
    storage_quota_bytes: int = Field(
        default=1024**4, ge=0, description="Bytes that one user may store, pending uploads included. 0: no limit."
    )
    storage_quotas: dict[str, NonNegativeInt] = Field(
        default_factory=dict[str, int],
        description='Bytes that one user may store, by tier, as JSON: `{"pro": 5497558138880, "enterprise": 0}`. 0: no limit. A tier left out has'
        " `TRELLIS_STORAGE_QUOTA_BYTES`; a quota that an admin gave to a user replaces both.",
    )
    import_allowed_networks: list[str] = Field(
        default_factory=list[str],
        description='Networks besides the public Internet from which files may be imported, as JSON: `["10.1.2.0/24"]`. In them, also without TLS.'
        " Everybody who may import then reaches all servers there, so name as few addresses as possible.",
    )
    webhook_allowed_networks: list[str] = Field(
        default_factory=list[str],
        description='Networks besides the public Internet to which webhooks may be sent, as JSON: `["10.1.2.0/24"]`. In them, also without TLS. Everybody'
        " who may create webhooks then reaches all servers there, so name as few addresses as possible.",
    )
    import_s3_locations: list[str] = Field(
        default_factory=list[str],
        description='Locations in S3 from which `s3://bucket/key` may be imported, with the credentials of the object store, as JSON: `["bucket/prefix"]`.'
        " Everybody may read what is there. Never the bucket of Trellis itself.",
    )
    import_schedules_per_dataset: int = Field(default=10, ge=0, description="Schedules by which files are imported into one dataset.")
    upload_expires: int = Field(default=900, ge=60, le=604_800, description="Seconds for which an upload's presigned URL is valid.")
    upload_parts_expire: int = Field(
        default=604_800,
        ge=60,
        description="Seconds for which an upload in parts stays open: a week. The URL of each part is valid for less.",
    )
    upload_grace: float = Field(
        default=86_400.0, ge=0, description="Seconds for which an upload may still be completed after its URL has expired."
    )
    export_retention: float = Field(
        default=604_800.0, gt=0, description="Seconds for which the files of an export are kept once it is complete: 7 days."
    )
    max_tries: int = Field(default=3, ge=1, description="Tries of a job before it is FAILED, unless its submission says otherwise.")
    user_concurrency_limits: dict[str, NonNegativeInt] = Field(
        default_factory=_PER_TIER.copy,
        description="Concurrency limit: jobs of one user that run at once, by tier, as JSON; a tier left out keeps its default. 0: no limit.",
    )
    queue_concurrency_limits: dict[str, NonNegativeInt] = Field(
        default_factory=dict[str, int],
        description='Concurrency limit: jobs of a queue that run at once on all workers together, as JSON: `{"video": 2}`. 0, or left out: no limit.',
    )
    priority_limits: dict[str, Annotated[int, Field(ge=DEFAULT_PRIORITY, le=MAX_PRIORITY)]] = Field(
        default_factory=dict[str, int],
        description=f'Highest priority of a job, by the tier of its owner, as JSON: `{{"free": 5, "pro": 8}}`, each from {DEFAULT_PRIORITY}, the'
        f" default of a job, to {MAX_PRIORITY}. A tier left out: {MAX_PRIORITY}.",
    )
    credit_prices: dict[str, int] = Field(
        default_factory=dict[str, int],
        description='Credits that a job costs, by its kind, as JSON: `{"TRAIN": 10}`. Held when it is submitted, charged when it completes,'
        " released when it ends otherwise. Left out, or 0: nothing.",
    )
    low_credits: int = Field(
        default=100,
        ge=0,
        description="An account that can spend fewer credits than this is low on them, as `credits { lowSince }` tells from the next change of them on."
        " 0: never.",
    )
    payment_provider: Literal["manual", "stripe"] = Field(
        default="manual",
        description="How packages of credits are bought: not by people themselves, an admin grants them (`manual`), or by a checkout at Stripe (`stripe`),"
        " which needs `TRELLIS_STRIPE_SECRET_KEY`, `TRELLIS_STRIPE_WEBHOOK_SECRET` and `TRELLIS_PUBLIC_URL`.",
    )
    stripe_secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="Secret key of the account at Stripe, with which checkouts are made: `sk_…`, or a restricted `rk_…`.",
    )
    stripe_webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Signing secret, `whsec_…`, of the endpoint `<TRELLIS_PUBLIC_URL>/hooks/stripe` at Stripe. Empty: there is no such address.",
    )
    stripe_api_url: str = Field(default="https://api.stripe.com", description="Address of Stripe's API, such as a proxy on the way to it.")
    worker_heartbeat_timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without a heartbeat after which a worker is marked as stopped; set it well above the lease.",
    )
    run_silence: float = Field(
        default=86_400.0,
        gt=0,
        description="Seconds without a write after which an external run, of code outside of Trellis, is taken for abandoned and FAILED: a day.",
    )
    orphan_age: float = Field(
        default=86_400.0,
        ge=0,
        description="Minimum age in seconds, by the store's clock, at which an object that no row refers to is removed.",
    )
    maintenance_retire_workers: Interval = Field(
        default=60.0, description="Seconds between runs that mark workers without a heartbeat as stopped. 0: never."
    )
    maintenance_make_partitions: Interval = Field(
        default=3_600.0, description="Seconds between runs that create the partitions of the months ahead. 0: never."
    )
    maintenance_forget_keys: Interval = Field(
        default=3_600.0, description="Seconds between removals of idempotency keys older than a day. 0: never."
    )
    maintenance_forget_staged_points: Interval = Field(
        default=600.0, description="Seconds between removals of staged metric points that were never settled. 0: never."
    )
    maintenance_send_mail: Interval = Field(default=5.0, description="Seconds between runs that send the mails that wait. 0: never.")
    maintenance_make_digests: Interval = Field(
        default=60.0, description="Seconds between runs that make the digests of events that are due, see `TRELLIS_DIGEST_HOUR`. 0: never."
    )
    maintenance_forget_sign_ins: Interval = Field(
        default=3_600.0,
        description="Seconds between removals of sign-ins, sessions, mails and invitations older than `TRELLIS_SIGN_IN_RETENTION`, and of"
        " registrations that were not verified within 48 hours. 0: never.",
    )
    maintenance_purge_accounts: Interval = Field(
        default=3_600.0,
        description="Seconds between runs that purge accounts deleted longer ago than `TRELLIS_DELETED_ACCOUNT_RETENTION`, their objects first."
        " 0: never.",
    )
    maintenance_purge_deleted: Interval = Field(
        default=60.0,
        description="Seconds between runs that purge what was deleted longer ago than `TRELLIS_DELETION_RETENTION`, or given up by `purge`. 0: never.",
    )
    maintenance_forget_api_usage: Interval = Field(
        default=3_600.0,
        description="Seconds between removals of operations older than `TRELLIS_API_REQUEST_RETENTION`, and of their sums older than"
        " `TRELLIS_API_METRICS_RETENTION`. 0: never.",
    )
    maintenance_forget_notifications: Interval = Field(
        default=3_600.0,
        description="Seconds between removals of notifications past `TRELLIS_RETENTION_NOTIFICATIONS`, and of deliveries past"
        " `TRELLIS_RETENTION_DELIVERIES`. 0: never.",
    )
    maintenance_apply_retention: Interval = Field(
        default=3_600.0,
        description="Seconds between removals of job events and metric points whose retention is over. 0: never.",
    )
    maintenance_schedule_studies: Interval = Field(
        default=10.0,
        description="Seconds between runs that schedule the studies of which a process died before it did, and end those whose time is over. 0: never.",
    )
    maintenance_abandon_runs: Interval = Field(
        default=300.0,
        description="Seconds between runs that end the external runs which are abandoned, see `TRELLIS_RUN_SILENCE`. 0: never.",
    )
    maintenance_run_import_schedules: Interval = Field(
        default=15.0, description="Seconds between runs that start the imports that are due. 0: never."
    )
    maintenance_expire_uploads: Interval = Field(
        default=300.0, description="Seconds between runs that expire uploads that were never completed. 0: never."
    )
    maintenance_complete_artifacts: Interval = Field(
        default=10.0,
        description="Seconds between runs that complete the files of external runs which are large or whose sender said nothing more, and forget those that"
        " did not arrive. 0: never.",
    )
    maintenance_expire_exports: Interval = Field(
        default=300.0, description="Seconds between removals of the files of expired exports. 0: never."
    )
    maintenance_remove_unreferenced: Interval = Field(
        default=3_600.0, description="Seconds between removals of stored objects without references. 0: never."
    )
    maintenance_collect_orphans: Interval = Field(
        default=86_400.0, description="Seconds between scans of the bucket for objects that no row refers to. 0: never."
    )
    maintenance_reconcile_counters: Interval = Field(
        default=86_400.0,
        description="Seconds between recounts of what users own and store, and of references to objects. Drift is corrected, logged as"
        " `counter_drift_corrected` and counted in `trellis_maintenance_changed`. 0: never.",
    )

    maintenance_reconcile_credits: Interval = Field(
        default=86_400.0, description="Seconds between checks of users' credit balances against the ledger. 0: never."
    )

    maintenance_seal_audit: Interval = Field(
        default=60.0, description="Seconds between runs that seal the events of the audit made since. 0: never."
    )
    maintenance_verify_audit: Interval = Field(
        default=86_400.0,
        description="Seconds between checks of the audit against its seals, as `trellis audit verify` makes them. 0: never.",
    )

    def highest_priority(self, tier: UserTier) -> int:
        """The highest priority of a job whose owner has this tier."""
        return self.priority_limits.get(tier.value, MAX_PRIORITY)

    @field_validator("import_allowed_networks", "webhook_allowed_networks")
    @classmethod
    def _check_networks(cls, networks: list[str]) -> list[str]:
        parse_networks(networks)
        return networks

    @field_validator("credit_prices", mode="before")
    @classmethod
    def _validate_prices(cls, value: object) -> dict[str, int]:
        return validate_prices(value)

    @field_validator("secret_key")
    @classmethod
    def _check_key(cls, key: SecretStr) -> SecretStr:
        if 0 < len(key.get_secret_value()) < MIN_KEY_LENGTH:
            raise ValueError(f"the key must have {MIN_KEY_LENGTH} characters or more")
        return key

    @model_validator(mode="after")
    def _check_payment(self) -> Self:
        names = ("stripe_secret_key", "stripe_webhook_secret", "public_url")
        missing = [f"TRELLIS_{name.upper()}" for name in names if not getattr(self, name)]
        if self.payment_provider == "stripe" and missing:
            raise ValueError(f"TRELLIS_PAYMENT_PROVIDER=stripe needs {', '.join(missing)} too.")
        return self

    @field_validator("smtp_url")
    @classmethod
    def _check_smtp_url(cls, url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if url.get_secret_value() and (parts.scheme not in {"smtp", "smtps"} or not parts.hostname):
            raise ValueError("write it as smtp://user:password@host:port or smtps://user:password@host:port")
        return url

    @field_validator("s3_endpoint_url", "s3_public_url")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        """Refuse at start what the S3 client would refuse when it is first used."""
        parts = urlsplit(url)
        if url and (parts.scheme not in {"http", "https"} or not re.fullmatch(r"[A-Za-z0-9.:-]+", parts.hostname or "")):
            raise ValueError("write it as https://host:port; a host's name has letters, digits, hyphens and dots")
        return url

    @field_validator("user_concurrency_limits")
    @classmethod
    def _fill_in_tiers(cls, limits: dict[str, int]) -> dict[str, int]:
        return {**_PER_TIER, **_check_names(limits, _TIERS, "tier", "tiers")}

    @field_validator("storage_quotas", "priority_limits")
    @classmethod
    def _check_tiers(cls, limits: dict[str, int]) -> dict[str, int]:
        return _check_names(limits, _TIERS, "tier", "tiers")

    @field_validator("queue_concurrency_limits")
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
