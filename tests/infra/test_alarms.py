"""What wakes an operator, and what they look at: it is counted, and docs/operations.md names it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chalicelib import settings
from tests.infra.templates import ROOT, Resources, of_type, references

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
OWN = "AWS::StackName"
"""Where metrics of ours are: under the stack's name, so that stages in one account do not mix."""

MAX_METRICS = 10
"""An alarm of CloudWatch adds up no more."""


def section(title: str) -> str:
    """Read a part of docs/operations.md."""
    return OPERATIONS.split(f"\n## {title}\n")[1].split("\n## ")[0]


def counted() -> set[str]:
    """Find what the code counts, and what the template counts in its logs."""
    sources = (path.read_text() for path in Path(ROOT / "chalicelib").rglob("*.py"))
    return {
        name
        for source in sources
        for name in re.findall(r"observability\.\w+\(\s*\"([A-Z]\w+)\"", source)
    }


def from_logs(resources: Resources) -> set[str]:
    """Find what the template counts in logs."""
    return {
        transformed["MetricName"]
        for made in of_type(resources, "AWS::Logs::MetricFilter").values()
        for transformed in made["Properties"]["MetricTransformations"]
        if transformed["MetricNamespace"] == {"Ref": OWN}
    }


def alarmed(alarm: dict[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Tell an alarm's metrics: namespace, or what names it, name, dimensions."""
    stats = [one["MetricStat"]["Metric"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
    return [
        (
            metric["Namespace"]["Ref"]
            if isinstance(metric["Namespace"], dict)
            else metric["Namespace"],
            metric["MetricName"],
            tuple(one["Name"] for one in metric.get("Dimensions", [])),
        )
        for metric in stats or [alarm]
    ]


def shown(resources: Resources) -> list[dict[str, Any]]:
    """Read what the dashboard shows."""
    (dashboard,) = of_type(resources, "AWS::CloudWatch::Dashboard").values()
    body = json.loads(dashboard["Properties"]["DashboardBody"]["Fn::Sub"])
    return [one["properties"] for one in body["widgets"] if one["type"] == "metric"]


def dimension_of(metric: str) -> str:
    """Read the one dimension of a metric, empty for none, as docs/operations.md has it."""
    (row,) = re.findall(rf"^\| `{metric}` \| *(\w*) *\|", section("Metrics"), re.MULTILINE)
    return str(row)


def test_what_alarms_watch_is_counted_and_described(resources: Resources) -> None:
    """A metric of ours by its name and its dimension, an alarm by its row."""
    known = counted() | from_logs(resources)
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        for namespace, metric, dimensions in alarmed(alarm["Properties"]):
            if namespace != OWN:
                assert namespace in {"AWS/Lambda", "AWS/SQS", "AWS/DynamoDB"}, name
            elif metric in from_logs(resources):
                assert (metric in OPERATIONS, dimensions) == (True, ()), name
            else:
                assert metric in known, name
                assert "".join(dimensions) == dimension_of(metric), name
    assert {"LimitReached", "GuessRisk", "Defect"} <= {
        metric
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        for _, metric, _ in alarmed(alarm["Properties"])
    }


def test_what_the_dashboard_shows_is_counted_and_described(resources: Resources) -> None:
    """Each metric of ours by its name and its dimension, also where it is searched for."""
    known = counted() | from_logs(resources)
    named = set()
    for widget in shown(resources):
        for row in widget["metrics"]:
            if isinstance(row[0], dict):
                searched = r"\{\"\$\{([\w:]+)\}\",(\w+)\} MetricName=\"(\w+)\""
                ((namespace, dimension, metric),) = re.findall(searched, row[0]["expression"])
                assert namespace == OWN
            elif row[0] == f"${{{OWN}}}":
                plain = [part for part in row if isinstance(part, str)]
                metric, dimension = plain[1], "".join(plain[2:3])
            else:
                assert row[0] in {"AWS/Lambda", "AWS/SQS"}
                continue
            named.add(metric)
            assert metric in known
            if metric not in from_logs(resources):
                assert dimension_of(metric) == dimension
    journeys = {"CodeIssued", "PhoneRouted", "CodeRedeemed", "PhoneTold", "RolloutMade"}
    assert journeys <= named


def test_stages_in_one_account_do_not_mix(resources: Resources) -> None:
    """Every function counts where the alarms of its own stack look, and nowhere else."""
    for function in of_type(resources, "AWS::Serverless::Function").values():
        variables = function["Properties"]["Environment"]["Variables"]
        assert variables["METRICS_NAMESPACE"] == {"Ref": OWN}
    assert settings.read({"METRICS_NAMESPACE": "dialtone-prod"}).metrics_namespace == (
        "dialtone-prod"
    )
    ours = [
        metric
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        for namespace, metric, _ in alarmed(alarm["Properties"])
        if namespace == OWN
    ]
    assert {"Defect", "MessageFailed", "LimitReached", "GuessRisk", "EventLost"} == set(ours)
    for counting in of_type(resources, "AWS::Logs::MetricFilter").values():
        (transformed,) = counting["Properties"]["MetricTransformations"]
        assert transformed["MetricNamespace"] == {"Ref": OWN}
        assert transformed["MetricName"] == "Defect"


def test_every_alarm_tells_the_topic_and_has_its_row(resources: Resources) -> None:
    """When it goes off and when it is over; docs/operations.md says what it means."""
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    functions = of_type(resources, "AWS::Serverless::Function")
    rows = set(re.findall(r"^\| `(\w+Alarm|…\w+Alarm)` \|", section("Alarms"), re.MULTILINE))
    of_functions = {f"{name}{kind}Alarm" for name in functions for kind in ("Errors", "Throttles")}
    assert of_functions <= set(alarms)
    others = set(alarms) - of_functions
    assert rows == others | {"…ErrorsAlarm", "…ThrottlesAlarm"}
    for alarm in alarms.values():
        properties = alarm["Properties"]
        for actions in (properties["AlarmActions"], properties["OKActions"]):
            assert actions == [{"Ref": "AlarmTopic"}]
        assert properties["TreatMissingData"] == "notBreaching"
        assert len(alarmed(properties)) <= MAX_METRICS


def test_alarms_watch_what_is_there(resources: Resources) -> None:
    """Functions, tables and queues by reference, each of its own kind."""
    kinds = {
        "FunctionName": "AWS::Serverless::Function",
        "TableName": "AWS::DynamoDB::Table",
        "QueueName": "AWS::SQS::Queue",
    }
    for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        stats = [one.get("MetricStat", {}) for one in properties.get("Metrics", [])]
        metrics = [properties, *(one.get("Metric", {}) for one in stats)]
        for one in (one for metric in metrics for one in metric.get("Dimensions", [])):
            for name in references(one["Value"]):
                assert resources[name]["Type"] == kinds[one["Name"]]


def test_alarms_may_use_the_topics_key(resources: Resources) -> None:
    """A topic under SNS's own key would take no alarm at all."""
    (topic,) = of_type(resources, "AWS::SNS::Topic").values()
    assert topic["Properties"]["KmsMasterKeyId"] == {"Ref": "AlarmKey"}
    statements = resources["AlarmKey"]["Properties"]["KeyPolicy"]["Statement"]
    (alarms,) = [one for one in statements if "Service" in one["Principal"]]
    assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert set(alarms["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    # whether CloudWatch says for which account is nowhere promised; who may publish, the topic says
    assert "Condition" not in alarms


def test_a_defect_is_counted_in_each_log_that_may_have_it(resources: Resources) -> None:
    """By the word that is logged where one of us goes on for the sake of others."""
    for place in ("api/views.py", "roles/handovers.py"):
        assert 'exception("defect")' in (ROOT / "chalicelib" / place).read_text()
    made = [one["Properties"] for one in of_type(resources, "AWS::Logs::MetricFilter").values()]
    assert {one["FilterPattern"] for one in made} == {'{ $.message = "defect" }'}
    assert [one["LogGroupName"]["Ref"] for one in made] == [
        "APIHandlerLogs",
        "FollowNotificationsLogs",
        "HandOverLogs",
        "EveryMinuteLogs",
        "HandOverAgainLogs",
    ]
