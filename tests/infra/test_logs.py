"""What is written down where it runs, and what is not."""

import json
import re
from typing import Any

import pytest

from tests.infra.templates import ROOT, Resources, lint, of_type

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]

TOLD = {
    "requestId",
    "requestTimeEpoch",
    "resourcePath",
    "routeKey",
    "httpMethod",
    "status",
    "responseLatency",
    "integrationLatency",
    "responseLength",
    "error.responseType",
}
"""All that access logs may hold: no path, query, header or body, no address, no connection."""


def access_logs(resources: Resources) -> dict[str, dict[str, Any]]:
    """Find the settings of both APIs' access logs."""
    return {
        "RestAccessLogs": resources["RestAPI"]["Properties"]["AccessLogSetting"],
        "WebsocketAccessLogs": resources["WebsocketAPIStage"]["Properties"]["AccessLogSettings"],
    }


def test_access_logs_tell_the_route_and_no_secret(resources: Resources) -> None:
    """Each line is JSON, and its variables are of those that hold nothing of the caller."""
    for group, setting in access_logs(resources).items():
        assert setting["DestinationArn"]["Fn::Sub"].endswith(f":log-group:${{{group}}}")
        line = json.loads(setting["Format"])
        named = {re.fullmatch(r"\$context\.([\w.]+)", value)[1] for value in line.values()}  # type: ignore[index]  # a value that is no variable fails here, too
        assert named <= TOLD
        assert {"requestId", "status"} <= named
        assert named & {"resourcePath", "routeKey"}


def test_nothing_is_traced(resources: Resources) -> None:
    """Neither API writes requests, answers or messages down, and no request is sampled."""
    rest = resources["RestAPI"]["Properties"]
    assert rest["TracingEnabled"] is False
    websocket = resources["WebsocketAPIStage"]["Properties"]["DefaultRouteSettings"]
    for settings in [*rest["MethodSettings"], websocket]:
        assert settings["LoggingLevel"] == "OFF"
        assert settings["DataTraceEnabled"] is False
    for function in of_type(resources, "AWS::Serverless::Function").values():
        assert function["Properties"]["Tracing"] == "PassThrough"


def test_every_log_ends(resources: Resources) -> None:
    """Each function and each API has a group of its own, which keeps lines for some days."""
    groups = of_type(resources, "AWS::Logs::LogGroup")
    functions = of_type(resources, "AWS::Serverless::Function")
    assert set(groups) == {f"{name}Logs" for name in functions} | set(access_logs(resources))
    for name, function in functions.items():
        assert function["Properties"]["LoggingConfig"] == {"LogGroup": {"Ref": f"{name}Logs"}}
    for group in groups.values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}
    names = [group["Properties"]["LogGroupName"]["Fn::Sub"] for group in groups.values()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("/dialtone/${AWS::StackName}/") for name in names)


def test_phones_have_room_of_their_own(resources: Resources) -> None:
    """Every route has a throttle; the phones' are wider, for hundreds are powered on at once."""
    paths = resources["RestAPI"]["Properties"]["DefinitionBody"]["paths"]
    methods = {
        (one["ResourcePath"], one["HttpMethod"]): one["ThrottlingRateLimit"]
        for one in resources["RestAPI"]["Properties"]["MethodSettings"]
    }
    everything = methods.pop(("/*", "*"))
    assert set(methods) == {
        ("/~1init", "GET"),
        ("/~1devices~1update", "GET"),
        ("/~1devices~1register", "POST"),
    }
    for (path, method), rate in methods.items():
        assert method.lower() in paths[path[1:].replace("~1", "/")]
        assert rate > everything


def test_cfn_lint_takes_the_accounts_template() -> None:
    """What lets API Gateway write logs at all."""
    assert lint(ROOT / "infra" / "account.json") == (0, "")
