"""Who lets people sign in: a user pool of our own, or whom the parameters name."""

from typing import Any

import pytest

from chalicelib.roles import asking
from tests.infra.templates import Resources, of_type

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]

POOL = ("UserPool", "UserPoolClient", "UserPoolDomain")


def client(resources: Resources) -> dict[str, Any]:
    """Return the properties of the one client."""
    (made,) = of_type(resources, "AWS::Cognito::UserPoolClient").values()
    return dict(made["Properties"])


def test_administrators_make_people(resources: Resources) -> None:
    """Nobody signs themselves up, and the pool outlives the stack."""
    (pool,) = of_type(resources, "AWS::Cognito::UserPool").values()
    properties = pool["Properties"]
    assert properties["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert properties["DeletionProtection"] == "ACTIVE"
    assert pool["DeletionPolicy"] == pool["UpdateReplacePolicy"] == "Retain"


def test_nobody_writes_who_they_are(resources: Resources) -> None:
    """Domain and sip never change, and are no attributes that a person's own token may write."""
    (pool,) = of_type(resources, "AWS::Cognito::UserPool").values()
    custom = {one["Name"]: one for one in pool["Properties"]["Schema"]}
    assert set(custom) == {"domain", "sip"}
    assert all(one["Mutable"] is False for one in custom.values())
    used = client(resources)
    assert used["WriteAttributes"] == ["name"]
    assert {f"custom:{name}" for name in custom} <= set(used["ReadAttributes"])
    assert "aws.cognito.signin.user.admin" not in used["AllowedOAuthScopes"]


def test_pages_sign_in_by_code_and_without_a_secret(resources: Resources) -> None:
    """The authorization code flow alone, for a client that could keep no secret."""
    used = client(resources)
    assert used["GenerateSecret"] is False
    assert used["AllowedOAuthFlows"] == ["code"]
    assert used["AllowedOAuthScopes"] == ["openid", "profile"]  # as chalicelib/web/client.js asks
    assert used["ExplicitAuthFlows"] == ["ALLOW_REFRESH_TOKEN_AUTH"]
    back = {"Fn::If": ["HasEdge", {"Fn::Sub": "https://${EdgeHost}/api/"}, {"Ref": "PagesUrl"}]}
    assert used["CallbackURLs"] == used["LogoutURLs"] == [back]


def test_every_role_is_a_group(resources: Resources) -> None:
    """By the names that the service knows."""
    groups = of_type(resources, "AWS::Cognito::UserPoolGroup").values()
    named = {group["Properties"]["GroupName"] for group in groups}
    assert named == {asking.USERS_ADMIN, asking.DEVICES_ADMIN, asking.PLATFORM_ADMIN}


def test_a_foreign_issuer_replaces_the_pool(template: dict[str, Any]) -> None:
    """By one parameter: then there is no pool, and the service reads the claims that are named."""
    condition = template["Conditions"]["HasOwnIssuer"]
    assert condition == {"Fn::Equals": [{"Ref": "Issuer"}, ""]}
    resources = template["Resources"]
    for name, made in resources.items():
        if made["Type"].startswith("AWS::Cognito::"):
            assert made["Condition"] == "HasOwnIssuer", name
    variables = resources["APIHandler"]["Properties"]["Environment"]["Variables"]
    parameters = {
        "ISSUER": "Issuer",
        "AUDIENCE": "Audience",
        "SIGN_IN_URL": "SignInUrl",
        "SIP_CLAIM": "SipClaim",
        "DOMAIN_CLAIM": "DomainClaim",
        "ROLES_CLAIM": "RolesClaim",
    }
    for name, parameter in parameters.items():
        condition_of, _, foreign = variables[name]["Fn::If"]
        assert (condition_of, foreign) == ("HasOwnIssuer", {"Ref": parameter})
    defaults = {name: template["Parameters"][name]["Default"] for name in parameters.values()}
    assert defaults == {
        **dict.fromkeys(("Issuer", "Audience", "SignInUrl"), ""),
        "SipClaim": "sip",
        "DomainClaim": "domain",
        "RolesClaim": "roles",
    }


def test_the_pool_is_the_issuer_by_default(resources: Resources) -> None:
    """Its tokens name it, its client and its attributes; its pages may be called."""
    variables = resources["APIHandler"]["Properties"]["Environment"]["Variables"]
    own = {name: variables[name]["Fn::If"][1] for name in ("ISSUER", "AUDIENCE", "SIGN_IN_URL")}
    assert own == {
        "ISSUER": {"Fn::GetAtt": ["UserPool", "ProviderURL"]},
        "AUDIENCE": {"Ref": "UserPoolClient"},
        "SIGN_IN_URL": {
            "Fn::Sub": "https://${UserPoolDomain}.auth.${AWS::Region}.amazoncognito.com"
        },
    }
    assert set(POOL) <= set(resources)
