"""A user's progress with tutorials is theirs alone, counts the steps of today, and is read in one statement."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.learning import TUTORIALS, publish_tutorials
from db.tables import Tutorial, TutorialProgress
from tests.client import Client

ALL = "{ tutorials { slug steps { isCompleted } progress { completedSteps totalSteps startedAt completedAt } } }"
ONE = """query($slug: String!) { tutorial(slug: $slug) { id slug title summary level minutes
  steps { key title body document variables isCompleted } progress { completedSteps totalSteps startedAt completedAt } } }"""
COMPLETE = """mutation($id: ID!, $key: String!) { completeTutorialStep(input: {tutorialId: $id, stepKey: $key}) { __typename
  ... on Problem { message } ... on InvalidInput { issues { path message } }
  ... on CompleteTutorialStepPayload { tutorial { steps { key isCompleted } progress { completedSteps startedAt completedAt } } } } }"""
RESET = """mutation($id: ID!) { resetTutorial(input: {tutorialId: $id}) { __typename
  ... on ResetTutorialPayload { tutorial { progress { completedSteps startedAt completedAt } } } } }"""
NONE = {"completedSteps": 0, "startedAt": None, "completedAt": None}


async def first(client: Client) -> dict[str, Any]:
    return await client.one(ONE, slug="first-model")


async def rows(database: Database) -> int:
    return (await database.rows(select(func.count().label("rows")).select_from(TutorialProgress)))[0].rows


async def test_tutorials_are_as_their_files_say_and_are_found_by_slug_and_id(ada: Client, reader: Client, anonymous: Client) -> None:
    assert [tutorial["slug"] for tutorial in await ada.one(ALL)] == list(TUTORIALS)
    tutorial, content = await first(reader), TUTORIALS["first-model"]
    assert [tutorial[name] for name in ("slug", "title", "summary", "level", "minutes")] == [
        content.slug,
        content.title,
        content.summary,
        content.level,
        content.minutes,
    ]
    assert tutorial["steps"] == [
        {"key": s.key, "title": s.title, "body": s.body, "document": s.document, "variables": s.variables, "isCompleted": False}
        for s in content.steps
    ]
    assert tutorial["id"] == f"tutorial_{content.id.hex}"
    node = await reader.one("query($id: ID!) { node(id: $id) { ... on Tutorial { slug } } }", id=tutorial["id"])
    assert node == {"slug": "first-model"}
    assert await ada.one(ONE, slug="no such one") is None
    assert (await anonymous.post(ALL))["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_step_is_completed_once_by_one_user_and_is_forgotten_by_a_reset(
    ada: Client, bob: Client, admin: Client, reader: Client, database: Database
) -> None:
    tutorial = await first(ada)
    keys = [step["key"] for step in tutorial["steps"]]
    once = (await ada.one(COMPLETE, id=tutorial["id"], key=keys[1]))["tutorial"]
    assert [step["isCompleted"] for step in once["steps"]] == [key == keys[1] for key in keys]
    assert once["progress"]["completedSteps"] == 1
    assert once["progress"]["completedAt"] is None
    assert (await ada.one(COMPLETE, id=tutorial["id"], key=keys[1]))["tutorial"] == once, "again changes nothing"
    for other in (bob, admin):
        assert (await first(other))["progress"] == {**NONE, "totalSteps": len(keys)}
    assert (await reader.one(COMPLETE, id=tutorial["id"], key=keys[0]))["tutorial"]["progress"]["completedSteps"] == 1
    done = [(await ada.one(COMPLETE, id=tutorial["id"], key=key))["tutorial"]["progress"] for key in keys][-1]
    assert done["completedSteps"] == len(keys)
    assert done["startedAt"] == once["progress"]["startedAt"]
    assert datetime.fromisoformat(done["completedAt"]) > datetime.fromisoformat(done["startedAt"])
    assert await ada.one(RESET, id=tutorial["id"]) == {"__typename": "ResetTutorialPayload", "tutorial": {"progress": NONE}}
    assert (await first(reader))["progress"]["completedSteps"] == 1, "another's stays"
    assert await rows(database) == 1


async def test_a_step_that_the_tutorial_does_not_have_is_refused_with_those_that_it_has(ada: Client, database: Database) -> None:
    tutorial = await first(ada)
    refused = await ada.one(COMPLETE, id=tutorial["id"], key="nothing")
    assert refused["__typename"] == "InvalidInput"
    assert [issue["path"] for issue in refused["issues"]] == [["stepKey"]]
    assert "Its steps are generate, wait-for-data, look," in refused["issues"][0]["message"]
    assert (await ada.one(COMPLETE, id="tutorial_" + "0" * 32, key="generate"))["__typename"] == "NotFound"
    assert await rows(database) == 0


async def test_only_the_steps_of_this_release_count(ada: Client, database: Database) -> None:
    tutorial = await first(ada)
    for step in tutorial["steps"]:
        await ada.one(COMPLETE, id=tutorial["id"], key=step["key"])
    whole = (await first(ada))["progress"]
    key = TUTORIALS["first-model"].id
    more = [
        *TUTORIALS["first-model"].stored_steps[1:],
        {"key": "new", "title": "New", "body": "Read.", "document": None, "variables": None},
    ]
    try:
        async with database.work(SYSTEM) as work:
            await work.run(update(Tutorial).where(Tutorial.id == key).values(steps=more))
        other = (await first(ada))["progress"]
        assert (other["completedSteps"], other["totalSteps"], other["completedAt"]) == (whole["totalSteps"] - 1, whole["totalSteps"], None)
        assert other["startedAt"] > whole["startedAt"], "the first step is gone"
    finally:  # what ships outlives a test
        async with database.work(SYSTEM) as work:
            await publish_tutorials(work)
    assert (await first(ada))["progress"] == whole


async def test_a_tutorial_that_a_release_removes_is_hidden_and_comes_back_with_its_progress(ada: Client, database: Database) -> None:
    tutorial = await first(ada)
    await ada.one(COMPLETE, id=tutorial["id"], key="generate")
    try:
        async with database.work(SYSTEM) as work:
            await work.run(update(Tutorial).where(Tutorial.slug == "first-model").values(retired_at=func.now()))
        assert await first(ada) is None
        assert (await ada.one(COMPLETE, id=tutorial["id"], key="look"))["__typename"] == "NotFound"
    finally:
        async with database.work(SYSTEM) as work:
            await publish_tutorials(work)
    assert (await first(ada))["progress"]["completedSteps"] == 1


async def test_all_tutorials_with_steps_and_progress_are_one_statement(ada: Client, capture_statements: Callable[[], Any]) -> None:
    tutorial = await first(ada)
    await ada.one(COMPLETE, id=tutorial["id"], key="generate")
    await ada.one(ALL)
    with capture_statements() as sent:
        await ada.one(ALL)
    assert len([statement for statement in sent if "tutorial" in statement]) == 1, sent
    assert len(sent) == 1, sent


async def test_what_was_completed_is_in_the_audit_once(ada: Client, database: Database) -> None:
    tutorial = await first(ada)
    for _ in range(2):
        await ada.one(COMPLETE, id=tutorial["id"], key="generate")
    for _ in range(2):
        await ada.one(RESET, id=tutorial["id"])
    actions = await database.rows(text("SELECT action FROM audit_events WHERE action LIKE '%tutorial%' ORDER BY created_at"))
    assert [row.action for row in actions] == ["complete_tutorial_step", "reset_tutorial"]
