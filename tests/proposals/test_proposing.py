"""A version has a proposed schema; an accepted one is the contract that later versions are compared with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client import Client

CSV = b"id,email,country,age,churned\n" + b"".join(
    b"%d,u%d@example.org,%s,%d,%s\n" % (row, row, [b"DE", b"FR", b"IT", b"US"][row % 4], 20 + row % 37, [b"true", b"false"][row % 3 == 0])
    for row in range(1, 61)
)
FIELDS = """id status confidence agent problemType targetColumn rejectionReason decidedAt decidedBy { username } version { id } job { id kind }
  columns { name type semanticType role nullable format confidence reason samples }"""
VERSION = f"""query($id: ID!) {{ node(id: $id) {{ ... on DatasetVersion {{ status dataset {{ id }} acceptedSchema {{ id }} issues {{ code column message row }}
  schemaProposals {{ totalCount edges {{ node {{ {FIELDS} }} }} }} }} }} }}"""
PROPOSE = "mutation($id: ID!) { proposeSchema(input: {datasetVersionId: $id}) { __typename ... on ProposeSchemaPayload { job { id } } } }"
ACCEPT = f"""mutation($id: ID!, $changes: SchemaChangesInput) {{ acceptSchemaProposal(input: {{id: $id, changes: $changes}}) {{ __typename
  ... on AcceptSchemaProposalPayload {{ schemaProposal {{ {FIELDS} }} }} ... on Problem {{ code message }} ... on WrongState {{ state }}
  ... on InvalidInput {{ issues {{ path message }} }} }} }}"""
REJECT = f"""mutation($id: ID!, $reason: String!) {{ rejectSchemaProposal(input: {{id: $id, reason: $reason}}) {{ __typename
  ... on RejectSchemaProposalPayload {{ schemaProposal {{ {FIELDS} }} }} ... on Problem {{ code message }} ... on InvalidInput {{ issues {{ path message }} }} }} }}"""


async def proposals_of(client: Client, version: str) -> list[dict[str, Any]]:
    return [edge["node"] for edge in (await client.one(VERSION, id=version))["schemaProposals"]["edges"]]


async def propose(client: Client, version: str) -> str:
    """Have a schema proposed again; return the proposal."""
    job = await client.wait((await client.one(PROPOSE, id=version))["job"]["id"])
    assert (job["status"], [output["__typename"] for output in job["outputs"]]) == ("COMPLETED", ["SchemaProposal"]), job
    return job["outputs"][0]["id"]


async def test_an_ingest_proposes_a_schema_and_a_job_proposes_the_same_again(ada: Client, worker: object) -> None:
    version = await ada.ingest("customers", CSV)
    (first,) = await proposals_of(ada, version)
    expected = {"status": "PROPOSED", "agent": "rules/1", "problemType": "CLASSIFICATION", "targetColumn": "churned", "decidedAt": None}
    assert {name: first[name] for name in expected} == expected
    assert (first["version"]["id"], first["job"]["kind"]) == (version, "INGEST")
    assert [(column["name"], column["type"], column["semanticType"], column["role"]) for column in first["columns"]] == [
        ("id", "INTEGER", "identifier", "IDENTIFIER"),
        ("email", "STRING", "email", "IGNORED"),
        ("country", "CATEGORY", "country", "FEATURE"),
        ("age", "INTEGER", "number", "FEATURE"),
        ("churned", "BOOLEAN", "boolean", "TARGET"),
    ]
    assert first["columns"][2]["samples"] == ["FR", "IT", "US", "DE"]
    assert all(0 < column["confidence"] <= 1 and column["reason"].endswith(".") for column in first["columns"])
    again = await propose(ada, version)
    newer, older = await proposals_of(ada, version)
    assert (newer["id"], newer["status"], newer["job"]["kind"]) == (again, "PROPOSED", "DEDUCE_SCHEMA")
    assert older == {**first, "status": "SUPERSEDED"}
    assert [newer[name] for name in ("columns", "confidence", "problemType", "targetColumn")] == [
        older[name] for name in ("columns", "confidence", "problemType", "targetColumn")
    ]


async def test_an_accepted_schema_is_the_contract_of_later_versions(ada: Client, worker: object) -> None:
    version = await ada.ingest("customers", CSV)
    dataset = (await ada.one(VERSION, id=version))["dataset"]["id"]
    (proposal,) = await proposals_of(ada, version)
    changes = {
        "columns": [
            {"name": "age", "role": "TARGET", "semanticType": "years"},
            {"name": "email", "nullable": True, "role": "FEATURE"},
        ],
        "problemType": "REGRESSION",
    }
    answer = await ada.one(ACCEPT, id=proposal["id"], changes=changes)
    accepted = answer["schemaProposal"]
    assert (accepted["status"], accepted["targetColumn"], accepted["problemType"]) == ("ACCEPTED", "age", "REGRESSION")
    assert accepted["decidedBy"] == {"username": "ada"}
    by_name = {column["name"]: column for column in accepted["columns"]}
    assert (by_name["age"]["role"], by_name["age"]["semanticType"], by_name["age"]["confidence"]) == ("TARGET", "years", 1)
    assert (by_name["churned"]["role"], by_name["email"]["nullable"]) == ("FEATURE", True)
    assert by_name["country"] == proposal["columns"][2]
    assert (await ada.one(VERSION, id=version))["acceptedSchema"] == {"id": proposal["id"]}

    same, job = await ada.upload(dataset, "same.csv", CSV)
    assert (await ada.wait(job))["status"] == "COMPLETED"
    assert (await ada.one(VERSION, id=same))["issues"] == []
    broken = CSV.replace(b"age,", b"points,").replace(b",FR,", b",,").replace(b"\n2,", b"\n1,").replace(b",true", b",maybe")
    other, job = await ada.upload(dataset, "broken.csv", broken)
    assert (await ada.wait(job))["status"] == "COMPLETED"
    read = await ada.one(VERSION, id=other)
    assert (read["status"], read["acceptedSchema"]) == ("READY", {"id": proposal["id"]})
    assert [(issue["code"], issue["column"], issue["row"]) for issue in read["issues"]] == [
        ("SCHEMA_NOT_UNIQUE", "id", None),
        ("SCHEMA_NULLS", "country", None),
        ("SCHEMA_COLUMN_MISSING", "age", None),
        ("SCHEMA_TYPE_CHANGED", "churned", None),
        ("SCHEMA_COLUMN_NEW", "points", None),
    ]
    assert read["issues"][1]["message"] == "The column 'country' lacks 15 values; by the accepted schema none is missing."

    fail = "mutation($id: ID!) { updateDataset(input: {id: $id, schemaPolicy: FAIL}) { ... on UpdateDatasetPayload { dataset { schemaPolicy } } } }"
    assert await ada.one(fail, id=dataset) == {"dataset": {"schemaPolicy": "FAIL"}}
    failed, job = await ada.upload(dataset, "broken.csv", broken)
    ended = await ada.wait(job)
    assert (ended["status"], ended["error"]["code"], ended["error"]["retryable"]) == ("FAILED", "SCHEMA_BROKEN", False)
    read = await ada.one(VERSION, id=failed)
    assert (read["status"], read["schemaProposals"]["totalCount"]) == ("FAILED", 0)
    assert [(issue["code"], issue["column"]) for issue in read["issues"]] == [("SCHEMA_BROKEN", "id")]
    assert all(repr(name) in read["issues"][0]["message"] for name in ("id", "country", "age", "churned"))


@pytest.mark.exhaustive
async def test_one_schema_of_a_dataset_is_accepted_and_what_was_decided_stays(ada: Client, bob: Client, worker: object) -> None:
    version = await ada.ingest("customers", CSV)
    (first,) = await proposals_of(ada, version)
    for mutation, variables in ((ACCEPT, {}), (REJECT, {"reason": "No."})):
        assert (await bob.one(mutation, id=first["id"], **variables))["__typename"] == "NotFound"
    assert (await bob.one(PROPOSE, id=version))["__typename"] == "NotFound"
    two_targets = {"columns": [{"name": "age", "role": "TARGET"}, {"name": "id", "role": "TARGET"}, {"name": "z"}]}
    refused = await ada.one(ACCEPT, id=first["id"], changes=two_targets)
    assert [issue["path"] for issue in refused["issues"]] == [["changes", "columns", "2", "name"], ["changes", "columns"]]
    assert (await ada.one(REJECT, id=first["id"], reason=" "))["issues"][0]["path"] == ["reason"]
    cleared = {"columns": [{"name": "age", "type": None, "role": None, "nullable": None, "format": None}]}
    refused = await ada.one(ACCEPT, id=first["id"], changes=cleared)
    assert [issue["path"] for issue in refused["issues"]] == [["changes", "columns", "0", name] for name in ("type", "role", "nullable")]
    assert await proposals_of(ada, version) == [first], "nothing of this has changed it"

    answers = await asyncio.gather(ada.one(ACCEPT, id=first["id"]), ada.one(REJECT, id=first["id"], reason="Another target."))
    assert sorted(answer["__typename"] == "WrongState" for answer in answers) == [False, True]
    second = await propose(ada, version)
    assert (await ada.one(ACCEPT, id=second))["schemaProposal"]["status"] == "ACCEPTED"
    third = await propose(ada, version)
    rejected = (await ada.one(REJECT, id=third, reason="It has another target."))["schemaProposal"]
    assert (rejected["status"], rejected["rejectionReason"], rejected["decidedBy"]) == (
        "REJECTED",
        "It has another target.",
        {"username": "ada"},
    )
    assert (await ada.one(VERSION, id=version))["acceptedSchema"] == {"id": second}
    late = await ada.one(ACCEPT, id=third)
    assert (late["__typename"], late["state"]) == ("WrongState", "REJECTED")
    assert [proposal["status"] for proposal in await proposals_of(ada, version)][:2] == ["REJECTED", "ACCEPTED"]
    fourth = await propose(ada, version)
    await ada.one(ACCEPT, id=fourth)
    assert [(await ada.one(VERSION, id=version))["acceptedSchema"]["id"], (await proposals_of(ada, version))[2]["status"]] == [
        fourth,
        "SUPERSEDED",
    ]


async def test_the_proposals_of_a_deleted_dataset_are_not_served(ada: Client, worker: object) -> None:
    version = await ada.ingest("customers", CSV)
    (proposal,) = await proposals_of(ada, version)
    dataset = (await ada.one(VERSION, id=version))["dataset"]["id"]
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=dataset)
    assert await ada.one("query($id: ID!) { node(id: $id) { id } }", id=proposal["id"]) is None
    assert (await ada.one(ACCEPT, id=proposal["id"]))["__typename"] == "NotFound"
