"""What CloudFormation gets: packaged for real, and read."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chalicelib import settings
from chalicelib.api import rollouts
from local import api_gateway, tables
from tests.infra import runtime, templates
from tests.infra.templates import Resources, of_type, references

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]

CONNECTIONS = (
    "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${WebsocketAPI}"
    "/api/%s/@connections/*"
)
BUS = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/${EventBus}"
READ = ("BatchGetItem", "ConditionCheckItem", "GetItem", "Query")
WRITE = (*READ, "DeleteItem", "PutItem", "UpdateItem")
Permissions = set[tuple[str, str]]


def on_tables(actions: Sequence[str], *concepts: str) -> Permissions:
    """Name actions on tables."""
    return {
        (f"dynamodb:{action}", f"{concept.title()}Table.Arn")
        for action in actions
        for concept in concepts
    }


def on_indexes(*indexes: str) -> Permissions:
    """Name the query of indexes, each written `table/index`."""
    split = (index.split("/") for index in indexes)
    return {
        ("dynamodb:Query", f"${{{concept.title()}Table.Arn}}/index/{name}")
        for concept, name in split
    }


VAULT_KEY = {("secretsmanager:GetSecretValue", "VaultKeySecret")}
KEYS = {*VAULT_KEY, ("secretsmanager:GetSecretValue", "CodeKeySecret")}
CENTRAL_KEY = {("secretsmanager:GetSecretValue", "CentralKeySecret if HasCentralKey")}
MANAGE = {("execute-api:ManageConnections", CONNECTIONS % method) for method in ("POST", "DELETE")}
TELL = {
    *on_tables(WRITE, "notifications", "connections"),
    *on_tables(READ, "codes", "holdings", "devices", "domains"),
    *VAULT_KEY,
    *MANAGE,
}
STREAM = {
    (f"dynamodb:{action}", "NotificationsTable.StreamArn")
    for action in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
}
PERMISSIONS: dict[str, Permissions] = {
    "APIHandler": {
        *on_tables(WRITE, *(set(settings.TABLES) - {"connections", "audit"})),
        *on_tables(("PutItem", "Query"), "audit"),
        *on_indexes("devices/by-domain", "devices/by-state", "sightings/by-day"),
        *on_indexes("registrations/by-change", "registrations/by-state"),
        *on_tables(("BatchWriteItem",), "users"),
        *on_tables(("DescribeTable",), "codes"),
        *KEYS,
        *CENTRAL_KEY,
    },
    "WebsocketConnect": {
        *on_tables(("PutItem", "UpdateItem"), "connections"),
        *on_tables(("UpdateItem",), "limits"),
    },
    "WebsocketMessage": {
        *on_tables(WRITE, "connections", "notifications", "limits"),
        *on_tables(("PutItem",), "audit"),
        *on_tables(WRITE, "domains", "codes", "holdings", "devices", "users"),
        *on_indexes("devices/by-domain", "devices/by-state"),
        *KEYS,
        *CENTRAL_KEY,
        *MANAGE,
    },
    "WebsocketDisconnect": on_tables((*READ, "DeleteItem", "UpdateItem"), "connections"),
    "FollowNotifications": {
        *TELL,
        *on_tables(READ, "registrations"),
        *STREAM,
        ("sqs:SendMessage", "NotificationsFailureQueue.Arn"),
    },
    "HandOver": {
        *on_tables(WRITE, "notifications", "devices"),
        *on_tables(READ, "domains", "users", "holdings", "registrations", "codes"),
        *on_indexes("devices/by-domain"),
        *VAULT_KEY,
        ("events:PutEvents", BUS),
        *STREAM,
        ("sqs:SendMessage", "HandoversFailureQueue.Arn"),
    },
    "EveryMinute": {*TELL, *on_tables(("DescribeTable",), "codes")},
    "HandOverAgain": {
        *on_tables(WRITE, "notifications", "devices"),
        *on_tables(READ, "domains", "users", "holdings"),
        *on_tables(("BatchWriteItem",), "users", "holdings"),
        *on_tables(("PutItem",), "audit"),
        *VAULT_KEY,
    },
}
"""What each function may do beside writing its log; nothing else."""

ELSEWHERE = (
    *("ISSUER", "AUDIENCE", "SIGN_IN_URL", "SIP_CLAIM", "DOMAIN_CLAIM", "ROLES_CLAIM"),
    *("PUBLIC_URL", "WEBSOCKET_URL", "EDGE_HASHES", "EDGE_ONLY"),
)
"""What tests/infra/test_sign_in.py and test_edge.py look at."""

SECONDS = dict.fromkeys(PERMISSIONS, 10) | {
    "APIHandler": 29,
    "FollowNotifications": 60,
    "HandOver": 60,
    "EveryMinute": 60,
    "HandOverAgain": 60,
}


def test_cfn_lint_has_nothing_to_say(packaged: Path) -> None:
    """The template is one that CloudFormation takes."""
    assert templates.lint(packaged / "sam.json") == (0, "")


def test_nothing_depends_on_itself(resources: Resources) -> None:
    """A circle, which cfn-lint does not see in a serverless template, would fail the deployment."""
    assert templates.circle(resources) == []


def test_every_table_and_both_secrets_are_there(resources: Resources) -> None:
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


@pytest.mark.parametrize("function", PERMISSIONS)
def test_each_function_finds_everything_it_uses(
    template: dict[str, Any], resources: Resources, function: str
) -> None:
    """Tables by reference, secrets by ARN, no secret's value in the environment."""
    properties = resources[function]["Properties"]
    variables = properties["Environment"]["Variables"]
    expected = {
        f"{concept.upper()}_TABLE": f"{concept.title()}Table" for concept in settings.TABLES
    }
    expected |= {
        f"{name.upper()}_KEY_SECRET": f"{name}KeySecret" for name in ("Code", "Vault", "Central")
    }
    host = "${WebsocketAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}"
    rest_url = f"https://{host}/api".replace("WebsocketAPI", "RestAPI")
    own = {
        "WebsocketMessage": {"DEFAULT_PUBLIC_URL": {"Fn::Sub": rest_url}},
        "HandOver": {"EVENT_BUS": {"Ref": "EventBus"}},
    }
    assert variables == {
        **{name: {"Ref": resource} for name, resource in expected.items()},
        **{name: variables[name] for name in ELSEWHERE},
        "WEBSOCKET_ENDPOINT": {"Fn::Sub": f"https://{host}/api"},
        "METRICS_NAMESPACE": {"Ref": "AWS::StackName"},
        "LOG_LEVEL": "INFO",
        **own.get(function, {}),
    }
    assert set(expected.values()) <= set(resources) | set(template["Parameters"])
    assert properties["Timeout"] == SECONDS[function]
    assert properties["MemorySize"] == 1024
    assert properties["Architectures"] == ["x86_64"]
    assert properties["Runtime"] == f"python3.{sys.version_info.minor}"
    assert properties["Layers"] == [{"Ref": "ManagedLayer"}]


def written(resource: dict[str, Any]) -> str:
    """Write a resource of a policy as one text."""
    ((kind, value),) = resource.items()
    if kind == "Fn::If":
        condition, named, otherwise = value
        assert otherwise == {"Ref": "AWS::NoValue"}
        return f"{written(named)} if {condition}"
    return ".".join(value) if kind == "Fn::GetAtt" else str(value)


def test_each_function_has_a_role_of_its_own(resources: Resources) -> None:
    """No two functions share one, and there is no function that is not expected here."""
    functions = of_type(resources, "AWS::Serverless::Function")
    assert set(functions) == set(PERMISSIONS)
    roles = {made["Properties"]["Role"]["Fn::GetAtt"][0] for made in functions.values()}
    assert len(roles) == len(functions)
    assert roles == set(of_type(resources, "AWS::IAM::Role"))


@pytest.mark.parametrize("function", PERMISSIONS)
def test_each_function_may_do_what_it_does_and_nothing_else(
    resources: Resources, function: str
) -> None:
    """Exactly its actions on exactly its resources; nobody may scan or delete a table."""
    role = resources[resources[function]["Properties"]["Role"]["Fn::GetAtt"][0]]["Properties"]
    assert set(role) == {"AssumeRolePolicyDocument", "Policies"}
    (policy,) = role["Policies"]
    granted: Permissions = set()
    for statement in policy["PolicyDocument"]["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        named = statement["Resource"]
        for resource in named if isinstance(named, list) else [named]:
            granted |= {(action, written(resource)) for action in statement["Action"]}
    log = f"{function}Logs.Arn"
    logs = {("logs:CreateLogStream", log), ("logs:PutLogEvents", log)}
    assert granted == PERMISSIONS[function] | logs


def test_a_foreign_central_services_key_is_named_whole_or_not_at_all(
    template: dict[str, Any],
) -> None:
    """A policy takes the whole ARN alone, and without one nothing more is granted."""
    parameter = template["Parameters"]["CentralKeySecret"]
    assert parameter["Default"] == ""
    given = {"Fn::Not": [{"Fn::Equals": [{"Ref": "CentralKeySecret"}, ""]}]}
    assert template["Conditions"]["HasCentralKey"] == given
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
    pattern = parameter["AllowedPattern"]
    assert all(re.fullmatch(pattern, text) for text in ("", f"{arn}dialtone/central-a1B2c3"))
    wrong = ("*", "central", f"{arn}*", f"{arn}central", f"{arn}central-a1B2c3 ")
    assert not any(re.fullmatch(pattern, text) for text in wrong)


def test_websockets_have_their_three_routes(resources: Resources) -> None:
    """Each to its function, which this API alone may call, on a stage that traces no message."""
    api = {"Ref": "WebsocketAPI"}
    assert resources["WebsocketAPI"]["Properties"]["ProtocolType"] == "WEBSOCKET"
    keys = {"Connect": "$connect", "Message": "$default", "Disconnect": "$disconnect"}
    for name, key in keys.items():
        route = resources[f"Websocket{name}Route"]["Properties"]
        integration = f"Websocket{name}APIIntegration"
        assert route["RouteKey"] == key
        assert route["Target"] == {"Fn::Join": ["/", ["integrations", {"Ref": integration}]]}
        properties = resources[integration]["Properties"]
        assert properties["IntegrationType"] == "AWS_PROXY"
        assert f"Websocket{name}" in set(references(properties["IntegrationUri"]))
        permission = resources[f"Websocket{name}InvokePermission"]["Properties"]
        assert permission["FunctionName"] == {"Ref": f"Websocket{name}"}
        assert "WebsocketAPI" in set(references(permission["SourceArn"]))
        assert route["ApiId"] == properties["ApiId"] == api
    assert len(of_type(resources, "AWS::ApiGatewayV2::Route")) == len(keys)
    stage = resources["WebsocketAPIStage"]["Properties"]
    assert (stage["ApiId"], stage["StageName"]) == (api, "api")
    assert stage["DeploymentId"] == {"Ref": "WebsocketAPIDeployment"}
    assert stage["DefaultRouteSettings"] == {
        "DataTraceEnabled": False,
        "DetailedMetricsEnabled": False,
        "LoggingLevel": "OFF",
        "ThrottlingBurstLimit": 1000,
        "ThrottlingRateLimit": 500,
    }


STREAM_SOURCE = {
    "Stream": {"Fn::GetAtt": ["NotificationsTable", "StreamArn"]},
    "StartingPosition": "TRIM_HORIZON",
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 0,
    "MaximumRecordAgeInSeconds": 3600,
    "BisectBatchOnFunctionError": True,
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "FilterCriteria": {"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]},
}
READERS = {
    "FollowNotifications": ("NotificationsFailureQueue", 1, 5),
    # EventBridge may be away for longer than any number of tries: a record's age ends them
    "HandOver": ("HandoversFailureQueue", 10, -1),
}
"""Function → its queue, how many batches of a shard it is given at once, how often again."""


@pytest.mark.parametrize("function", READERS)
def test_the_stream_is_read_as_it_should_be(resources: Resources, function: str) -> None:
    """From its oldest record on, new items alone; nothing of Chalice's placeholder is left."""
    (source,) = resources[function]["Properties"]["Events"].values()
    queue, at_once, retries = READERS[function]
    destination = {"Type": "SQS", "Destination": {"Fn::GetAtt": [queue, "Arn"]}}
    assert source == {
        "Type": "DynamoDB",
        "Properties": {
            **STREAM_SOURCE,
            "ParallelizationFactor": at_once,
            "MaximumRetryAttempts": retries,
            "DestinationConfig": {"OnFailure": destination},
        },
    }


def test_the_stream_has_no_other_reader(resources: Resources) -> None:
    """Two are what a stream is made for; the table writes the stream that is read."""
    functions = of_type(resources, "AWS::Serverless::Function")
    kinds = {
        name: [source["Type"] for source in made["Properties"].get("Events", {}).values()]
        for name, made in functions.items()
    }
    assert {name for name, found in kinds.items() if "DynamoDB" in found} == set(READERS)
    table = resources["NotificationsTable"]["Properties"]
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}


@pytest.mark.parametrize("name", ["EveryMinute", "HandOverAgain"])
def test_what_could_not_be_told_is_tried_every_minute(resources: Resources, name: str) -> None:
    """By a schedule, the one source of its function."""
    (source,) = resources[name]["Properties"]["Events"].values()
    assert source == {"Type": "Schedule", "Properties": {"Schedule": "rate(1 minute)"}}


def test_the_failure_queues_are_sealed_and_keep_two_weeks(
    resources: Resources,
) -> None:
    """The longest that a queue can, and encrypted; each reader of the stream has its own."""
    queues = of_type(resources, "AWS::SQS::Queue")
    assert set(queues) == {queue for queue, _, _ in READERS.values()}
    for queue in queues.values():
        assert queue["Properties"] == {
            "MessageRetentionPeriod": 14 * 86_400,
            "SqsManagedSseEnabled": True,
        }


def test_api_gateways_own_errors_have_our_form(resources: Resources) -> None:
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


def test_every_route_answers_a_preflight(resources: Resources) -> None:
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
    compiled = "__pycache__"
    assert {name.split("/")[0] for name in names} == {"app.py", "chalice", "chalicelib", compiled}
    assert [name for name in names if name.startswith(compiled)] == [
        importlib.util.cache_from_source("app.py")
    ]


COMPILED = """
import sys
compiled = set()
sys.addaudithook(lambda event, given: event == "compile" and compiled.add(str(given[1])))
import app
import chalicelib.api.schemas, cryptography.hazmat.primitives.ciphers.aead, jwt
print([name for name in compiled if name.startswith(PLACE)])
"""


def test_nothing_is_compiled_when_it_starts(packaged: Path, tmp_path: Path) -> None:
    """Every module has come with its bytecode, and Python takes it."""
    runtime.unzip(packaged, tmp_path)
    done = subprocess.run(  # noqa: S603 - our own command
        [
            os.path.realpath(sys.executable),
            "-S",
            "-B",
            "-c",
            f"PLACE = {str(tmp_path)!r}{COMPILED}",
        ],
        cwd=tmp_path / "task",
        env={"PYTHONPATH": os.pathsep.join(map(str, runtime.path(tmp_path)))},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"


def test_two_packages_are_the_same(packaged: Path, tmp_path: Path) -> None:
    """What was reviewed is what is deployed."""
    again = templates.package(tmp_path / "again")

    def digests(folder: Path) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())
        }

    assert digests(again) == digests(packaged)


def test_a_file_that_is_too_large_is_told_its_most(resources: Resources) -> None:
    """By the gateway as by its copy on one machine, and as the view that takes files has it."""
    responses = resources["RestAPI"]["Properties"]["GatewayResponses"]
    (template,) = responses["REQUEST_TOO_LARGE"]["ResponseTemplates"].values()
    assert json.loads(template) == json.loads(api_gateway.TOO_LARGE[1])
    assert f"{rollouts.MAX_FILE_BYTES} bytes" in template


def test_files_come_as_they_are_and_answers_go_compressed(
    resources: Resources,
) -> None:
    """What the pages and UsersAdmin need of the REST API, beside its routes."""
    body = resources["RestAPI"]["Properties"]["DefinitionBody"]
    assert body["x-amazon-apigateway-binary-media-types"] == ["application/octet-stream"]
    assert resources["RestAPI"]["Properties"]["MinimumCompressionSize"] == 1024


def test_tables_forget_what_ends_and_nothing_else(resources: Resources) -> None:
    """As docs/data-model.md has it; and what is deleted by mistake can be had back."""
    items = (templates.ROOT / "docs" / "data-model.md").read_text().split("\n## ")[1]
    rows = [line.split(" | ", 1) for line in items.splitlines() if line.startswith("| ")]
    ending = {name.strip("| ") for name, told in rows if "purge_at" in told}
    assert {"codes", "limits", "idempotency"} <= ending < set(settings.TABLES)
    found = of_type(resources, "AWS::DynamoDB::Table")
    assert set(found) == {f"{concept.title()}Table" for concept in settings.TABLES}
    for concept in settings.TABLES:
        table = found[f"{concept.title()}Table"]
        properties = table["Properties"]
        lives = {"AttributeName": "purge_at", "Enabled": True} if concept in ending else None
        assert properties.get("TimeToLiveSpecification") == lives, concept
        assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["SSESpecification"] == {"SSEEnabled": True}
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"


def test_what_the_gateway_takes_is_exported(template: dict[str, Any]) -> None:
    """The packaged template still has the names, which tests/infra/test_gateway.py compares."""
    written_down = json.loads((templates.ROOT / "infra" / "resources.json").read_text())["Outputs"]
    exported = {name: output for name, output in written_down.items() if "Export" in output}
    assert len(exported) > 10
    assert exported.items() <= template["Outputs"].items()


def test_no_policy_is_about_everything(resources: Resources) -> None:
    """But a key's own, which says `*` and means the key, and signing in to images, which must."""
    written_down = [
        json.loads(path.read_text())["Resources"]
        for path in (templates.ROOT / "infra").glob("*.json")
        if path.name != "resources.json"
    ]
    assert len(written_down) == 3
    count = 0
    for part in [resources, *written_down]:
        for name, made in part.items():
            for statement in templates.statements(made):
                count += 1
                named = statement.get("Resource", [])
                everything = "*" in (named if isinstance(named, list) else [named])
                is_sign_in = statement.get("Action") == ["ecr:GetAuthorizationToken"]
                assert everything is (made["Type"] == "AWS::KMS::Key" or is_sign_in), name
    assert count > 20
