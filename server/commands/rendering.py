"""Output of the operator's commands: tables for people, one JSON object a line for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Row

from db.core.queues import named_queues
from db.core.viewer import ROLE_SCOPES, ApiScope
from db.queries.accounts import COUNTED

if TYPE_CHECKING:
    from db.queries.retention import Forecast
    from server.commands.operations import CreditAccount, JobDetails, JobListEntry
    from server.commands.retention_operations import Removal

_STATUS_COLOURS = {"COMPLETED": "green", "RUNNING": "cyan", "FAILED": "red", "CANCELLING": "yellow", "CANCELLED": "bright_black"}


def print_jobs(entries: Sequence[JobListEntry], *, as_json: bool) -> None:
    """Print a page of jobs."""
    if as_json:
        for entry in entries:
            _print_json_line(_job_record(entry.job, entry.owner, entry.wait))
        return
    if not entries:
        typer.echo("No job matches.")
        return
    table = _table("job", "status", "kind", "queue", "owner", "tries", "created", "took", "detail")
    for entry in entries:
        job = entry.job
        table.add_row(
            f"job_{job.id.hex}",
            _status(job.status.name),
            job.kind.value,
            job.queue,
            entry.owner,
            f"{job.tries}/{job.max_tries}",
            _format_age(job.created_at),
            _format_duration(job.started_at, job.completed_at),
            Text(_describe(job, entry.wait)),
        )
    _print_table(table)


def print_job(details: JobDetails, *, as_json: bool) -> None:
    """Print a job with its attempts, nodes and events."""
    if as_json:
        record = _job_record(details.job, details.owner, details.wait)
        record["attempts"] = [_attempt_record(row) for row in details.attempts]
        record["nodes"] = [_node_record(row) for row in details.nodes]
        record["events"] = [_event_record(row) for row in details.events]
        _print_json_line(record)
        return
    row = details.job
    fields = {
        "job": f"job_{row.id.hex}",
        "status": f"{row.status.name}, {row.progress} %",
        "detail": _describe(row, details.wait),
        "kind": f"{row.kind.value} in the queue {row.queue}, priority {row.priority}",
        "owner": details.owner,
        "tries": f"{row.tries} of {row.max_tries} used",
        "timeout": f"{row.timeout_seconds:g} s an attempt" if row.timeout_seconds else "",
        "cost": f"{row.credit_cost} credits" if row.credit_cost else "",
        "retry of": f"job_{row.retry_of_id.hex}" if row.retry_of_id else "",
        "created": _format_time(row.created_at),
        "started": _format_time(row.started_at),
        "ended": _format_time(row.completed_at),
        "took": _format_duration(row.started_at, row.completed_at),
    }
    typer.echo("\n".join(f"{name:<9} {value}" for name, value in fields.items() if value))
    if details.attempts:
        table = _table("attempt", "worker", "started", "took", "outcome", "error")
        for each in details.attempts:
            error_text = f"{each.failure['code']}: {each.failure['message']}" if each.failure else ""
            took = _format_duration(each.started_at, each.ended_at)
            table.add_row(
                str(each.number), Text(each.worker), _format_time(each.started_at), took, each.outcome or "running", Text(error_text)
            )
        _print_table(table)
    if details.nodes:
        table = _table("node", "step", "status", "progress", "took")
        for each in details.nodes:
            took = _format_duration(each.started_at, each.completed_at)
            table.add_row(Text(each.key), Text(each.step), _status(each.status.name), f"{each.progress} %", took)
        _print_table(table)
    for each in details.events:
        print_event(each, as_json=False)
    if row.failure and row.failure.get("traceback"):
        typer.echo(f"\n{row.failure['traceback'].rstrip()}")


def print_event(row: Row[Any], *, as_json: bool) -> None:
    """Print one event."""
    if as_json:
        _print_json_line(_event_record(row))
        return
    data: Mapping[str, Any] = row.data or {}
    nodes = ", ".join(str(node["key"]) for node in data.get("nodes", ()))
    summary = ": ".join(_non_empty((nodes, row.message or row.step or "")))
    text = summary.replace("\n", "\n" + " " * 34)
    typer.echo(f"{_format_time(row.created_at)}  {row.sequence:>5}  {row.type.name:<16} {row.progress:>3} %  {text}".rstrip())


def print_maintenance(rows: Sequence[Row[Any]], *, as_json: bool) -> None:
    """Print the maintenance tasks and their last runs."""
    if as_json:
        for row in rows:
            _print_json_line(_record(row, "name", "worker", "started_at", "ended_at", "runs", "failures", "changed", "error"))
        return
    if not rows:
        typer.echo("No maintenance task has run yet; workers run them.")
        return
    table = _table("task", "last run", "took", "runs", "failures", "changed", "worker", "error")
    for row in rows:
        took = "" if row.seconds is None or row.seconds < 0 else f"{row.seconds:.2f} s"
        counts = (str(row.runs), str(row.failures), str(row.changed))
        table.add_row(row.name, _format_age(row.started_at), took, *counts, Text(row.worker or ""), Text(row.error or ""))
    _print_table(table)


def print_workers(rows: Sequence[Row[Any]], *, as_json: bool) -> None:
    """Print the worker processes."""
    if as_json:
        for row in rows:
            record = _record(row, "id", "name", "live", "queues", "slots", "running", "started_at", "heartbeat_at", "stopped_at")
            _print_json_line({**record, "queues": named_queues(row.queues)})
        return
    if not rows:
        typer.echo("No worker is alive. Start one with `trellis worker`.")
        return
    table = _table("worker", "state", "slots used", "queues", "up for", "last heartbeat")
    for row in rows:
        state = "live" if row.live else "stopped" if row.stopped_at else "silent"
        up = _format_seconds(float(row.age)) if row.stopped_at is None else _format_duration(row.started_at, row.stopped_at)
        table.add_row(
            Text(row.name), state, f"{row.running} of {row.slots}", ", ".join(named_queues(row.queues)), up, f"{row.silent:.1f} s ago"
        )
    _print_table(table)


def print_credits(account: CreditAccount, *, as_json: bool) -> None:
    """Print a user's balance and their last ledger entries."""
    if as_json:
        user = _record(account.user, "email", "credit_balance", "credits_held")
        _print_json_line({**user, "transactions": [_transaction_record(row) for row in account.entries]})
        return
    typer.echo(f"{account.user.email} can spend {account.user.credit_balance}; unfinished jobs hold {account.user.credits_held}.")
    if not account.entries:
        return
    table = _table("entry", "kind", "amount", "held", "balance", "total held", "job", "when", "note")
    for row in account.entries:
        changes = (f"{row.amount:+d}" if row.amount else "", f"{row.held:+d}" if row.held else "")
        after = (str(row.balance_after), str(row.held_after))
        job = f"job_{row.job_id.hex}" if row.job_id else ""
        table.add_row(str(row.sequence), row.kind.value, *changes, *after, job, _format_time(row.created_at), Text(row.note or ""))
    _print_table(table)


def print_users(rows: Sequence[Row[Any]], *, as_json: bool) -> None:
    """Print a page of users."""
    if as_json:
        for row in rows:
            _print_json_line(_user_record(row))
        return
    if not rows:
        typer.echo("No user.")
        return
    table = _table("email", "username", "role", "tier", "created", "access")
    for row in rows:
        table.add_row(
            Text(row.email), Text(row.username), row.role.name, row.tier.name, _format_time(row.created_at), _access(row.disabled_at)
        )
    _print_table(table)


def print_user(user: Row[Any], counts: Row[Any], storage: Row[Any], tokens: Sequence[Row[Any]], *, as_json: bool) -> None:
    """Print a user with what they own and store, and their tokens."""
    numbers = {name: getattr(counts, name) for name in COUNTED}
    if as_json:
        use = _record(storage, "used_bytes", "pending_bytes", "quota_bytes")
        _print_json_line({**_user_record(user), "stats": numbers, "storage": use, "tokens": [_token_record(row) for row in tokens]})
        return
    pending = f" and {storage.pending_bytes} pending" if storage.pending_bytes else ""
    quota = "" if storage.quota_bytes is None else f" of {storage.quota_bytes}"
    fields = {
        "email": user.email,
        "username": user.username,
        "full name": user.full_name or "",
        "role": user.role.name,
        "tier": user.tier.name,
        "access": _access(user.disabled_at),
        "owns": ", ".join(f"{number} {name}" for name, number in numbers.items()),
        "stores": f"{storage.used_bytes}{pending}{quota} bytes",
        "credits": f"{user.credit_balance}, and {user.credits_held} held" if user.credit_balance or user.credits_held else "",
        "created": _format_time(user.created_at),
    }
    typer.echo("\n".join(f"{name:<9} {value}" for name, value in fields.items() if value))
    if tokens:
        print_tokens(tokens, as_json=False)


def print_tokens(rows: Sequence[Row[Any]], *, as_json: bool) -> None:
    """Print a page of tokens."""
    if as_json:
        for row in rows:
            _print_json_line(_token_record(row))
        return
    if not rows:
        typer.echo("No token.")
        return
    table = _table("token", "user", "name", "scopes", "points", "created", "expires", "last used", "state")
    for row in rows:
        state = "valid" if row.is_valid else "revoked" if row.revoked_at else "expired"
        used = _format_age(row.last_used_at) or "never"
        expires = _format_time(row.expires_at) or "never"
        rights = (", ".join(_scope_names(row)), str(row.points_per_minute or ""))
        table.add_row(Text(f"{row.prefix}…"), Text(row.email), Text(row.name), *rights, _format_time(row.created_at), expires, used, state)
    _print_table(table)


def print_mails(rows: Sequence[Row[Any]], *, as_json: bool) -> None:
    """Print a page of mails."""
    if as_json:
        for row in rows:
            _print_json_line(_record(row, "id", "address", "template", "status", "tries", "created_at", "sent_at", "error"))
        return
    if not rows:
        typer.echo("No mail.")
        return
    table = _table("mail", "to", "template", "status", "tries", "created", "sent", "error")
    for row in rows:
        created, sent = _format_time(row.created_at), _format_time(row.sent_at)
        table.add_row(
            str(row.id), Text(row.address), row.template.name, row.status.name, str(row.tries), created, sent, Text(row.error or "")
        )
    _print_table(table)


def print_forecasts(forecasts: Sequence[Forecast], *, as_json: bool) -> None:
    """Print what the retention would remove, by table."""
    if as_json:
        for each in forecasts:
            _print_json_line({_camel(name): value for name, value in asdict(each).items()})
        return
    table = _table("table", "kept for", "rows to go", "bytes to go", "months to go", "oldest kept", "setting")
    for each in forecasts:
        kept = "ever" if each.days is None else f"{each.days:g} days"
        months = ", ".join(name.removeprefix(f"{each.table}_").replace("_", "-") for name in each.partitions)
        sizes = (f"{each.rows:,}", f"{each.size_bytes:,}")
        table.add_row(each.table, kept, *sizes, months, _format_time(each.oldest_kept), each.setting)
    _print_table(table)


def print_removals(removals: Sequence[Removal], *, as_json: bool) -> None:
    """Print what the retention has removed, by table."""
    if as_json:
        for each in removals:
            _print_json_line(asdict(each))
        return
    table = _table("table", "rows removed", "months dropped")
    for each in removals:
        table.add_row(each.table, f"{each.rows:,}", str(each.partitions))
    _print_table(table)


def _access(disabled_at: datetime | None) -> str:
    return "enabled" if disabled_at is None else f"disabled since {_format_time(disabled_at)}"


def _user_record(row: Row[Any]) -> dict[str, Any]:
    names = ("email", "username", "full_name", "storage_bytes", "credit_balance", "credits_held", "created_at", "disabled_at")
    return {"id": f"user_{row.id.hex}", **_record(row, *names), "role": row.role.name, "tier": row.tier.name}


def _token_record(row: Row[Any]) -> dict[str, Any]:
    names = ("id", "prefix", "name", "email", "is_valid", "points_per_minute", "created_at", "expires_at", "last_used_at", "revoked_at")
    return {**_record(row, *names), "scopes": _scope_names(row)}


def _scope_names(row: Row[Any]) -> list[str]:
    """The scopes of a token, as far as the role of its user allows them."""
    return [scope.name for scope in map(ApiScope, row.scopes) if scope in ROLE_SCOPES[row.role]]


def _job_record(row: Row[Any], owner: str, wait: Row[Any] | None) -> dict[str, Any]:
    names = ("progress", "current_step", "queue", "priority", "attempt", "tries", "max_tries", "timeout_seconds", "credit_cost")
    times = ("run_after", "created_at", "queued_at", "started_at", "completed_at")
    return {
        "id": f"job_{row.id.hex}",
        "status": row.status.name,
        "kind": row.kind.name,
        "owner": owner,
        **_record(row, *names, *times),
        "retryOf": f"job_{row.retry_of_id.hex}" if row.retry_of_id else None,
        "waitReason": wait.reason.upper() if wait is not None else None,
        "queuePosition": wait.position if wait is not None else None,
        "error": row.failure,
    }


def _attempt_record(row: Row[Any]) -> dict[str, Any]:
    return {**_record(row, "number", "worker", "started_at", "heartbeat_at", "ended_at", "outcome"), "error": row.failure}


def _node_record(row: Row[Any]) -> dict[str, Any]:
    return {**_record(row, "key", "step", "progress", "started_at", "completed_at"), "status": row.status.name, "error": row.failure}


def _event_record(row: Row[Any]) -> dict[str, Any]:
    enum_names = {"type": row.type.name, "status": row.status.name}
    return {**_record(row, "sequence", "attempt", "progress", "step", "message", "data", "created_at"), **enum_names}


def _transaction_record(row: Row[Any]) -> dict[str, Any]:
    names = ("sequence", "amount", "held", "balance_after", "held_after", "note", "created_at")
    return {"kind": row.kind.name, **_record(row, *names), "job": f"job_{row.job_id.hex}" if row.job_id else None}


def _record(row: Row[Any], *names: str) -> dict[str, Any]:
    """These columns under their GraphQL names (camelCase)."""
    return {_camel(name): getattr(row, name) for name in names}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _print_json_line(record: Mapping[str, Any]) -> None:
    typer.echo(orjson.dumps(record, option=orjson.OPT_UTC_Z, default=str).decode())


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in {"job", "status"}, overflow="fold")
    return table


def _print_table(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width, and cells must not be cut
        console = Console(highlight=False, width=250)
    console.print(table)


def _status(name: str) -> Text:
    return Text(name, style=_STATUS_COLOURS.get(name, ""))


def _describe(row: Row[Any], wait: Row[Any] | None) -> str:
    """Why a job waits or how it failed, or its current step."""
    failure = ""
    if row.failure and (wait is not None or row.status.name == "FAILED"):
        failure = f"{row.failure['code']}: {row.failure['message']}"
    if wait is not None:
        place = f", place {wait.position}" if wait.position is not None else ""
        until = f" until {_format_time(row.run_after)}" if wait.reason == "retry_backoff" else ""
        return ". ".join(_non_empty((f"waits: {wait.reason}{place}{until}", failure)))
    return failure or row.current_step or ""


def _non_empty(parts: Iterable[str]) -> Iterable[str]:
    return (part for part in parts if part)


def _format_time(time: datetime | None) -> str:
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _format_age(time: datetime | None) -> str:
    return "" if time is None else f"{_format_seconds((datetime.now(UTC) - time).total_seconds())} ago"


def _format_duration(began: datetime | None, ended: datetime | None) -> str:
    return "" if began is None else _format_seconds(((ended or datetime.now(UTC)) - began).total_seconds())


def _format_seconds(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.1f} s"
