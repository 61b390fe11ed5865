"""What is sealed is read again by the same key, purpose and owner alone, and only if nobody changed it."""

from __future__ import annotations

from uuid import UUID

import pytest
from pydantic import SecretStr

from db.errors import NoSecretKey
from db.services.sealing import seal, unseal
from db.settings import StateSettings

SETTINGS = StateSettings(secret_key=SecretStr("the first key, which is no secret at all"))
OTHERS = StateSettings(secret_key=SecretStr("the other key, which is no secret either"))
ADA, BOB = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize("length", [0, 1, 20, 31, 32, 33, 100])
def test_what_is_sealed_is_read_again(length: int) -> None:
    secret = bytes(range(length))
    first, second = (seal(SETTINGS, "test", ADA, secret) for _ in range(2))
    assert first != second, "each has a nonce of its own"
    assert unseal(SETTINGS, "test", ADA, first) == unseal(SETTINGS, "test", ADA, second) == secret
    assert length < 20 or secret not in first


def test_nobody_else_reads_it() -> None:
    sealed = seal(SETTINGS, "test", ADA, b"the secret")
    assert unseal(SETTINGS, "test", BOB, sealed) is None
    assert unseal(SETTINGS, "another purpose", ADA, sealed) is None
    assert unseal(OTHERS, "test", ADA, sealed) is None
    with pytest.raises(NoSecretKey):
        unseal(StateSettings(secret_key=SecretStr("")), "test", ADA, sealed)


def test_a_change_is_seen() -> None:
    sealed = seal(SETTINGS, "test", ADA, b"the secret")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert unseal(SETTINGS, "test", ADA, bytes(changed)) is None
        assert unseal(SETTINGS, "test", ADA, sealed[:position]) is None
