"""Work one step ahead of its reader, in a thread: numpy and the decoders let go of the interpreter's lock."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_PATIENCE = 0.2  # seconds between two looks at whether anybody still reads


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; at most two wait. What the thread raises is raised here, and it ends when the reader does."""
    ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=1)
    is_left = threading.Event()

    def hand_over(item: tuple[T] | BaseException | None) -> bool:
        while not is_left.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=_PATIENCE)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand_over((item,)):
                    return
        except BaseException as error:  # noqa: BLE001 - carried to the reader's thread
            hand_over(error)
        else:
            hand_over(None)

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        is_left.set()
        thread.join()
