"""Prefetching iterator: produces items in a thread. numpy and the decoders release the GIL."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_PUT_TIMEOUT = 0.2  # seconds between checks whether the consumer is gone


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items, at most two ahead. The thread's exceptions are re-raised here; it ends when the consumer closes the generator."""
    buffer: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=1)
    is_cancelled = threading.Event()

    def put(item: tuple[T] | BaseException | None) -> bool:
        while not is_cancelled.is_set():
            with suppress(queue.Full):
                buffer.put(item, timeout=_PUT_TIMEOUT)
                return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
        except BaseException as error:  # noqa: BLE001 - re-raised in the consumer's thread
            put(error)
        else:
            put(None)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := buffer.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        is_cancelled.set()
        thread.join()
