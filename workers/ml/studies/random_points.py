"""Random points: functions of seed and number alone."""

from __future__ import annotations

from random import Random
from zlib import crc32

from workers.ml.studies.space import Space, Values


def generator(seed: int, number: int, attempt: int = 0) -> Random:
    """The generator of one trial; that of a further `attempt` at the same number draws another point. Python keeps the sequence of `random()`, of
    which alone we make use, from version to version."""
    return Random(seed_of(seed, number, attempt))  # noqa: S311 - no secret


def seed_of(seed: int, number: int, attempt: int = 0) -> int:
    """The seed of one trial."""
    return crc32(f"{seed}:{number}:{attempt}".encode() if attempt else f"{seed}:{number}".encode())


def random_point(space: Space, rng: Random) -> Values:
    """Draw a share for each parameter, active or not, so that a condition changes no value of others."""
    shares = {parameter.key: rng.random() for parameter in space.parameters}
    return space.choose(lambda parameter: parameter.of_share(shares[parameter.key]))
