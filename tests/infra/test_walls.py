"""What stops whoever calls too often, before a function is started; there is no way round it."""

import re

import pytest

from app import app
from chalicelib.core import scripts
from tests.infra.templates import Resources, of_type

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]

OF_PHONES = {
    "/init",
    "/devices/update",
    "/devices/register",
    "/devices/{hw_id}/jobs",
    "/devices/{hw_id}/jobs/{job_id}",
}


def test_phone_routes_have_a_rate_and_no_other_route(resources: Resources) -> None:
    """By address, at the stage's paths; what people call is counted nowhere here."""
    (wall,) = of_type(resources, "AWS::WAFv2::WebACL").values()
    assert wall["Properties"]["DefaultAction"] == {"Allow": {}}
    (rule,) = wall["Properties"]["Rules"]
    rate = rule["Statement"]["RateBasedStatement"]
    assert (rate["AggregateKeyType"], rate["Limit"]) == ("IP", {"Ref": "PhonesRate"})
    scope = rate["ScopeDownStatement"]["RegexMatchStatement"]
    assert scope["FieldToMatch"] == {"UriPath": {}}
    counted = {path for path in app.routes if re.search(scope["RegexString"], f"/api{path}")}
    assert counted == OF_PHONES


def test_whoever_is_stopped_gets_what_a_phone_can_live_with(resources: Resources) -> None:
    """A comment, as from the service itself, and a pause."""
    (wall,) = of_type(resources, "AWS::WAFv2::WebACL").values()
    (rule,) = wall["Properties"]["Rules"]
    answer = rule["Action"]["Block"]["CustomResponse"]
    assert answer["ResponseCode"] == 429
    assert answer["ResponseHeaders"] == [{"Name": "Retry-After", "Value": "300"}]
    body = wall["Properties"]["CustomResponseBodies"][answer["CustomResponseBodyKey"]]
    assert body["ContentType"] == "TEXT_PLAIN"
    assert body["Content"] == scripts.comment("too many requests, come back later")
    # if API Gateway puts its own words for it, they say the same
    own = resources["RestAPI"]["Properties"]["GatewayResponses"]["WAF_FILTERED"]
    assert own["StatusCode"] == "429"
    assert own["ResponseParameters"]["Headers"]["Retry-After"] == "'300'"


def test_the_wall_writes_nothing_down(resources: Resources) -> None:
    """No sampled request, no log: both would hold queries."""
    assert of_type(resources, "AWS::WAFv2::LoggingConfiguration") == {}
    (wall,) = of_type(resources, "AWS::WAFv2::WebACL").values()
    for part in [wall["Properties"], *wall["Properties"]["Rules"]]:
        assert part["VisibilityConfig"]["SampledRequestsEnabled"] is False


def test_the_wall_stands_before_the_stage(resources: Resources) -> None:
    """Made after the stage, which SAM makes; behind an edge there is none, for all come from it."""
    (joined,) = of_type(resources, "AWS::WAFv2::WebACLAssociation").values()
    arn = joined["Properties"]["ResourceArn"]["Fn::Sub"]
    assert arn.endswith("::/restapis/${RestAPI}/stages/api")
    assert joined["DependsOn"] == "RestAPIapiStage"
    assert joined["Properties"]["WebACLArn"] == {"Fn::GetAtt": ["PhonesWall", "Arn"]}
    assert joined["Condition"] == resources["PhonesWall"]["Condition"] == "IsServedDirectly"


def test_there_is_one_stage(resources: Resources) -> None:
    """SAM would make another one beside it, without throttles, log and wall, but for this."""
    assert resources["RestAPI"]["Properties"]["OpenApiVersion"] == "2.0"
    assert resources["RestAPI"]["Properties"]["DefinitionBody"]["swagger"] == "2.0"
