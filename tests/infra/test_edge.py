"""The edge: one host name, and what it lets through to which API."""

import json
import os
import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from typing import Any

import pytest

from chalicelib.api.views import IDEMPOTENCY_KEY
from chalicelib.core import edge
from gateway.tunnel import ANSWER_SECONDS
from tests.infra.templates import ROOT, Resources, circle, lint, of_type

PATH = ROOT / "infra" / "edge.json"
TEMPLATE: dict[str, Any] = json.loads(PATH.read_text())
RESOURCES: Resources = TEMPLATE["Resources"]
DISTRIBUTION: dict[str, Any] = RESOURCES["Distribution"]["Properties"]["DistributionConfig"]
READ_OF_REQUESTS = {"authorization", "content-type", "accept-language", IDEMPOTENCY_KEY.lower()}
"""What chalicelib/api reads of a request's headers, besides what the edge adds."""


def plain(one: dict[str, Any]) -> dict[str, Any]:
    """Take a part that a condition may leave out as it is when it is there."""
    return dict(one["Fn::If"][1]) if "Fn::If" in one else one


def behavior_of(path: str) -> dict[str, Any]:
    """Find what CloudFront does with a path: the first pattern that fits, else the default."""
    behaviors = [plain(one) for one in DISTRIBUTION["CacheBehaviors"]]
    fits = [one for one in behaviors if fnmatchcase(path, one["PathPattern"])]
    return fits[0] if fits else dict(DISTRIBUTION["DefaultCacheBehavior"])


@pytest.fixture(scope="module")
def node() -> str:
    """Find what runs JavaScript; where it must be there, it fails for want of it."""
    found = shutil.which("node")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("node is not installed")
    return str(found)


@pytest.mark.slow
def test_cfn_lint_has_nothing_to_say() -> None:
    """The template is one that CloudFormation takes, and nothing in it depends on itself."""
    assert lint(PATH) == (0, "")
    assert circle(RESOURCES) == []


@pytest.mark.parametrize(
    ("path", "origin", "protocol"),
    [
        ("/init", "rest", "allow-all"),
        ("/api/init", "rest", "https-only"),
        ("/api/devices/update", "rest", "https-only"),
        ("/api/", "rest", "https-only"),
        ("/api/web/0123/app.js", "rest", "https-only"),
        ("/example.com/devices/sysclients", "sysclients", "https-only"),
        ("/example.com/devices/passthrough/009033000001/key/cfg.txt", "sysclients", "https-only"),
        ("/example.com/users/sysclients", "websockets", "redirect-to-https"),
        ("/example.com/devices", "websockets", "redirect-to-https"),
        ("/ws", "websockets", "redirect-to-https"),
        ("/", "websockets", "redirect-to-https"),
        ("/initial", "websockets", "redirect-to-https"),
    ],
)
def test_every_path_has_its_api(path: str, origin: str, protocol: str) -> None:
    """Plain HTTP gets an answer at `/init` alone; what carries secrets is not even redirected."""
    found = behavior_of(path)
    assert (found["TargetOriginId"], found["ViewerProtocolPolicy"]) == (origin, protocol)


def test_plain_http_is_for_init_alone() -> None:
    """In whatever order the paths stand."""
    behaviors = [plain(one) for one in DISTRIBUTION["CacheBehaviors"]]
    in_clear = [one for one in behaviors if one["ViewerProtocolPolicy"] == "allow-all"]
    assert [one["PathPattern"] for one in in_clear] == ["/init"]


def test_without_a_gateway_there_is_no_way_to_it() -> None:
    """What leads there hangs on one condition: origin and paths, of which some must be there."""
    parts = [*DISTRIBUTION["Origins"], *DISTRIBUTION["CacheBehaviors"]]
    to_gateway = [one for one in parts if "sysclients" in json.dumps(one)]
    assert len(to_gateway) == 3
    for one in to_gateway:
        condition, _, otherwise = one["Fn::If"]
        assert (condition, otherwise) == ("HasSysclients", {"Ref": "AWS::NoValue"})
    given = {"Fn::Not": [{"Fn::Equals": [{"Ref": "SysclientsHost"}, ""]}]}
    assert TEMPLATE["Conditions"]["HasSysclients"] == given


def test_a_phones_own_pages_are_handed_on_whole() -> None:
    """Every method and the query, no cookie of ours; and no page tells another host its key."""
    pages = behavior_of("/example.com/devices/passthrough/009033000001/key/")
    assert {"GET", "POST", "PUT", "DELETE"} <= set(pages["AllowedMethods"])
    policy = RESOURCES[pages["OriginRequestPolicyId"]["Ref"]]["Properties"]
    forwarded = policy["OriginRequestPolicyConfig"]
    assert forwarded["QueryStringsConfig"] == {"QueryStringBehavior": "all"}
    assert forwarded["CookiesConfig"] == {"CookieBehavior": "none"}
    assert edge.VIEWER_ADDRESS in {one.lower() for one in forwarded["HeadersConfig"]["Headers"]}
    answers = RESOURCES[pages["ResponseHeadersPolicyId"]["Ref"]]["Properties"]
    headers = answers["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"]
    assert headers["ReferrerPolicy"] == {"ReferrerPolicy": "no-referrer", "Override": True}
    secure = RESOURCES["SecureHeaders"]["Properties"]["ResponseHeadersPolicyConfig"]
    transport = "StrictTransportSecurity"
    assert headers[transport] == secure["SecurityHeadersConfig"][transport]
    # a phone has half a minute for an answer, once it is its turn
    (gateway,) = [one["Fn::If"][1] for one in DISTRIBUTION["Origins"] if "Fn::If" in one]
    assert gateway["CustomOriginConfig"]["OriginReadTimeout"] >= 2 * ANSWER_SECONDS


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/init", "/api/init"),
        ("/ws", "/api"),
        ("/example.com/devices", "/api"),
        ("/example.com/users", "/api"),
        ("/", 302),
        ("/api", 302),
        ("/favicon.ico", 404),
        ("/a/b/c", 404),
        ("//", 404),
    ],
)
def test_paths_lead_to_the_stages(node: str, path: str, leads_to: str | int) -> None:
    """As CloudFront runs it; a query reaches `/init`, and no websocket's address."""
    separator, lines = RESOURCES["Paths"]["Properties"]["FunctionCode"]["Fn::Join"]
    query = {"mac": {"value": "009033000001"}}
    event = json.dumps({"request": {"uri": path, "querystring": query, "headers": {}}})
    code = f"{separator.join(lines)}\nconsole.log(JSON.stringify(handler({event})));"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own function
    answer = json.loads(done.stdout)
    if isinstance(leads_to, int):
        assert answer["statusCode"] == leads_to
        if leads_to == 302:
            assert answer["headers"] == {"location": {"value": "/api/"}}
    else:
        assert answer["uri"] == leads_to
        assert answer["querystring"] == (query if path == "/init" else {})


def test_paths_are_changed_where_they_must_be() -> None:
    """At `/init` and by default; below `/api` everything is as it came."""
    for path, is_changed in (("/init", True), ("/ws", True), ("/api/init", False)):
        functions = behavior_of(path).get("FunctionAssociations", [])
        assert len(functions) == int(is_changed)
        assert all(one["EventType"] == "viewer-request" for one in functions)


def test_every_origin_is_shown_the_secret() -> None:
    """By the header that the service reads, over HTTPS; the value is in the secret alone."""
    origins = [plain(one) for one in DISTRIBUTION["Origins"]]
    assert {one["Id"] for one in origins} == {"rest", "websockets", "sysclients"}
    for one in origins:
        assert one["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
        (header,) = one["OriginCustomHeaders"]
        assert header["HeaderName"].lower() == edge.SECRET
        value = header["HeaderValue"]["Fn::Sub"]
        assert value.startswith("{{resolve:secretsmanager:${EdgeSecret}:SecretString:")
    assert RESOURCES["EdgeSecret"]["Properties"]["GenerateSecretString"]["PasswordLength"] == 43


def test_the_service_gets_what_it_reads() -> None:
    """Its own headers and what CloudFront says of the caller; for websockets what opens them."""
    cache = RESOURCES["FreshAnswers"]["Properties"]["CachePolicyConfig"]
    parts = cache["ParametersInCacheKeyAndForwardedToOrigin"]
    forwarded = {
        name: {
            header.lower()
            for header in RESOURCES[name]["Properties"]["OriginRequestPolicyConfig"][
                "HeadersConfig"
            ]["Headers"]
        }
        for name in ("Requests", "Websockets", "PhonesPages")
    }
    keyed = {header.lower() for header in parts["HeadersConfig"]["Headers"]}
    assert forwarded["Requests"] | keyed >= READ_OF_REQUESTS | {
        edge.VIEWER_ADDRESS,
        edge.VIEWER_SCHEME,
    }
    assert {edge.VIEWER_ADDRESS, "sec-websocket-key"} <= forwarded["Websockets"]
    for headers in forwarded.values():
        assert not headers & {"host", edge.SECRET}
        assert len(headers) <= 10
    sources = [path.read_text() for path in (ROOT / "chalicelib" / "api").glob("*.py")]
    read = {
        name for source in sources for name in re.findall(r"headers\.get\(\s*\"([a-z-]+)\"", source)
    }
    assert read - {"x-forwarded-proto"} <= READ_OF_REQUESTS


def test_no_answer_is_kept_but_files_that_never_change() -> None:
    """Not for anybody else, and no error either; a query always counts."""
    cache = RESOURCES["FreshAnswers"]["Properties"]["CachePolicyConfig"]
    assert (cache["MinTTL"], cache["DefaultTTL"], cache["MaxTTL"]) == (0, 0, 1)
    parts = cache["ParametersInCacheKeyAndForwardedToOrigin"]
    assert parts["QueryStringsConfig"] == {"QueryStringBehavior": "all"}
    behaviors = [plain(one) for one in DISTRIBUTION["CacheBehaviors"]]
    kept = [
        one["PathPattern"] for one in behaviors if one["CachePolicyId"] != {"Ref": "FreshAnswers"}
    ]
    assert kept == ["/api/web/*"]
    errors = {one["ErrorCode"]: one for one in DISTRIBUTION["CustomErrorResponses"]}
    assert {400, 403, 404, 500, 502, 503, 504} <= set(errors)
    assert all(one["ErrorCachingMinTTL"] == 0 for one in errors.values())


def test_the_edge_writes_nothing_down() -> None:
    """Its logs would hold queries, and so would samples of its wall."""
    assert "Logging" not in DISTRIBUTION
    kinds = {made["Type"] for made in RESOURCES.values()}
    assert not kinds & {
        "AWS::CloudFront::RealtimeLogConfig",
        "AWS::WAFv2::LoggingConfiguration",
        "AWS::Logs::Delivery",
    }
    wall = RESOURCES["PhonesWall"]["Properties"]
    for part in [wall, *wall["Rules"]]:
        assert part["VisibilityConfig"]["SampledRequestsEnabled"] is False


def test_phones_that_come_to_the_gateway_have_the_same_rate() -> None:
    """Also those that come back in a loop; what pages and Users instances open does not count."""
    (rule,) = RESOURCES["PhonesWall"]["Properties"]["Rules"]
    scope = rule["Statement"]["RateBasedStatement"]["ScopeDownStatement"]["RegexMatchStatement"]
    for path, counts in (
        ("/example.com/devices/sysclients", True),
        ("/example.com/devices/passthrough/009033000001/key/", True),
        ("/init", True),
        ("/example.com/devices", False),
        ("/ws", False),
        ("/api/me/codes", False),
    ):
        assert bool(re.search(scope["RegexString"], path)) is counts, path


@pytest.mark.slow
@pytest.mark.xdist_group("package")
def test_the_wall_is_the_same_as_without_an_edge(resources: Resources) -> None:
    """The same rule, only that it stands before CloudFront."""
    (other,) = of_type(resources, "AWS::WAFv2::WebACL").values()
    (wall,) = of_type(RESOURCES, "AWS::WAFv2::WebACL").values()
    assert (wall["Properties"]["Scope"], other["Properties"]["Scope"]) == ("CLOUDFRONT", "REGIONAL")
    assert {**wall["Properties"], "Scope": "REGIONAL"} == other["Properties"]
    assert DISTRIBUTION["WebACLId"] == {"Fn::GetAtt": ["PhonesWall", "Arn"]}


@pytest.mark.slow
@pytest.mark.xdist_group("package")
def test_the_service_knows_the_edge(template: dict[str, Any]) -> None:
    """By its host name and the hash of its secret, never one without the other."""
    rule = template["Rules"]["AnEdgeIsKnown"]
    given = {"Fn::Not": [{"Fn::Equals": [{"Ref": "EdgeHost"}, ""]}]}
    assert rule["RuleCondition"] == template["Conditions"]["HasEdge"] == given
    (assertion,) = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "EdgeHashes"}, ""]}]}
    pattern = template["Parameters"]["EdgeHashes"]["AllowedPattern"]
    hashes = ["0" * 64, "a" * 64]
    assert all(re.fullmatch(pattern, text) for text in ("", hashes[0], " ".join(hashes)))
    assert not any(re.fullmatch(pattern, text) for text in ("x" * 64, "secret", hashes[0] + " "))
    variables = template["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"]
    told = {name: variables[name]["Fn::If"][:2] for name in ("PUBLIC_URL", "WEBSOCKET_URL")}
    assert told == {
        "PUBLIC_URL": ["HasEdge", {"Fn::Sub": "https://${EdgeHost}/api"}],
        "WEBSOCKET_URL": ["HasEdge", {"Fn::Sub": "wss://${EdgeHost}/ws"}],
    }
    own = "wss://${WebsocketAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/api"
    assert variables["WEBSOCKET_URL"]["Fn::If"][2] == {"Fn::Sub": own}
    nothing = {"Ref": "AWS::NoValue"}
    assert variables["EDGE_HASHES"] == {"Fn::If": ["HasEdge", {"Ref": "EdgeHashes"}, nothing]}
    assert variables["EDGE_ONLY"] == {"Ref": "EdgeOnly"}
