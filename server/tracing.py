"""OpenTelemetry spans of operations, their SQL statements and the attempts of jobs. Imported only where `TRELLIS_TRACING` is on.

The trace id of a job's attempts is the job's id, and the span of the operation that submitted the job links to it. So no trace context is
stored with the job, and its id finds the trace. Spans hold no texts of statements or documents.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Row, event
from sqlalchemy.engine import Engine

from db.core.work import Notice, NoticePublisher

if TYPE_CHECKING:
    from graph.execution.observation import Observation

_STARTED_AT = "trellis_span_started_at"
_CREATED_SEQUENCE = 1  # sequence of a job's first event

_traced_job_id: ContextVar[UUID | None] = ContextVar("job", default=None)


class _IdGenerator(RandomIdGenerator):
    """Random ids, except that the root span of an attempt has the job's id as trace id."""

    def generate_trace_id(self) -> int:
        job_id = _traced_job_id.get()
        return super().generate_trace_id() if job_id is None else job_id.int


class Spans:
    """The tracer of one process, with service name `service`. `processor` exports the spans, by default in batches by OTLP over HTTP."""

    def __init__(self, service: str, processor: SpanProcessor | None = None) -> None:
        if processor is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            processor = BatchSpanProcessor(OTLPSpanExporter())
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=_IdGenerator())
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("trellis")
        event.listen(Engine, "before_cursor_execute", self._before_cursor_execute)
        event.listen(Engine, "after_cursor_execute", self._after_cursor_execute)

    def close(self) -> None:
        """Flush pending spans and stop tracing statements."""
        event.remove(Engine, "before_cursor_execute", self._before_cursor_execute)
        event.remove(Engine, "after_cursor_execute", self._after_cursor_execute)
        self._provider.shutdown()

    def link_jobs(self, publisher: NoticePublisher) -> NoticePublisher:
        """Wrap the publisher so that an operation's span links to every job that it submits."""
        return _LinkingPublisher(publisher)

    def begin_operation(self, observation: Observation, headers: Mapping[str, str]) -> Span:
        """Start the span of an operation, in the trace of the client's `traceparent` if there is one.

        The span becomes the current one of this task and is not reset, since a task serves one operation.
        """
        parent = TraceContextTextMapPropagator().extract(headers)
        span = self._tracer.start_span("graphql", context=parent, kind=SpanKind.SERVER)
        span.set_attribute("trellis.request.id", observation.request_id)
        context.attach(trace.set_span_in_context(span))
        return span

    def end_operation(self, span: Span, observation: Observation) -> None:
        """End the span, named by type and name of the operation; unlike a metric's label, a span's name need not be bounded."""
        span.update_name(f"{observation.type} {observation.name}" if observation.name else observation.type)
        span.set_attribute("graphql.operation.type", observation.type)
        span.set_attribute("graphql.document.hash", observation.hash)
        if observation.name:
            span.set_attribute("graphql.operation.name", observation.name)
        if observation.error_codes:
            span.set_attribute("trellis.error.codes", sorted(set(observation.error_codes)))
        if observation.is_server_error:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    @contextmanager
    def attempt(self, job: Row[Any]) -> Generator[None]:
        """Trace one attempt; its statements are child spans."""
        token = _traced_job_id.set(job.id)
        try:
            span = self._tracer.start_span(
                f"job {job.kind.value}", context=trace.set_span_in_context(trace.INVALID_SPAN), kind=SpanKind.CONSUMER
            )
        finally:
            _traced_job_id.reset(token)
        span.set_attribute("trellis.job.id", f"job_{job.id.hex}")
        span.set_attribute("trellis.job.attempt", job.attempt)
        span.set_attribute("trellis.job.queue", job.queue)
        with trace.use_span(span, end_on_exit=True):
            yield

    def _before_cursor_execute(
        self, _connection: object, _cursor: object, _statement: object, _parameters: object, execution: Any, _many: object
    ) -> None:
        if execution is not None and trace.get_current_span().is_recording():
            setattr(execution, _STARTED_AT, time.time_ns())

    def _after_cursor_execute(
        self, _connection: object, _cursor: object, statement: str, _parameters: object, execution: Any, _many: object
    ) -> None:
        started_at = getattr(execution, _STARTED_AT, None)
        if started_at is not None:
            verb = statement.lstrip("( \n").split(None, 1)[0].upper()[:16]
            span = self._tracer.start_span(f"sql {verb}", kind=SpanKind.CLIENT, start_time=started_at)
            span.set_attribute("db.system.name", "postgresql")
            span.set_attribute("db.operation.name", verb)
            span.end()


class _LinkingPublisher:
    """Links the operation's span to the traces of the jobs that it submitted, and publishes the notices."""

    def __init__(self, publisher: NoticePublisher) -> None:
        self._publisher = publisher

    async def publish(self, notices: Sequence[Notice], revalidated: Sequence[UUID] = ()) -> None:
        span = trace.get_current_span()
        if span.is_recording():
            for notice in notices:
                if notice.sequence == _CREATED_SEQUENCE:
                    job_id = notice.job_id
                    span.add_link(
                        SpanContext(job_id.int, job_id.int & (2**64 - 1), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
                    )
        await self._publisher.publish(notices, revalidated)
