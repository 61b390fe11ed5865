"""Work one step ahead of its reader, in a thread: numpy and the decoders let go of the interpreter's lock."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_PUT_TIMEOUT = 0.2  # seconds between two looks at whether anybody still reads


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items; at most two wait. What the thread raises is raised here, and it ends when the reader does."""
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
        except BaseException as error:  # noqa: BLE001 - carried to the reader's thread
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
