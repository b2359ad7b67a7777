"""What CloudFormation gets: packaged for real, and read."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib import settings
from local import tables

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]


def package(folder: Path, stage: str = "prod") -> Path:
    """Package as `make package` does."""
    command = [str(Path(sys.executable).parent / "chalice"), "package", "--stage", stage]
    subprocess.run(  # noqa: S603 - our own command
        [*command, "--merge-template", "infra/resources.json", str(folder)],
        cwd=ROOT,
        env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package once for all these tests."""
    return package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def resources(packaged: Path) -> dict[str, dict[str, Any]]:
    """Return the resources of the packaged template."""
    return dict(json.loads((packaged / "sam.json").read_text())["Resources"])


def of_type(resources: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Choose resources by type."""
    return {name: made for name, made in resources.items() if made["Type"] == kind}


def references(value: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a template
    """Find every resource that a part of a template refers to."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "Ref" and isinstance(inner, str):
                yield inner
            elif key == "Fn::GetAtt":
                yield inner[0] if isinstance(inner, list) else inner.split(".")[0]
            elif key == "Fn::Sub":
                text = inner if isinstance(inner, str) else inner[0]
                yield from (part.split("}")[0].split(".")[0] for part in text.split("${")[1:])
            elif key == "DependsOn":
                yield from [inner] if isinstance(inner, str) else inner
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_cfn_lint_has_nothing_to_say(packaged: Path) -> None:
    """The template is one that CloudFormation takes."""
    done = subprocess.run(  # noqa: S603 - our own command
        [str(Path(sys.executable).parent / "cfn-lint"), str(packaged / "sam.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_depends_on_itself(resources: dict[str, dict[str, Any]]) -> None:
    """A circle, which cfn-lint does not see in a serverless template, would fail the deployment."""
    graph = {name: set(references(made)) & set(resources) for name, made in resources.items()}
    done: set[str] = set()
    while len(done) < len(graph):
        ready = {name for name, needs in graph.items() if name not in done and needs <= done}
        assert ready, f"in a circle: {sorted(set(graph) - done)}"
        done |= ready


def test_every_table_and_both_secrets_are_there(resources: dict[str, dict[str, Any]]) -> None:
    """None of ours and none of Chalice's own was lost in the merge."""
    kinds = {name: made["Type"] for name, made in resources.items()}
    for concept in tables.definitions():
        assert kinds[f"{concept.title()}Table"] == "AWS::DynamoDB::Table"
    for name in ("CodeKeySecret", "VaultKeySecret"):
        assert kinds[name] == "AWS::SecretsManager::Secret"
        assert resources[name]["DeletionPolicy"] == "Retain"
    for name in ("APIHandler", "RestAPI", "ApiHandlerRole", "ManagedLayer"):
        assert name in kinds
    properties = resources["RestAPI"]["Properties"]
    assert properties["EndpointConfiguration"] == "REGIONAL"
    assert properties["StageName"] == "api"


def test_the_function_finds_everything_it_uses(resources: dict[str, dict[str, Any]]) -> None:
    """Tables by reference, secrets by ARN, no secret's value in the environment."""
    properties = resources["APIHandler"]["Properties"]
    variables = properties["Environment"]["Variables"]
    assert {f"{concept.upper()}_TABLE" for concept in settings.TABLES} <= set(variables)
    for name, value in variables.items():
        if name.endswith(("_TABLE", "_SECRET")):
            assert value["Ref"] in resources
    assert properties["Timeout"] == 10
    assert properties["Architectures"] == ["x86_64"]
    assert properties["Runtime"] == f"python3.{sys.version_info.minor}"


def test_each_function_has_a_role_of_its_own_without_a_star(
    resources: dict[str, dict[str, Any]],
) -> None:
    """Exactly its actions on exactly its resources; nobody may scan or delete a table."""
    functions = of_type(resources, "AWS::Serverless::Function")
    roles = [made["Properties"]["Role"]["Fn::GetAtt"][0] for made in functions.values()]
    assert len(set(roles)) == len(roles)
    used = {f"{concept.title()}Table" for concept in settings.TABLES}
    for role in roles:
        (policy,) = resources[role]["Properties"]["Policies"]
        granted = set()
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Resource"] != "*"
            assert not any(
                "*" in action or action.endswith(":Scan") for action in statement["Action"]
            )
            granted |= set(references(statement["Resource"]))
        assert used <= granted


def test_api_gateways_own_errors_have_our_form(resources: dict[str, dict[str, Any]]) -> None:
    """problem+json with CORS headers, and a pause where one can come back."""
    responses = resources["RestAPI"]["Properties"]["GatewayResponses"]
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "MISSING_AUTHENTICATION_TOKEN", "THROTTLED"} <= set(
        responses
    )
    for response in responses.values():
        headers = response["ResponseParameters"]["Headers"]
        assert headers["Content-Type"] == "'application/problem+json'"
        assert headers["Access-Control-Allow-Origin"] == "'*'"
        body = json.loads(response["ResponseTemplates"]["application/json"])
        assert body["type"].startswith("urn:dialtone:problem:")
        if "StatusCode" in response:
            assert str(body["status"]) == response["StatusCode"]
    assert responses["THROTTLED"]["ResponseParameters"]["Headers"]["Retry-After"] == "'5'"


def test_every_route_answers_a_preflight(resources: dict[str, dict[str, Any]]) -> None:
    """For pages of other hosts, with the headers that our routes read."""
    paths = resources["RestAPI"]["Properties"]["DefinitionBody"]["paths"]
    assert "/me/codes" in paths
    for path, methods in paths.items():
        answer = methods["options"]["x-amazon-apigateway-integration"]["responses"]["default"]
        allowed = answer["responseParameters"][
            "method.response.header.Access-Control-Allow-Headers"
        ]
        assert "Authorization" in allowed, path


def test_what_ships_is_the_service_and_nothing_else(packaged: Path) -> None:
    """No test, no local server, no key; the pages and the description are in it."""
    names = zipfile.ZipFile(packaged / "deployment.zip").namelist()
    assert {"app.py", "chalicelib/openapi.json", "chalicelib/web/index.html"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"app.py", "chalice", "chalicelib"}


def test_two_packages_are_the_same(packaged: Path, tmp_path: Path) -> None:
    """What was reviewed is what is deployed."""
    again = package(tmp_path / "again")

    def digests(folder: Path) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())
        }

    assert digests(again) == digests(packaged)
