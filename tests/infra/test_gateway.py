"""The gateway's stack: containers that keep phones' websockets, and what they may do."""

import ast
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib import settings
from gateway.phones import MAX_CONNECTIONS
from tests.infra.templates import ROOT, Resources, circle, lint, of_type, statements
from tests.infra.test_package import READ

PATH = ROOT / "infra" / "gateway.json"
TEMPLATE: dict[str, Any] = json.loads(PATH.read_text())
PARAMETERS: dict[str, dict[str, Any]] = TEMPLATE["Parameters"]
RESOURCES: Resources = TEMPLATE["Resources"]
SERVICE: dict[str, Any] = json.loads((ROOT / "infra" / "resources.json").read_text())
EDGE: dict[str, Any] = json.loads((ROOT / "infra" / "edge.json").read_text())
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
README = (ROOT / "infra" / "README.md").read_text()
(CONTAINER,) = RESOURCES["Task"]["Properties"]["ContainerDefinitions"]

READ_TABLES = {
    *("codes", "holdings", "devices", "domains"),
    *("jobs", "registrations", "limits", "connections"),
}
WRITTEN_TABLES = {
    "PutItem": {"holdings", "devices", "audit", "connections", "notifications"},
    "UpdateItem": {"codes", "devices", "registrations", "limits", "connections"},
    "DeleteItem": {"holdings", "connections"},
}
TABLES = READ_TABLES.union(*WRITTEN_TABLES.values())

MEGABYTES, KILOBYTES_OF_A_PHONE = 100, 50
"""What a container takes, and each of its phones: docs/operations.md."""

MAX_STOP_SECONDS = 120
"""Fargate waits no longer between the signal to end and the kill."""

PING_SECONDS = 30


def properties(name: str) -> dict[str, Any]:
    """Read the properties of a resource."""
    return dict(RESOURCES[name]["Properties"])


def attributes(name: str, kind: str) -> dict[str, str]:
    """Read what the load balancer or its target group is told by key and value."""
    return {one["Key"]: one["Value"] for one in properties(name)[kind]}


def imported(value: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a template
    """Find what a part of the template takes from the service's stack."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "Fn::ImportValue":
                yield str(inner["Fn::Sub"]).removeprefix("${ServiceStack}-")
            yield from imported(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from imported(inner)


def modules(folder: str) -> dict[str, Path]:
    """Find the modules of a package: name → file."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = {**modules("chalicelib"), **modules("gateway")}


def named(path: Path) -> Iterator[str]:
    """Find what a module imports, wherever in it, and what it imports on use."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "on_use":
            (name,) = node.args
            yield ast.literal_eval(name)


def needed() -> set[str]:
    """Find every module of ours that the gateway can come to."""
    found: set[str] = set()
    ahead = set(modules("gateway"))
    while ahead:
        found |= ahead
        ahead = {name for one in ahead for name in named(MODULES[one])} & set(MODULES) - found
    return found


@pytest.mark.slow
def test_cfn_lint_has_nothing_to_say() -> None:
    """The template is one that CloudFormation takes, and nothing in it depends on itself."""
    assert lint(PATH) == (0, "")
    assert circle(RESOURCES) == []


def test_it_is_small_enough_to_be_sent() -> None:
    """`make deploy-gateway` names no bucket, and CloudFormation takes no more without one."""
    assert len(PATH.read_bytes()) <= 51_200


def test_what_it_takes_of_the_service_is_there() -> None:
    """Each name is exported by the service's stack, for this one alone, and never changes there."""
    exported = {
        str(output["Export"]["Name"]["Fn::Sub"]).removeprefix("${AWS::StackName}-"): output["Value"]
        for output in SERVICE["Outputs"].values()
        if "Export" in output
    }
    assert set(imported(TEMPLATE)) == set(exported)
    # whatever else is exported could not be changed while this stack is there
    assert exported == {name: {"Ref": name} for name in exported}


def test_the_container_finds_everything_it_uses() -> None:
    """Tables by name, secrets by ARN, no secret's value; metrics under the service's name."""
    variables = {one["Name"]: one["Value"] for one in CONTAINER["Environment"]}
    assert len(variables) == len(CONTAINER["Environment"])
    of_service = {f"{concept.upper()}_TABLE": f"{concept.title()}Table" for concept in TABLES}
    of_service |= {"CODE_KEY_SECRET": "CodeKeySecret", "VAULT_KEY_SECRET": "VaultKeySecret"}
    assert variables == {
        **{
            name: {"Fn::ImportValue": {"Fn::Sub": f"${{ServiceStack}}-{resource}"}}
            for name, resource in of_service.items()
        },
        "GATEWAY_PORT": str(CONTAINER["PortMappings"][0]["ContainerPort"]),
        "GATEWAY_PROXIES": {"Ref": "BalancerNetworks"},
        "GATEWAY_DRAIN_SECONDS": {"Ref": "DrainSeconds"},
        "METRICS_NAMESPACE": {"Ref": "ServiceStack"},
        "EDGE_HASHES": {"Ref": "EdgeHashes"},
        "EDGE_ONLY": {"Ref": "EdgeOnly"},
        "LOG_LEVEL": {"Ref": "LogLevel"},
        "AWS_DEFAULT_REGION": {"Ref": "AWS::Region"},
    }


def test_limits_are_the_same_as_the_functions() -> None:
    """What a stage sets for its functions is set here, too, or one could guess twice as often."""
    stages = json.loads((ROOT / ".chalice" / "config.json").read_text())["stages"]
    given = {one["Name"] for one in CONTAINER["Environment"]}
    for stage in stages.values():
        assert set(stage["environment_variables"]) <= given


def test_its_settings_are_read_as_they_are_given() -> None:
    """The defaults of the parameters are settings that the gateway takes."""
    for name in ("EdgeHashes", "EdgePrefixList"):
        assert re.fullmatch(PARAMETERS[name]["AllowedPattern"], "")
    networks = "10.0.1.0/24 10.0.2.0/24"
    assert re.fullmatch(PARAMETERS["BalancerNetworks"]["AllowedPattern"], networks)
    read = settings.read(
        {
            "GATEWAY_PROXIES": networks,
            "GATEWAY_DRAIN_SECONDS": str(PARAMETERS["DrainSeconds"]["Default"]),
            "EDGE_HASHES": PARAMETERS["EdgeHashes"]["Default"],
        }
    )
    assert read.gateway_proxies == ("10.0.1.0/24", "10.0.2.0/24")
    assert (read.gateway_port, read.demands_edge) == (
        CONTAINER["PortMappings"][0]["ContainerPort"],
        False,
    )
    assert read.gateway_drain_seconds == settings.Settings().gateway_drain_seconds


def granted(role: str) -> set[tuple[str, str]]:
    """Read what a role may do, each action with its resource, tables by concept."""
    (policy,) = properties(role)["Policies"]
    found = set()
    for statement in policy["PolicyDocument"]["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"]
        for resource in resources if isinstance(resources, list) else [resources]:
            (name,) = {*imported(resource)} or {json.dumps(resource)}
            found |= {(action, name) for action in statement["Action"]}
    return found


def test_it_may_do_what_it_does_and_nothing_else() -> None:
    """Exactly its actions on exactly its tables and both keys; it reads no audit trail."""
    assert granted("TaskRole") == {
        *((f"dynamodb:{action}", f"{one.title()}Table") for one in READ_TABLES for action in READ),
        *(
            (f"dynamodb:{action}", f"{one.title()}Table")
            for action, tables in WRITTEN_TABLES.items()
            for one in tables
        ),
        *(("secretsmanager:GetSecretValue", f"{name}KeySecret") for name in ("Code", "Vault")),
    }
    assert properties("Task")["TaskRoleArn"] == {"Fn::GetAtt": ["TaskRole", "Arn"]}


def test_its_tables_are_those_that_its_code_comes_to() -> None:
    """By every import, and by `connections`, where the phones that are online stand."""
    concepts = {
        concept
        for name in needed()
        if name.startswith("chalicelib.storage.")
        for concept in re.findall(
            r"^    concept = \"(\w+)\"", MODULES[name].read_text(), re.MULTILINE
        )
    }
    assert concepts | {"connections"} == TABLES


def test_whoever_starts_it_reads_its_image_and_writes_its_log() -> None:
    """Signing in to images alone cannot be narrowed; what it then may read is one repository."""
    place = "arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository"
    repository = {"Fn::Sub": f"{place}/${{Repository}}"}
    log = json.dumps({"Fn::GetAtt": ["Logs", "Arn"]})
    actions = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")
    assert granted("ExecutionRole") == {
        ("ecr:GetAuthorizationToken", json.dumps("*")),
        *((f"ecr:{action}", json.dumps(repository)) for action in actions),
        ("logs:CreateLogStream", log),
        ("logs:PutLogEvents", log),
    }
    image = CONTAINER["Image"]["Fn::Sub"]
    assert image.endswith("/${Repository}:${Version}")
    for role in ("TaskRole", "ExecutionRole"):
        (trust,) = statements(properties(role)["AssumeRolePolicyDocument"])
        assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert set(trust["Condition"]) == {"StringEquals", "ArnLike"}


def test_only_the_load_balancer_reaches_a_container() -> None:
    """Its like do, too; phones reach the load balancer on 443, or the edge alone does."""
    port = CONTAINER["PortMappings"][0]["ContainerPort"]
    (inward,) = properties("Tasks")["SecurityGroupIngress"]
    assert inward["SourceSecurityGroupId"] == {"Fn::GetAtt": ["Balancers", "GroupId"]}
    assert (inward["FromPort"], inward["ToPort"]) == (port, port)
    (outward,) = properties("Tasks")["SecurityGroupEgress"]
    assert (outward["FromPort"], outward["ToPort"], outward["CidrIp"]) == (443, 443, "0.0.0.0/0")
    for rule, other in (("TasksFromTasks", "Source"), ("TasksToTasks", "Destination")):
        among = properties(rule)
        assert among["GroupId"] == {"Fn::GetAtt": ["Tasks", "GroupId"]}
        assert among[f"{other}SecurityGroupId"] == {"Fn::GetAtt": ["Tasks", "GroupId"]}
        assert (among["FromPort"], among["ToPort"]) == (port, port)
    onward = properties("BalancersToTasks")
    assert onward["DestinationSecurityGroupId"] == {"Fn::GetAtt": ["Tasks", "GroupId"]}
    assert (onward["FromPort"], onward["ToPort"]) == (port, port)
    assert "SecurityGroupEgress" not in properties("Balancers")
    (choice,) = properties("Balancers")["SecurityGroupIngress"]
    condition, edge, everybody = choice["Fn::If"]
    assert condition == "HasEdgePrefixList"
    assert edge["SourcePrefixListId"] == {"Ref": "EdgePrefixList"}
    assert "CidrIp" not in edge
    assert everybody["CidrIp"] == "0.0.0.0/0"
    for one in (edge, everybody):
        assert (one["FromPort"], one["ToPort"]) == (443, 443)
    rule = TEMPLATE["Rules"]["AnEdgeIsKnown"]
    assert rule["RuleCondition"] == TEMPLATE["Conditions"]["HasEdgePrefixList"]


def test_the_load_balancer_hands_on_what_the_edge_sends() -> None:
    """The same paths, over TLS alone; nobody outside asks for its health."""
    assert {one["Protocol"] for one in listeners()} == {"HTTPS"}
    (rule,) = of_type(RESOURCES, "AWS::ElasticLoadBalancingV2::ListenerRule").values()
    (condition,) = rule["Properties"]["Conditions"]
    paths = set(condition["PathPatternConfig"]["Values"])
    distribution = EDGE["Resources"]["Distribution"]["Properties"]["DistributionConfig"]
    behaviors = [one["Fn::If"][1] for one in distribution["CacheBehaviors"] if "Fn::If" in one]
    assert paths == {one["PathPattern"] for one in behaviors}
    assert paths == {"/*/devices/sysclients", "/*/devices/passthrough/*"}
    (listener,) = listeners()
    (otherwise,) = listener["DefaultActions"]
    assert otherwise["FixedResponseConfig"]["StatusCode"] == "404"
    assert "sysclients" in distribution["Origins"][2]["Fn::If"][1]["Id"]
    assert EDGE["Parameters"]["SysclientsHost"]["Default"] == ""


def listeners() -> list[dict[str, Any]]:
    """Find where the load balancer listens."""
    kind = "AWS::ElasticLoadBalancingV2::Listener"
    return [one["Properties"] for one in of_type(RESOURCES, kind).values()]


def test_silent_phones_stay() -> None:
    """The load balancer waits for several pings, and adds whom it heard to what it hands on."""
    told = attributes("Balancer", "LoadBalancerAttributes")
    assert int(told["idle_timeout.timeout_seconds"]) >= 3 * PING_SECONDS
    assert told["routing.http.xff_header_processing.mode"] == "append"
    assert attributes("Targets", "TargetGroupAttributes")["stickiness.enabled"] == "false"


def test_a_container_has_the_time_to_let_its_phones_go() -> None:
    """However long it drains, it is killed later, and the load balancer does not cut it before."""
    stop = CONTAINER["StopTimeout"]
    assert PARAMETERS["DrainSeconds"]["MaxValue"] + 15 <= stop <= MAX_STOP_SECONDS
    delay = attributes("Targets", "TargetGroupAttributes")["deregistration_delay.timeout_seconds"]
    assert int(delay) >= stop
    health = properties("Targets")
    assert (health["HealthCheckPath"], health["Matcher"]) == ("/health", {"HttpCode": "200"})
    assert health["Port"] == CONTAINER["PortMappings"][0]["ContainerPort"]


def test_new_containers_come_before_old_ones_go() -> None:
    """At the least number, too, and never all at once; a version that does not start goes back."""
    told = properties("Service")["DeploymentConfiguration"]
    assert told["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert told["MinimumHealthyPercent"] == 100
    fewest = PARAMETERS["MinTasks"]["MinValue"]
    assert fewest < fewest * told["MaximumPercent"] // 100 < 2 * fewest
    # how many there are, scaling says: a deployment would set it back
    assert "DesiredCount" not in properties("Service")
    scaled = properties("Scaling")
    assert (scaled["MinCapacity"], scaled["MaxCapacity"]) == (
        {"Ref": "MinTasks"},
        {"Ref": "MaxTasks"},
    )


def test_it_scales_by_the_phones_that_are_connected() -> None:
    """By the metric that the gateway writes, on average, well below what a container can do."""
    policies = {
        name: made["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        for name, made in of_type(RESOURCES, "AWS::ApplicationAutoScaling::ScalingPolicy").items()
    }
    phones = policies["ScalingByPhones"]
    assert phones["CustomizedMetricSpecification"] == {
        "Namespace": {"Ref": "ServiceStack"},
        "MetricName": "PhonesConnected",
        "Statistic": "Average",
        "Unit": "Count",
    }
    assert "`PhonesConnected`" in OPERATIONS
    assert phones["TargetValue"] == {"Ref": "PhonesPerTask"}
    assert PARAMETERS["PhonesPerTask"]["Default"] < MAX_CONNECTIONS / 2
    assert PARAMETERS["PhonesPerTask"]["MaxValue"] < MAX_CONNECTIONS
    cpu = policies["ScalingByCpu"]["PredefinedMetricSpecification"]
    assert cpu == {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}
    # phones move when a container goes, so that is not done for a short time
    assert all(one["ScaleInCooldown"] > one["ScaleOutCooldown"] for one in policies.values())


def test_a_full_container_fits() -> None:
    """Its phones take less memory than wakes an operator, and less than its open files."""
    memory = int(properties("Task")["Memory"])
    taken = MEGABYTES + MAX_CONNECTIONS * KILOBYTES_OF_A_PHONE / 1000
    assert taken < memory * properties("GatewayMemoryAlarm")["Threshold"] / 100
    (files,) = CONTAINER["Ulimits"]
    assert files["Name"] == "nofile"
    assert files["SoftLimit"] > 2 * MAX_CONNECTIONS
    assert f"each of {MAX_CONNECTIONS:,} phones, {taken:.0f} MB of" in OPERATIONS
    assert f"It takes {MAX_CONNECTIONS:,} and then refuses" in OPERATIONS
    assert f"takes {MAX_CONNECTIONS:,} phones at most" in README
    assert properties("GatewayFullAlarm")["Threshold"] < MAX_CONNECTIONS


def test_a_container_can_change_nothing_of_itself() -> None:
    """Nobody gets a shell in it, and nothing is written there."""
    assert CONTAINER["ReadonlyRootFilesystem"] is True
    assert CONTAINER["Privileged"] is False
    assert properties("Service")["EnableExecuteCommand"] is False


def test_its_log_ends_and_no_other_is_written() -> None:
    """The load balancer's would hold queries; a log that is not taken keeps no phone waiting."""
    (group,) = of_type(RESOURCES, "AWS::Logs::LogGroup").values()
    assert group["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}
    assert PARAMETERS["LogDays"] == SERVICE["Parameters"]["LogDays"]
    options = CONTAINER["LogConfiguration"]["Options"]
    assert (options["awslogs-group"], options["mode"]) == ({"Ref": "Logs"}, "non-blocking")
    told = attributes("Balancer", "LoadBalancerAttributes")
    assert told["access_logs.s3.enabled"] == told["connection_logs.s3.enabled"] == "false"


def test_every_alarm_tells_the_topic_and_has_its_row() -> None:
    """The service's own topic; docs/operations.md says what each means."""
    alarms = of_type(RESOURCES, "AWS::CloudWatch::Alarm")
    section = OPERATIONS.split("\n## Alarms of the gateway\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+Alarm)` \|", section, re.MULTILINE)) == set(alarms)
    topic = {"Fn::ImportValue": {"Fn::Sub": "${ServiceStack}-AlarmTopic"}}
    for name, made in alarms.items():
        told = made["Properties"]
        assert told["AlarmActions"] == told["OKActions"] == [topic]
        # where no container is left, nothing counts how many are healthy
        expected = "breaching" if name == "NoTaskAlarm" else "notBreaching"
        assert told["TreatMissingData"] == expected, name
        assert told["AlarmDescription"].endswith("see Alarms of the gateway in docs/operations.md")


def test_errors_are_counted_where_they_are_alarmed() -> None:
    """By the level of a line: words in it may be what a phone calls itself."""
    (counting,) = of_type(RESOURCES, "AWS::Logs::MetricFilter").values()
    (transformed,) = counting["Properties"]["MetricTransformations"]
    alarmed = properties("GatewayErrorsAlarm")
    assert counting["Properties"]["LogGroupName"] == {"Ref": "Logs"}
    assert transformed["MetricNamespace"] == alarmed["Namespace"] == {"Ref": "ServiceStack"}
    assert transformed["MetricName"] == alarmed["MetricName"]
    pattern = counting["Properties"]["FilterPattern"]
    assert pattern == '{ ($.level = "ERROR") || ($.level = "CRITICAL") }'


def test_phones_that_drop_are_noticed() -> None:
    """All containers together, against five minutes before; one metric is what goes off."""
    metrics = {one["Id"]: one for one in properties("PhonesDroppedAlarm")["Metrics"]}
    (goes_off,) = [name for name, one in metrics.items() if one.get("ReturnData", True)]
    stat = metrics["phones"]["MetricStat"]
    assert (goes_off, stat["Stat"], stat["Metric"]["MetricName"]) == (
        "change",
        "Sum",
        "PhonesConnected",
    )
    assert stat["Metric"]["Namespace"] == {"Ref": "ServiceStack"}
    assert metrics["now"]["Expression"] == f"FILL(phones, 0) / {stat['Period'] // 60}"
    assert properties("PhonesDroppedAlarm")["Threshold"] == -50


def test_it_is_deployed_beside_its_service() -> None:
    """By `make deploy-gateway`, which names the service's stack; values with blanks stay whole."""
    given = "Version=1 BalancerNetworks='10.0.1.0/24 10.0.2.0/24'"
    make = ["make", "--dry-run", "--no-print-directory"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*make, "deploy-gateway", "STAGE=prod", f"PARAMETERS={given}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shlex.split(done.stdout) == [
        *("YES=", "infra/deploy.sh", "dialtone-prod-gateway", "infra/gateway.json"),
        *("ServiceStack=dialtone-prod", "Version=1"),
        "BalancerNetworks=10.0.1.0/24 10.0.2.0/24",
    ]
