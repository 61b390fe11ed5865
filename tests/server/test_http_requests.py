"""Which HTTP requests are GraphQL operations, which are refused, and the responses to both."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.client import Client
from tests.server.serving import post_request, raw_connection, serving

JSON = "application/json"
RESPONSE = "application/graphql-response+json"
STREAM = "text/event-stream"
TYPENAME = '{"query": "{ __typename }"}'
PREFLIGHT = {"graphql-preflight": "1"}


async def post_content(client: Client, content: str | bytes = TYPENAME, **headers: str) -> httpx.Response:
    all_headers = {"content-type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.http.post("/graphql", content=content, headers=all_headers)


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and message of a refusal, after checking what every refusal must have."""
    (error,) = answer.json()["errors"]
    assert "data" not in answer.json()
    assert error["extensions"]["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].split(";")[0] in {JSON, RESPONSE}
    return answer.status_code, error["extensions"]["code"], error["message"]


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (RESPONSE, RESPONSE),
        (f"{RESPONSE}, {JSON}", RESPONSE),
        (f"{JSON}, {RESPONSE}", RESPONSE),
        (f"{RESPONSE};q=0.5, {JSON}", JSON),
        (f"{RESPONSE};q=0, */*", JSON),
        (f"{JSON};q=0, */*;q=0.1", RESPONSE),
        (f"{RESPONSE}; charset=UTF-8, {JSON};q=0.9", RESPONSE),
        (f"{RESPONSE}, application/graphql+json, {JSON}, {STREAM}, multipart/mixed", RESPONSE),
        (f"{STREAM}, {JSON};q=0.1", JSON),
        (f"text/html, {JSON};q=0.9", JSON),
        ("nonsense", JSON),
    ],
)
async def test_a_query_is_answered_in_the_type_that_is_liked_best(anonymous: Client, accept: str, media: str) -> None:
    answer = await post_content(anonymous, accept=accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{media}; charset=utf-8"
    assert answer.headers["vary"] == "Accept, Origin"
    assert answer.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("accept", ["image/png", f"{JSON};q=0", "text/plain", f"{JSON};charset=utf-16", "*/*;q=0"])
async def test_a_type_that_is_not_offered_is_refused(anonymous: Client, accept: str) -> None:
    status, code, message = refusal(await post_content(anonymous, accept=accept))
    assert (status, code) == (406, "NOT_ACCEPTABLE")
    assert RESPONSE in message


@pytest.mark.parametrize("accept", ["*/*", JSON, RESPONSE])
async def test_a_subscription_without_a_stream_is_refused(ada: Client, accept: str) -> None:
    status, code, message = refusal(await post_content(ada, '{"query": "subscription { jobUpdates { id } }"}', accept=accept))
    assert (status, code) == (406, "NOT_ACCEPTABLE")
    assert STREAM in message


async def test_a_browser_gets_the_page_and_everyone_else_json(anonymous: Client) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    page = await anonymous.http.get("/graphql", headers={"accept": browser})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    query = await anonymous.http.get("/graphql?query={__typename}", headers={"accept": browser, "sec-fetch-site": "none"})
    assert query.json() == {"data": {"__typename": "Query"}}
    plain = await anonymous.http.get("/graphql", headers=PREFLIGHT)
    assert refusal(plain)[:2] == (400, "BAD_REQUEST")


async def test_other_methods_are_named_their_alternatives(anonymous: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        answer = await anonymous.http.request(method, "/graphql")
        assert refusal(answer)[:2] == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    options = await anonymous.http.options("/graphql")
    assert (options.status_code, options.headers["allow"], options.content) == (204, "GET, HEAD, POST, OPTIONS", b"")
    head = await anonymous.http.head("/graphql?query={__typename}", headers=PREFLIGHT)
    assert (head.status_code, head.headers["content-type"], head.content) == (200, f"{JSON}; charset=utf-8", b"")


async def test_a_mutation_must_come_by_post(ada: Client) -> None:
    answer = await ada.http.get("/graphql", params={"query": 'mutation { createDataset(input: {name: "x"}) { __typename } }'})
    assert refusal(answer)[:2] == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"
    assert await ada.one("{ datasets { totalCount } }") == {"totalCount": 0}


async def test_a_query_by_get_has_all_parameters(ada: Client) -> None:
    parameters = {
        "query": "query A { __typename } query B($n: String!) { __type(name: $n) { name } }",
        "variables": '{"n": "Job"}',
        "operationName": "B",
        "extensions": "",
    }
    answer = await ada.http.get("/graphql", params=parameters)
    assert answer.json() == {"data": {"__type": {"name": "Job"}}}


@pytest.mark.parametrize(
    "address",
    [
        "query={__typename}&query={__typename}",
        "query=%ff",
        "query={__typename}&variables=[]",
        "query={__typename}&variables={",
        "query={__typename}&extensions=5",
        "query=",
        "&".join(f"p{number}=1" for number in range(50)),
        "variables={}",
    ],
)
async def test_an_address_that_is_no_request_is_refused(anonymous: Client, address: str) -> None:
    answer = await anonymous.http.get(f"/graphql?{address}", headers=PREFLIGHT)
    assert refusal(answer)[:2] == (400, "BAD_REQUEST")


OTHER_SITES = [{}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, {"sec-fetch-site": "same-site"}]


@pytest.mark.parametrize("headers", OTHER_SITES)
async def test_a_get_that_another_site_may_have_caused_is_refused(anonymous: Client, headers: dict[str, str]) -> None:
    status, code, message = refusal(await anonymous.http.get("/graphql?query={__typename}", headers=headers))
    assert (status, code) == (400, "BAD_REQUEST")
    assert "GraphQL-Preflight" in message


@pytest.mark.parametrize(
    "headers",
    [
        {"graphql-preflight": "1"},
        {"apollo-require-preflight": "true"},
        {"x-requested-with": "XMLHttpRequest"},
        {"content-type": JSON},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-mode": "cors"},
    ],
)
async def test_a_get_that_no_other_site_can_cause_is_answered(anonymous: Client, headers: dict[str, str]) -> None:
    answer = await anonymous.http.get("/graphql?query={__typename}", headers=headers)
    assert answer.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/plain", TYPENAME),
        ("text/plain; x=application/json", TYPENAME),
        ("application/x-www-form-urlencoded", "query={__typename}"),
        ("application/graphql", "{ __typename }"),
        (
            "multipart/form-data; boundary=x",
            '--x\r\ncontent-disposition: form-data; name="operations"\r\n\r\n' + TYPENAME + "\r\n--x--\r\n",
        ),
        ("application/json; charset=utf-16", TYPENAME),
        ("application/json, text/plain", TYPENAME),
        ("", TYPENAME),
    ],
)
async def test_bodies_are_json_and_nothing_else(anonymous: Client, content_type: str, content: str) -> None:
    answer = await anonymous.http.post("/graphql", content=content, headers={**PREFLIGHT, "content-type": content_type})
    assert refusal(answer)[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer.headers["accept-post"] == JSON


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON", 'application/json; charset="UTF-8"', "application/json;charset=utf8"])
async def test_json_may_say_that_it_is_utf_8(anonymous: Client, content_type: str) -> None:
    answer = await anonymous.http.post("/graphql", content=TYPENAME, headers={"content-type": content_type})
    assert answer.json() == {"data": {"__typename": "Query"}}


async def test_a_compressed_body_is_refused(anonymous: Client) -> None:
    answer = await post_content(anonymous, gzip.compress(TYPENAME.encode()), content_encoding="gzip")
    assert refusal(answer)[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[{"query": "{ __typename }"}]', "one operation a request"),
        (b'{"query": "{ __typename }", "query": "{ viewer { id } }"}', "twice"),
        (b'{"query": "{ __typename }", "variables": {"a": 1, "a": 2}}', "twice"),
        (b'{"query": "{ __typename }", "variables": {"a": 18446744073709551616}}', "64 bits"),
        (b'{"query": "{ __typename }", "variables": {"a": 1e999}}', "infinity"),
        (b'{"query": "{ __typename }", "variables": ' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}", "64 levels"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"query": "{ __typename }"}', "byte order mark"),
        (b'{"query": "{ __typename }"} x', "not JSON"),
        ('{"query": "{ __typename }"}'.encode("utf-16"), "not JSON"),
        (b"", "empty"),
    ],
)
async def test_a_body_that_could_be_read_in_two_ways_is_refused(anonymous: Client, body: bytes, expected: str) -> None:
    status, code, message = refusal(await post_content(anonymous, body))
    assert (status, code) == (400, "BAD_REQUEST")
    assert expected in message


TWO = "query A { __typename } query B { __typename }"


@pytest.mark.parametrize("accept", [JSON, RESPONSE])
@pytest.mark.parametrize(
    ("document", "name", "expected"),
    [
        (TWO, None, "A, B"),
        (TWO, "C", "'C'"),
        ("{ __typename }", "C", "one without a name"),
        ("fragment F on Query { __typename }", None, "no operation"),
    ],
)
async def test_no_operation_is_chosen_by_guess(ada: Client, accept: str, document: str, name: str | None, expected: str) -> None:
    body: dict[str, Any] = {"query": document, "operationName": name}
    answer = await ada.http.post("/graphql", json=body, headers={"accept": accept})
    status, code, message = refusal(answer)
    assert (status, code) == (400, "BAD_REQUEST")
    assert expected in message
    named = await ada.http.post("/graphql", json={"query": TWO, "operationName": "B"})
    assert named.json() == {"data": {"__typename": "Query"}}


BROKEN = {
    "{": "GRAPHQL_PARSE_FAILED",
    "{ nothing }": "GRAPHQL_VALIDATION_FAILED",
    "query($id: ID!) { job(id: $id) { id } }": "BAD_USER_INPUT",
}


@pytest.mark.parametrize(("document", "code"), BROKEN.items())
async def test_what_cannot_be_run_has_no_data_and_the_status_of_its_type(ada: Client, document: str, code: str) -> None:
    statuses: list[int] = []
    async with serving(draft_statuses=True) as newer:
        for address, accept in [("", JSON), ("", RESPONSE), (newer, JSON), (newer, RESPONSE)]:
            answer = await ada.http.post(f"{address}/graphql", json={"query": document}, headers={"accept": accept})
            assert refusal(answer)[1] == code
            statuses.append(answer.status_code)
    assert statuses == [200, 400, 200, 400 if code == "GRAPHQL_PARSE_FAILED" else 422]


async def test_data_with_errors_is_a_partial_success(ada: Client) -> None:
    body = {"query": '{ __typename datasets(after: "nonsense") { totalCount edges { cursor } } }'}
    statuses: list[int] = []
    async with serving(draft_statuses=True) as newer:
        for address, accept in [("", JSON), ("", RESPONSE), (newer, JSON), (newer, RESPONSE)]:
            answer = await ada.http.post(f"{address}/graphql", json=body, headers={"accept": accept})
            assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
            assert "data" in answer.json()
            statuses.append(answer.status_code)
    assert statuses == [200, 200, 200, 294]


async def test_a_token_that_names_nobody_is_refused_whatever_is_accepted(anonymous: Client) -> None:
    for accept in (JSON, RESPONSE, STREAM):
        answer = await post_content(anonymous, accept=accept, authorization="Bearer of-nobody")
        assert refusal(answer)[:2] == (401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_every_answer_has_the_headers_that_keep_browsers_safe(anonymous: Client) -> None:
    for answer in (
        await post_content(anonymous),
        await anonymous.http.get("/healthz"),
        await anonymous.http.get("/nothing"),
        await anonymous.http.get("/graphql"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "strict-transport-security" not in answer.headers
    async with serving(hsts_seconds=3600, allowed_origins=["https://app.example.org"]) as secured:
        answer = await anonymous.http.post(
            f"{secured}/graphql", content=TYPENAME, headers={"content-type": JSON, "origin": "https://app.example.org"}
        )
        assert answer.headers["strict-transport-security"] == "max-age=3600; includeSubDomains"
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        assert answer.headers["vary"] == "Accept, Origin"
        preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, authorization"}
        ours = await anonymous.http.options(f"{secured}/graphql", headers={"origin": "https://app.example.org", **preflight})
        theirs = await anonymous.http.options(f"{secured}/graphql", headers={"origin": "https://evil.example.org", **preflight})
        assert (ours.status_code, theirs.status_code) == (200, 400)
        assert "access-control-allow-origin" not in theirs.headers


async def test_an_address_with_a_slash_behind_it_leads_to_the_right_one_on_whatever_host(ada: Client) -> None:
    answer = await ada.http.post("/graphql/?a=1", json={"query": "{ __typename }"}, headers={"host": "evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (307, "/graphql?a=1")
    again = await ada.http.post("/graphql/", json={"query": "{ __typename }"}, follow_redirects=True)
    assert again.json() == {"data": {"__typename": "Query"}}
    assert (await ada.http.get("/healthz/")).status_code == 404


async def test_errors_about_many_invalid_variables_are_truncated(ada: Client) -> None:
    document = "mutation($input: CreateDatasetInput!) { createDataset(input: $input) { __typename } }"
    wrong = {f"k{number}": "x" * 20 for number in range(10_000)}
    answer = await ada.http.post("/graphql", json={"query": document, "variables": {"input": wrong}})
    errors = answer.json()["errors"]
    assert {error["extensions"]["code"] for error in errors} == {"BAD_USER_INPUT"}
    assert len(errors) <= 6
    assert len(answer.content) < 10_000


async def test_headers_given_twice_count_as_one_list_or_not_at_all(ada: Client) -> None:
    query = b'{"query": "{ viewer { username } }"}'
    bearer = f"authorization: Bearer {ada.token}".encode()
    async with raw_connection(ada.url) as connection:
        await connection.send(post_request(query, bearer, b"accept: image/png", b"accept: application/graphql-response+json"))
        status, headers, body = await connection.read_response()
        assert (status, headers["content-type"]) == (200, "application/graphql-response+json; charset=utf-8")
        assert json.loads(body) == {"data": {"viewer": {"username": "ada"}}}
        for two in ((bearer, b"authorization: Bearer another"), (b"authorization: Bearer another", bearer), (bearer, bearer)):
            await connection.send(post_request(query, *two))
            status, _, body = await connection.read_response()
            assert (status, json.loads(body)["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
