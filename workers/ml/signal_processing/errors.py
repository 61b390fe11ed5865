from __future__ import annotations


class Unsuitable(Exception):
    """The samples cannot be processed so; the message is a predicate, such as "has 5 samples, …"."""
