"""How an operator's commands print what they found: tables for people, one JSON object a line for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Row

if TYPE_CHECKING:
    from server.commands.desk import Account, Found, Listed

_COLOURS = {"COMPLETED": "green", "RUNNING": "cyan", "FAILED": "red", "CANCELLING": "yellow", "CANCELLED": "bright_black"}


def jobs(found: Sequence[Listed], *, as_json: bool) -> None:
    """A list of jobs."""
    if as_json:
        for each in found:
            _line(_job(each.job, each.owner, each.wait))
        return
    if not found:
        typer.echo("No job matches.")
        return
    table = _table("job", "status", "kind", "queue", "owner", "tries", "made", "took", "says")
    for each in found:
        job = each.job
        table.add_row(
            f"job_{job.id.hex}",
            _status(job.status.name),
            job.kind.value,
            job.queue,
            each.owner,
            f"{job.tries}/{job.max_tries}",
            _ago(job.created_at),
            _between(job.started_at, job.completed_at),
            Text(_says(job, each.wait)),
        )
    _print(table)


def job(found: Found, *, as_json: bool) -> None:
    """A job with all that belongs to it."""
    if as_json:
        whole = _job(found.job, found.owner, found.wait)
        whole["attempts"] = [_attempt(row) for row in found.attempts]
        whole["nodes"] = [_node(row) for row in found.nodes]
        whole["events"] = [_event(row) for row in found.events]
        _line(whole)
        return
    row = found.job
    facts = {
        "job": f"job_{row.id.hex}",
        "status": f"{row.status.name}, {row.progress} %",
        "says": _says(row, found.wait),
        "kind": f"{row.kind.value} in the queue {row.queue}, priority {row.priority}",
        "owner": found.owner,
        "tries": f"{row.tries} of {row.max_tries} used",
        "may run": f"{row.timeout_seconds:g} s an attempt" if row.timeout_seconds else "",
        "cost": f"{row.credit_cost} credits" if row.credit_cost else "",
        "retry of": f"job_{row.retry_of_id.hex}" if row.retry_of_id else "",
        "made": _when(row.created_at),
        "started": _when(row.started_at),
        "ended": _when(row.completed_at),
        "took": _between(row.started_at, row.completed_at),
    }
    typer.echo("\n".join(f"{name:<9} {value}" for name, value in facts.items() if value))
    if found.attempts:
        table = _table("attempt", "worker", "started", "took", "outcome", "error")
        for each in found.attempts:
            said = f"{each.failure['code']}: {each.failure['message']}" if each.failure else ""
            took = _between(each.started_at, each.ended_at)
            table.add_row(str(each.number), Text(each.worker), _when(each.started_at), took, each.outcome or "under way", Text(said))
        _print(table)
    if found.nodes:
        table = _table("node", "step", "status", "progress", "took")
        for each in found.nodes:
            took = _between(each.started_at, each.completed_at)
            table.add_row(Text(each.key), Text(each.step), _status(each.status.name), f"{each.progress} %", took)
        _print(table)
    for each in found.events:
        event(each, as_json=False)
    if row.failure and row.failure.get("traceback"):
        typer.echo(f"\n{row.failure['traceback'].rstrip()}")


def event(row: Row[Any], *, as_json: bool) -> None:
    """One event, as it comes."""
    if as_json:
        _line(_event(row))
        return
    told = row.message or row.step or ""
    text = told.replace("\n", "\n" + " " * 34)
    typer.echo(f"{_when(row.created_at)}  {row.sequence:>5}  {row.type.name:<16} {row.progress:>3} %  {text}".rstrip())


def chores(rows: Sequence[Row[Any]], *, as_json: bool) -> None:
    """The recurring tasks."""
    if as_json:
        for row in rows:
            _line(_record(row, "name", "worker", "started_at", "ended_at", "runs", "failures", "changed", "error"))
        return
    if not rows:
        typer.echo("No chore has run yet; a worker does them.")
        return
    table = _table("chore", "last run", "took", "runs", "failures", "changed", "worker", "error")
    for row in rows:
        took = "" if row.seconds is None or row.seconds < 0 else f"{row.seconds:.2f} s"
        counts = (str(row.runs), str(row.failures), str(row.changed))
        table.add_row(row.name, _ago(row.started_at), took, *counts, Text(row.worker or ""), Text(row.error or ""))
    _print(table)


def workers(rows: Sequence[Row[Any]], *, as_json: bool) -> None:
    """The worker processes."""
    if as_json:
        for row in rows:
            _line(_record(row, "id", "name", "live", "queues", "slots", "running", "started_at", "heartbeat_at", "stopped_at"))
        return
    if not rows:
        typer.echo("No worker gives a sign of life. Start one with `trellis worker`.")
        return
    table = _table("worker", "state", "slots used", "queues", "up for", "heard")
    for row in rows:
        state = "live" if row.live else "stopped" if row.stopped_at else "silent"
        up = _seconds(float(row.age)) if row.stopped_at is None else _between(row.started_at, row.stopped_at)
        table.add_row(Text(row.name), state, f"{row.running} of {row.slots}", ", ".join(row.queues), up, f"{row.silent:.1f} s ago")
    _print(table)


def credits(found: Account, *, as_json: bool) -> None:
    """What a user has, and how that came about."""
    if as_json:
        user = _record(found.user, "email", "credit_balance", "credits_held")
        _line({**user, "transactions": [_transaction(row) for row in found.lines]})
        return
    typer.echo(f"{found.user.email} can spend {found.user.credit_balance}; jobs under way hold {found.user.credits_held}.")
    if not found.lines:
        return
    table = _table("line", "kind", "amount", "held", "to spend", "all held", "job", "when", "note")
    for row in found.lines:
        moved = (f"{row.amount:+d}" if row.amount else "", f"{row.held:+d}" if row.held else "")
        after = (str(row.balance_after), str(row.held_after))
        job = f"job_{row.job_id.hex}" if row.job_id else ""
        table.add_row(str(row.sequence), row.kind.value, *moved, *after, job, _when(row.created_at), Text(row.note or ""))
    _print(table)


def _job(row: Row[Any], owner: str, wait: Row[Any] | None) -> dict[str, Any]:
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


def _attempt(row: Row[Any]) -> dict[str, Any]:
    return {**_record(row, "number", "worker", "started_at", "heartbeat_at", "ended_at", "outcome"), "error": row.failure}


def _node(row: Row[Any]) -> dict[str, Any]:
    return {**_record(row, "key", "step", "progress", "started_at", "completed_at"), "status": row.status.name, "error": row.failure}


def _event(row: Row[Any]) -> dict[str, Any]:
    words = {"type": row.type.name, "status": row.status.name}
    return {**_record(row, "sequence", "attempt", "progress", "step", "message", "data", "created_at"), **words}


def _transaction(row: Row[Any]) -> dict[str, Any]:
    names = ("sequence", "amount", "held", "balance_after", "held_after", "note", "created_at")
    return {"kind": row.kind.name, **_record(row, *names), "job": f"job_{row.job_id.hex}" if row.job_id else None}


def _record(row: Row[Any], *names: str) -> dict[str, Any]:
    """These columns, named as the graph names them."""
    return {_camel(name): getattr(row, name) for name in names}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _line(found: Mapping[str, Any]) -> None:
    typer.echo(orjson.dumps(found, option=orjson.OPT_UTC_Z, default=str).decode())


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in {"job", "status"}, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: whole cells, for whoever reads them
        console = Console(highlight=False, width=250)
    console.print(table)


def _status(name: str) -> Text:
    return Text(name, style=_COLOURS.get(name, ""))


def _says(row: Row[Any], wait: Row[Any] | None) -> str:
    """In a few words, what there is to know of where it stands."""
    failed = ""
    if row.failure and (wait is not None or row.status.name == "FAILED"):
        failed = f"{row.failure['code']}: {row.failure['message']}"
    if wait is not None:
        place = f", place {wait.position}" if wait.position is not None else ""
        until = f" until {_when(row.run_after)}" if wait.reason == "retry_backoff" else ""
        return ". ".join(_present((f"waits: {wait.reason}{place}{until}", failed)))
    return failed or row.current_step or ""


def _present(parts: Iterable[str]) -> Iterable[str]:
    return (part for part in parts if part)


def _when(time: datetime | None) -> str:
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _ago(time: datetime | None) -> str:
    return "" if time is None else f"{_seconds((datetime.now(UTC) - time).total_seconds())} ago"


def _between(began: datetime | None, ended: datetime | None) -> str:
    return "" if began is None else _seconds(((ended or datetime.now(UTC)) - began).total_seconds())


def _seconds(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.1f} s"
