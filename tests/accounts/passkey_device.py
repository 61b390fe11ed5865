"""A device with passkeys, in software, and the browser that asks it: they answer as WebAuthn says, or with one thing wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.client import Client

PRESENT, VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, ATTESTED = 1, 4, 8, 16, 64
WRONG_STATE = "__typename ... on Problem { code message } ... on WrongState { state }"
PROBLEM = f"{WRONG_STATE} ... on InvalidInput {{ issues {{ path message }} }}"
BEGIN = (
    f"mutation($input: BeginPasskeyRegistrationInput!) {{ beginPasskeyRegistration(input: $input) {{ {PROBLEM}"
    " ... on BeginPasskeyRegistrationPayload { options } } }"
)
FINISH = (
    f"mutation($input: FinishPasskeyRegistrationInput!) {{ finishPasskeyRegistration(input: $input) {{ {PROBLEM}"
    " ... on FinishPasskeyRegistrationPayload { passkey { id name isBackedUp lastUsedAt } } } }"
)
BEGIN_LOGIN = f"mutation($input: BeginPasskeyLoginInput!) {{ beginPasskeyLogin(input: $input) {{ {PROBLEM} ... on BeginPasskeyLoginPayload {{ options }} }} }}"
FINISH_LOGIN = (
    f"mutation($input: FinishPasskeyLoginInput!) {{ finishPasskeyLogin(input: $input) {{ {PROBLEM}"
    " ... on LoginPayload { token session { id isCurrent } viewer { username } } } }"
)
REMOVE = f"mutation($id: ID!) {{ removePasskey(input: {{id: $id}}) {{ {WRONG_STATE} ... on RemovePasskeyPayload {{ passkeyId }} }} }}"
PASSKEYS = "{ viewer { passkeys { id name isBackedUp lastUsedAt } } }"


def encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Key:
    """A passkey on the device: `count` is the device's counter of its uses, or stays 0."""

    user_handle: bytes
    id: bytes
    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    count: int = 0


@dataclass
class Device:
    """A device, and the page that uses it. Each attribute can be set wrong."""

    origin: str
    flags: int = PRESENT | VERIFIED | BACKUP_ELIGIBLE | BACKED_UP
    counts: bool = True
    rp_id: str | None = None
    cross_origin: bool = False
    id_of_new: bytes | None = None
    keys: list[Key] = field(default_factory=list[Key])

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Make a passkey, as `navigator.credentials.create` does; return its `toJSON()`."""
        key = Key(decode(options["user"]["id"]), self.id_of_new or secrets.token_bytes(32))
        self.keys.append(key)
        numbers = key.private.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(key.id).to_bytes(2, "big") + key.id + cbor2.dumps(public)
        data = self._data(options["rp"]["id"], key, ATTESTED) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        response = {
            "clientDataJSON": encode(self._client_data("webauthn.create", options["challenge"])),
            "attestationObject": encode(attestation),
            "transports": ["internal", "hybrid", "carrier pigeon"],
        }
        return self._credential(key, response)

    def get(self, options: dict[str, Any], key: Key | None = None) -> dict[str, Any]:
        """Answer with the last passkey, or with `key`, as `navigator.credentials.get` does; return its `toJSON()`."""
        key = key or self.keys[-1]
        key.count += self.counts
        data = self._data(options["rpId"], key)
        client_data = self._client_data("webauthn.get", options["challenge"])
        signature = key.private.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": encode(client_data),
            "authenticatorData": encode(data),
            "signature": encode(signature),
            "userHandle": encode(key.user_handle),
        }
        return self._credential(key, response)

    def _data(self, rp_id: str, key: Key, more: int = 0) -> bytes:
        return hashlib.sha256((self.rp_id or rp_id).encode()).digest() + bytes([self.flags | more]) + key.count.to_bytes(4, "big")

    def _client_data(self, type_: str, challenge: str) -> bytes:
        return json.dumps({"type": type_, "challenge": challenge, "origin": self.origin, "crossOrigin": self.cross_origin}).encode()

    def _credential(self, key: Key, response: dict[str, Any]) -> dict[str, Any]:
        id_ = encode(key.id)
        return {"id": id_, "rawId": id_, "type": "public-key", "clientExtensionResults": {}, "response": response}


def at_localhost(client: Client) -> str:
    """Have a client call the API by its name, as browsers do that use passkeys; return the origin."""
    client.http.headers["host"] = client.url.removeprefix("http://").replace("127.0.0.1", "localhost")
    return f"http://{client.http.headers['host']}"


async def begin(session: Client, name: str = "phone") -> dict[str, Any]:
    """Begin to add a passkey; return the options."""
    answer = await session.one(BEGIN, input={"name": name})
    assert answer["__typename"] == "BeginPasskeyRegistrationPayload", answer
    return answer["options"]


async def add_passkey(session: Client, device: Device, name: str = "phone") -> dict[str, Any]:
    """Add a passkey of the device; return it."""
    answer = await session.one(FINISH, input={"credential": device.create(await begin(session, name))})
    assert answer["__typename"] == "FinishPasskeyRegistrationPayload", answer
    return answer["passkey"]


async def begin_login(client: Client, **given: Any) -> dict[str, Any]:
    """Begin to sign in with a passkey; return the options."""
    answer = await client.one(BEGIN_LOGIN, input=given)
    assert answer["__typename"] == "BeginPasskeyLoginPayload", answer
    return answer["options"]


async def finish_login(client: Client, credential: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Send an answer; return the result, or the first error with its extensions."""
    answer = await client.post(FINISH_LOGIN, input={"credential": credential, **given})
    return answer["errors"][0] if answer.get("errors") else answer["data"]["finishPasskeyLogin"]


async def sign_in_with(client: Client, device: Device, key: Key | None = None, **given: Any) -> dict[str, Any]:
    """Sign in with a passkey; return the result."""
    return await finish_login(client, device.get(await begin_login(client), key), **given)
