"""Guessing passwords: few guesses are verified, nobody is locked out, and an answer tells nothing of an account by its text or time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import bcrypt
import pytest
from sqlalchemy import func, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.limits.sign_in_attempts import PER_ACCOUNT, PER_ACCOUNT_AND_NETWORK, PER_NETWORK
from db.services.accounts import passwords
from db.tables import LoginEvent, User
from tests.client import PASSWORD, Client
from tests.exhaustive import exhaustive

SignIn = Callable[[str], Awaitable[Client]]
MAX_HASHES = 10


def guess(client: Client, login: str, number: int, network: int = 1) -> Awaitable[dict[str, Any]]:
    """A wrong password from an address of a network; the tests' server trusts what a proxy on its machine says of it."""
    return client.login(login, f"guess number {number}", **{"x-forwarded-for": f"198.51.100.{network}"})


async def hashes(database: Database) -> int:
    """How many guesses were verified: each is in the history."""
    return (await database.rows(select(func.count()).select_from(LoginEvent).where(~LoginEvent.succeeded)))[0][0]


def codes(answers: list[dict[str, Any]]) -> set[str]:
    return {answer.get("code") or answer["extensions"]["code"] for answer in answers}


async def in_turns(guesses: list[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Send all, twenty at a time."""
    return [answer for first in range(0, len(guesses), 20) for answer in await asyncio.gather(*guesses[first : first + 20])]


@pytest.mark.parametrize("count", [60, exhaustive(1_000)])
async def test_of_many_guesses_at_one_account_ten_are_verified(
    count: int, ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    await sign_in("ada")
    names = ("ada", "ada@example.org", " ADA ", "Ada@Example.org")
    guesses = [guess(anonymous, names[number % 4], number, network=number % 250) for number in range(count)]
    assert codes(await in_turns(guesses)) == {"INVALID_CREDENTIALS", "RATE_LIMITED"}
    assert PER_ACCOUNT.attempts <= await hashes(database) <= MAX_HASHES


@pytest.mark.parametrize("count", [60, exhaustive(1_000)])
async def test_of_many_guesses_from_one_network_ten_are_verified(
    count: int, ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    await sign_in("ada")
    assert codes(await in_turns([guess(anonymous, f"user{number}", number) for number in range(count)])) == {
        "INVALID_CREDENTIALS",
        "RATE_LIMITED",
    }
    assert PER_NETWORK.attempts <= await hashes(database) <= MAX_HASHES
    refused = await guess(anonymous, "ada", 0)
    assert refused["extensions"]["code"] == "RATE_LIMITED"
    assert 0 < refused["extensions"]["retryAfter"] <= PER_NETWORK.seconds / PER_NETWORK.attempts


async def test_guesses_in_one_operation_count_each(ada: Client, sign_in: SignIn, anonymous: Client, database: Database) -> None:
    await sign_in("ada")
    fields = " ".join(f'g{number}: login(input: {{login: "ada", password: "guess {number}"}}) {{ __typename }}' for number in range(15))
    answer = await anonymous.post(f"mutation {{ {fields} }}")
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"RATE_LIMITED"}
    assert await hashes(database) == PER_ACCOUNT_AND_NETWORK.attempts


@pytest.mark.exhaustive
async def test_an_owner_signs_in_from_where_they_were_whatever_others_try(ada: Client, sign_in: SignIn, anonymous: Client) -> None:
    await sign_in("ada")  # the password is set, and this network is known
    await in_turns([guess(anonymous, name, number, network=2 + number) for number in range(15) for name in ("ada", "ada@example.org")])
    new_place = {"x-forwarded-for": "203.0.113.9"}
    assert (await anonymous.login("ada", PASSWORD, **new_place))["extensions"]["code"] == "RATE_LIMITED", "a new place has to wait"
    assert [(await anonymous.login("ada"))["__typename"] for _ in range(12)] == ["LoginPayload"] * 12


@pytest.mark.exhaustive
async def test_a_success_uses_no_attempt(ada: Client, sign_in: SignIn, anonymous: Client) -> None:
    await sign_in("ada")
    new_place = {"x-forwarded-for": "203.0.113.9", "user-agent": "other"}
    for _ in range(3):
        assert (await anonymous.login("ada", "wrong password", **new_place))["code"] == "INVALID_CREDENTIALS"
    for _ in range(10):
        assert (await anonymous.login("ada", PASSWORD, **new_place))["__typename"] == "LoginPayload"


@pytest.mark.exhaustive
async def test_neither_text_nor_time_tells_whether_an_account_exists(
    ada: Client, bob: Client, reader: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    """Of a user with a password, one without, one whose hash comes from another system and takes longer, one who is disabled, and nobody."""
    for name in ("ada", "reader"):
        await sign_in(name)
    foreign = bcrypt.hashpw(b"another password", bcrypt.gensalt(9)).decode()
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "reader").values(password_hash=foreign))
        await work.run(update(User).where(User.username == "admin").values(password_hash=foreign, disabled_at=text("now()")))
    answers: list[dict[str, Any]] = []
    times: dict[str, list[float]] = {name: [] for name in ("ada", "bob", "reader", "admin", "nobody")}

    async def measure(name: str, network: int) -> None:
        started = time.perf_counter()
        answers.append(await guess(anonymous, name, 0, network=network))
        times[name].append(time.perf_counter() - started)

    fastest: dict[str, float] = {}
    for turn in range(9):  # in alternation, until the load of the machine no longer hides what each takes at least
        for number, name in enumerate(times):
            await measure(name, 10 * turn + number)
        fastest = {name: min(taken) for name, taken in times.items()}
        if turn >= 2 and max(fastest.values()) <= 1.1 * min(fastest.values()):
            break
    assert all(answer == answers[0] for answer in answers)
    assert max(fastest.values()) <= 1.1 * min(fastest.values()), fastest


@pytest.mark.exhaustive
async def test_the_time_of_a_dummy_is_that_of_a_hash() -> None:
    """Without the constant time of a failure too: CPU seconds, in alternation."""
    real = passwords.make_hash(PASSWORD)
    assert not passwords.needs_rehash(passwords.DUMMY_HASH)
    taken: dict[str, list[float]] = {real: [], passwords.DUMMY_HASH: []}
    first = second = 0.0
    for turn in range(100):  # until the load of the machine no longer hides what each takes at least
        for password_hash, times in taken.items():
            started = time.process_time()
            assert passwords.verify(password_hash, "guess") is False
            times.append(time.process_time() - started)
        first, second = (min(times) for times in taken.values())
        if turn >= 10 and abs(first - second) <= 0.1 * max(first, second):
            break
    assert abs(first - second) <= 0.1 * max(first, second)


@pytest.mark.exhaustive
async def test_hashing_delays_nobody_else(ada: Client, sign_in: SignIn, anonymous: Client) -> None:
    """While passwords are hashed all the time, the event loop of the API answers others as before: at most 50 ms later, in the median."""
    await sign_in("ada")

    async def typical() -> float:
        times: list[float] = []
        for _ in range(40):
            started = time.perf_counter()
            await ada.one("{ viewer { id } }")
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    before = await typical()
    storm = [asyncio.ensure_future(guess(anonymous, f"user{number}", number, network=number)) for number in range(30)]
    during = await typical()
    unfinished = sum(not task.done() for task in storm)
    answers = await asyncio.gather(*storm)
    assert unfinished, "passwords were hashed until the end of the measurement"
    assert codes(answers) == {"INVALID_CREDENTIALS"}
    assert during - before <= 0.05
