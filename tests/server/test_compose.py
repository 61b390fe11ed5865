"""docker-compose.yml is sound: it follows the Compose specification, contains no secret, and has a health check for each service."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from jsonschema.validators import validator_for

from db.settings import StateSettings
from server.settings import ServerSettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:[?-])?([^}]*)\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(TEXT))


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = json.loads(resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    validator: Any = cast("Any", validator_for)(schema)
    validator.check_schema(schema)
    errors = validator(schema).iter_errors(compose)
    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in errors] == []
    assert not validator(schema).is_valid(compose | {"services": {"api": {"imag": "trellis"}}})


def test_it_runs_the_whole_of_trellis(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"postgres", "valkey", "objects", "objects-proxy", "migrate", "api", "worker"}
    assert services["postgres"]["image"] == "postgres:18"
    assert services["valkey"]["image"].startswith("valkey/valkey:")
    assert {name: services[name]["command"] for name in ("migrate", "api", "worker")} == {
        "migrate": ["migrate"],
        "api": ["api"],
        "worker": ["worker"],
    }


def test_everything_that_stays_has_a_health_check_and_waits_for_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name for name, service in services.items() if "test" in service["healthcheck"]} == set(services) - {"migrate"}
    assert services["migrate"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "objects": {"condition": "service_healthy"},
    }
    for name in ("api", "worker"):
        assert services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "valkey": {"condition": "service_healthy"},
        }


def test_what_sends_mails_reaches_the_outside_and_takes_every_setting(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {"migrate", "api", "worker", "objects-proxy"}
    for name in ("migrate", "api", "worker"):
        assert services[name]["env_file"] == [{"path": "trellis.env", "required": False}]


def test_no_secret_has_a_default() -> None:
    secret = re.compile("PASSWORD|SECRET|TOKEN|ACCESS_KEY")
    kinds = {(name, kind) for name, kind, text in VARIABLE.findall(TEXT) if secret.search(name) and (kind, text) != (":-", "")}
    assert {kind for _, kind in kinds} == {":?"}
    assert {name for name, _ in kinds} == {
        "TRELLIS_POSTGRES_PASSWORD",
        "TRELLIS_REDIS_PASSWORD",
        "TRELLIS_S3_ACCESS_KEY_ID",
        "TRELLIS_S3_SECRET_ACCESS_KEY",
        "TRELLIS_ADMIN_TOKEN",
    }


def test_nothing_is_published_beyond_this_machine_unless_asked(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"api", "objects-proxy"}
    assert all(port.split(":-")[1].startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert compose["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("service", ["migrate", "api", "worker"])
def test_every_setting_it_passes_on_is_one_that_trellis_reads(compose: dict[str, Any], service: str) -> None:
    setting_names = {f"TRELLIS_{name.upper()}" for name in (*StateSettings.model_fields, *ServerSettings.model_fields)}
    setting_names |= {f"TRELLIS_WORKER_{name.upper()}" for name in WorkerSettings.model_fields}
    assert set(compose["services"][service]["environment"]) <= setting_names


def test_the_image_holds_no_embedded_server_and_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    final = dockerfile.rsplit("\nFROM ", 1)[1]
    assert "libgomp1" in final
    assert re.search(r"^USER trellis$", final, re.MULTILINE)
    removed = re.search(r"pip uninstall --yes (.*)$", dockerfile, re.MULTILINE)
    embedded = re.search(r"^embedded = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert removed is not None
    assert embedded is not None
    assert set(removed[1].split()) == set(re.findall(r'"([a-z0-9-]+)', embedded[1]))
