"""Who may call what: every route that people use, by everybody there is."""

import re
from dataclasses import dataclass

import pytest

from app import app
from tests.http.administration import FIRMWARE, PHONE
from tests.http.service import Caller
from tests.http.test_problems import assert_problem
from tests.http.test_profile import issue, redeem

PUBLIC = {
    "/",
    "/web/{version}/{name}",
    "/health",
    "/config.json",
    "/openapi.json",
    "/init",
    "/devices/update",
}
WITH_OTHER_TOKENS = {
    "/devices/register",
    "/devices/{hw_id}/jobs",
    "/devices/{hw_id}/jobs/{job_id}",
    "/provisioning/codes",
}
"""Routes of phones and of installations, whose tokens are no person's."""

THERE = {
    "domain": "example.com",
    "category": "Office",
    "hw_id": PHONE,
    "job_id": "0" * 26,
    "installation_id": "0" * 26,
    "code_id": "0" * 26,
    "rollout_id": "0" * 26,
}
QUERIES = {("GET", "/domains/{domain}/token"): {"category": "Reception"}}
BODIES: dict[tuple[str, str], object] = {
    ("POST", "/domains"): {"domain": "new.example"},
    ("PATCH", "/domains/{domain}"): {"may_add_phones": True},
    ("PUT", "/domains/{domain}/categories/{category}"): {},
    ("PUT", "/domains/{domain}/token"): {"category": "Reception"},
    ("PUT", "/domains/{domain}/pbx"): {
        "address": "wss://127.0.0.1:1",
        "app_object": "dialtone",
        "password": "x",
    },
    ("PUT", "/domains/{domain}/firmware"): FIRMWARE,
    ("POST", "/domains/{domain}/jobs/software"): {"category": "Office"},
    ("POST", "/domains/{domain}/jobs/config"): {
        "category": "Office",
        "type": "expert",
        "parameters": {"lines": ["config show"]},
    },
    ("PATCH", "/domains/{domain}/devices/{hw_id}"): {"name": "x"},
    ("POST", "/domains/{domain}/devices/{hw_id}/replace"): {"hw_id": "009033000009"},
    ("POST", "/installations"): {"name": "x"},
    ("POST", "/users"): {"users": [{"sip": "user1"}]},
    ("POST", "/rollouts"): {"name": "x", "category": "Office"},
    ("POST", "/rollouts/{rollout_id}/entries"): {"users": ["user1"]},
    ("POST", "/rollouts/{rollout_id}/extend"): {},
    ("POST", "/rollouts/{rollout_id}/reissue"): {},
    ("POST", "/rollouts/{rollout_id}/revoke"): {},
}
WITHOUT_BODY = {
    ("POST", "/domains/{domain}/devices/{hw_id}/release"),
    ("POST", "/domains/{domain}/pbx/check"),
    ("POST", "/domains/{domain}/pbx/redrive"),
    ("POST", "/domains/{domain}/pbx/replicate"),
}


@dataclass(frozen=True)
class Route:
    """One method of one route that people call."""

    method: str
    template: str

    @property
    def path(self) -> str:
        """Where that is, for what is there."""
        return re.sub(r"\{(\w+)\}", lambda match: THERE[match[1]], self.template)

    @property
    def is_for_platform_admins(self) -> bool:
        """Tell whether a devices-admin may not call it, not even for their own domain."""
        makes_or_deletes = self.template in {"/domains", "/domains/{domain}"} and (
            self.method in {"POST", "DELETE"}
        )
        first = self.template.split("/")[1]
        return makes_or_deletes or first in {"installations", "sightings", "guess-risk"}

    @property
    def is_for_users_admins(self) -> bool:
        """Tell whether whoever administers users calls it, and no other administrator."""
        return self.template.split("/")[1] in {"users", "rollouts"}

    @property
    def is_seen_by_users_admins(self) -> bool:
        """Tell whether a users-admin may call it, too, for their own domain."""
        is_settings = self.template == "/domains/{domain}" and self.method in {"GET", "PATCH"}
        return is_settings or self.template == "/domains/{domain}/pbx/replicate"

    @property
    def is_of_a_domain(self) -> bool:
        """Tell whether it is about one domain."""
        return "{domain}" in self.template


ROUTES = [
    Route(method, template)
    for template, methods in app.routes.items()
    for method in methods
    if template not in PUBLIC | WITH_OTHER_TOKENS
]
ADMINISTRATORS = [route for route in ROUTES if not route.template.startswith("/me")]


def ask(caller: Caller, route: Route, token: str) -> int:
    """Call a route with what it takes; refusals have the form of a refusal."""
    key = (route.method, route.template)
    answer = caller.call(
        route.method, route.path, token=token, query=QUERIES.get(key), body=BODIES.get(key)
    )
    if answer.status in {401, 403}:
        slug = {401: "not-signed-in", 403: "not-allowed"}[answer.status]
        assert "detail" not in assert_problem(answer, answer.status, slug)
    return answer.status


def test_the_lists_are_whole() -> None:
    """A new route must say whom it is for; every domain's own is under its domain."""
    assert set(app.routes) >= PUBLIC | WITH_OTHER_TOKENS
    writing = {
        (route.method, route.template)
        for route in ADMINISTRATORS
        if route.method in {"POST", "PUT", "PATCH"}
    }
    assert writing - WITHOUT_BODY == set(BODIES)
    assert len(ADMINISTRATORS) > 30


def test_nobody_calls_without_signing_in(caller: Caller) -> None:
    """With no token, and with one that is none: 401."""
    for route in ROUTES:
        for token in ("", "nonsense"):
            assert ask(caller, route, token) == 401, route


def test_a_user_administers_nothing(caller: Caller) -> None:
    """Whatever else their roles are called: 403."""
    for token in (
        caller.sign_in("user1"),
        caller.sign_in("admin", roles=["platform-admins", "DEVICES-ADMIN", "devices", "users"]),
    ):
        for route in ADMINISTRATORS:
            assert ask(caller, route, token) == 403, route


def test_who_administers_users_administers_nothing_else(caller: Caller) -> None:
    """Users and rollouts of their domain, and its settings to look at; and the other way round."""
    of_users = caller.sign_in("admin", roles=["users-admin"])
    of_others = caller.sign_in("admin", roles=["devices-admin", "platform-admin"])
    for route in ADMINISTRATORS:
        is_theirs = route.is_for_users_admins or route.is_seen_by_users_admins
        assert (ask(caller, route, of_users) == 403) is not is_theirs, route
        if route.is_for_users_admins:
            assert ask(caller, route, of_others) == 403, route
    elsewhere = caller.sign_in("admin", roles=["users-admin"], domain="nowhere.example")
    answered = {
        (route.method, route.template)
        for route in ADMINISTRATORS
        if ask(caller, route, elsewhere) == 200
    }
    assert answered == {("GET", "/users"), ("GET", "/rollouts")}
    for path in ("/users", "/rollouts"):
        assert caller.call("GET", path, token=elsewhere).json["items"] == []


@pytest.mark.parametrize("domain", ["other.example", "EXAMPLE.COM", "example.com ", "*"])
def test_the_administrator_of_another_domain_is_refused(caller: Caller, domain: str) -> None:
    """Nothing tells whether what was asked for is there."""
    token = caller.sign_in("admin", domain=domain, roles=["devices-admin"])
    for route in ADMINISTRATORS:
        if route.is_for_users_admins:
            continue
        is_refused = ask(caller, route, token) == 403
        assert is_refused == (route.is_of_a_domain or route.is_for_platform_admins), route
    listed = caller.call("GET", "/domains", token=token).json["items"]
    assert [one["domain"] for one in listed] == [one for one in ("other.example",) if one == domain]


@pytest.mark.parametrize("name", ["admin", "platform"])
def test_administrators_may_do_what_is_theirs(caller: Caller, name: str) -> None:
    """The platform's everything, a domain's all that is of their domain."""
    redeem(caller, issue(caller)["code"])
    token = caller.sign_in(name)
    last_first = sorted(ADMINISTRATORS, key=lambda route: route.method == "DELETE")
    for route in last_first:
        status = ask(caller, route, token)
        is_elsewhere = name == "platform" and route.is_for_users_admins
        if is_elsewhere or (name == "admin" and route.is_for_platform_admins):
            assert status == 403, route
        else:
            # what a call before it has taken away, or still needs, is not there or in use
            assert status in {200, 201, 204, 404, 409}, route


def test_only_the_platform_says_what_a_domain_may_see(caller: Caller) -> None:
    """The one setting that its own administrator cannot change, alone or among others."""
    granted = {"granted_domains": ["other.example"], "phone_apps": ["x"]}
    before = caller.call("GET", "/domains/example.com", user="admin").json
    bodies: list[object] = [granted, {"granted_domains": []}]
    for body in bodies:
        answer = caller.call("PATCH", "/domains/example.com", user="admin", body=body)
        assert_problem(answer, 403, "not-allowed")
    assert caller.call("GET", "/domains/example.com", user="admin").json == before
