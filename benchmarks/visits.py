"""What phones and people ask of the service while it is measured, as events of API Gateway.

It must not measure anything itself.
"""

import contextlib
import io
import json
import re
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from benchmarks import engine
from chalicelib.core.codes import read_entry
from chalicelib.core.devices import Facts
from chalicelib.core.jobs import plan_for, serial_of
from chalicelib.identity import Person
from chalicelib.roles import devices, registrations, rollouts, security_tokens, users
from chalicelib.roles.asking import Asking
from chalicelib.storage import devices as device_table
from chalicelib.storage import jobs as job_table
from local import demo
from local.api_gateway import Context

Event = dict[str, Any]
SOURCE = "192.0.2.1"
OK = frozenset({200, 201})
_numbers = count(1)
"""Of phones that this process has not seen."""

_RUNNING = {"PROT": demo.FIRMWARE_BUILD, "BOOT": demo.BOOT_BUILD, "type": "IP232"}


def event(method: str, path: str, query: dict[str, str], **more: Any) -> Event:  # noqa: ANN401 - an event
    """Make an event as API Gateway does."""
    route = more.pop("route", path)
    return {
        "resource": route,
        "path": path,
        "httpMethod": method,
        "headers": {},
        "multiValueHeaders": {},
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} or None,
        "pathParameters": None,
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
        "requestContext": {
            "resourcePath": route,
            "httpMethod": method,
            "requestId": "r",
            "stage": "api",
            "domainName": "d.example",
            "identity": {"sourceIp": more.pop("source", SOURCE)},
        },
        **more,
    }


def answered(made: Event) -> str:
    """Let the service answer in this process; returns the body.

    Raises:
        RuntimeError: it did not do what was asked.
    """
    from app import app

    with contextlib.redirect_stdout(io.StringIO()):
        answer = app(made, Context("r"))
    if answer["statusCode"] not in OK:
        raise RuntimeError(f"{made['httpMethod']} {made['path']}: {answer}")
    return str(answer["body"])


def asking(name: str, *roles: str, domain: str = demo.DOMAIN) -> Asking:
    """Make somebody who asks for something, without a request."""
    person = Person("s", name, name, domain, frozenset(roles))
    return Asking(person, "192.0.2.9", "https://d.example", datetime.now(UTC))


class Visits:
    """Makes events; each of a phone is of another phone from another address."""

    def __init__(self, service: engine.Service) -> None:
        """Take the service whose issuer signs people in."""
        self._service = service

    def health(self) -> Event:
        """Make the check that touches nothing."""
        return event("GET", "/health", {})

    def init(self, code: str = "") -> Event:
        """Make a phone's question at the central service, without a code or with one."""
        typed = {"PROVISIONING-CODE": code} if code else {}
        return self._phone("/init", "mac", typed)

    def redeem(self, code: str) -> Event:
        """Make a phone's first visit at Devices, with its code."""
        return self._phone("/devices/update", "sn", {"type": "IP232", "PROVISIONING-CODE": code})

    def admit(self, token: str) -> Event:
        """Make a phone's first visit at Devices, with its domain's security token."""
        claim = {"domain": demo.DOMAIN, "token": token, "category": "Office"}
        return self._phone("/devices/update", "sn", {"type": "IP232", **claim})

    def idle(self, hw_id: str = "009033000001") -> Event:
        """Register a phone that has run everything, and make its next poll."""
        now = datetime.now(UTC)
        entry = read_entry(self.code())
        facts = Facts(product="IP232", prot=demo.FIRMWARE_BUILD, boot=demo.BOOT_BUILD)
        visit = devices.Visit(hw_id, facts, entry, None, "192.0.2.9", "https://d.example/u")
        with contextlib.redirect_stdout(engine.nowhere):
            token = registrations.register(visit, entry, now).token if entry else ""
            device = device_table.find(hw_id)
            plan = plan_for(demo.DOMAIN, "Office", job_table.find_matching(demo.DOMAIN, "Office"))
            check = serial_of(device.registration_id, plan) if device else ""
            seen = devices.Visit(
                hw_id,
                Facts("IP232", "", _RUNNING["PROT"], _RUNNING["BOOT"], check),
                None,
                token,
                SOURCE,
                "",
            )
            devices.update_script(seen, now + timedelta(seconds=1))
        told = {"sn": hw_id, "device_token": token, "CHECK": check, **_RUNNING}
        return event("GET", "/devices/update", told)

    def poll(self, redeemed: Event, script: str) -> Event:
        """Make the poll of a phone that has loaded its firmware, with the token of its script."""
        (hw_id,) = redeemed["multiValueQueryStringParameters"]["sn"]
        (token,) = re.findall(r"device_token%3D([\w-]+)", script)
        return event("GET", "/devices/update", {"sn": hw_id, "device_token": token, **_RUNNING})

    def me(self) -> Event:
        """Make a person's question who they are."""
        return event("GET", "/me", {}, headers=self._service.signed_in("user1"))

    def issue(self) -> Event:
        """Make a person's wish for a code."""
        return self._posted("/me/codes", "user1", {"category": "Office"})

    def own_codes(self, name: str) -> Event:
        """Make a person's look at their codes."""
        return event("GET", "/me/codes", {}, headers=self._service.signed_in(name))

    def roll_out(self, name: str, sips: list[str]) -> Event:
        """Make an administrator's rollout."""
        body = {"category": "Office", "name": name, "users": sips}
        return self._posted("/rollouts", "admin", body)

    def rollout(self, rollout_id: str, path: str = "", **query: str) -> Event:
        """Make an administrator's look at a rollout, or at what is below it."""
        route = f"/rollouts/{{rollout_id}}{path}"
        return event(
            "GET",
            route.format(rollout_id=rollout_id),
            query,
            route=route,
            headers=self._service.signed_in("admin"),
            pathParameters={"rollout_id": rollout_id},
        )

    def code(self, name: str = "user2") -> str:
        """Issue a code, without a request."""
        with contextlib.redirect_stdout(engine.nowhere):
            return users.issue_code(asking(name), "Office").digits

    def new_token(self) -> str:
        """Set the demo domain's security token."""
        platform = asking("platform", "platform-admin", domain=demo.INSTANCE_DOMAIN)
        token = "a security token of the benchmark"  # noqa: S105 - nobody else's
        with contextlib.redirect_stdout(engine.nowhere):
            security_tokens.put(platform, demo.DOMAIN, "Office", token, None)
        return token

    def new_rollout(self) -> str:
        """Make a rollout of nobody; returns its id."""
        with contextlib.redirect_stdout(engine.nowhere):
            made, _ = rollouts.create(
                asking("admin", "users-admin"),
                name="Everybody",
                category="Office",
                app="",
                note="",
                sips=(),
            )
        return made.rollout_id

    def _phone(self, path: str, parameter: str, query: dict[str, str]) -> Event:
        number = next(_numbers)
        hw_id = f"0090aa{number:06x}"
        source = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return event("GET", path, {parameter: hw_id, **query}, source=source)

    def _posted(self, path: str, name: str, body: dict[str, Any]) -> Event:
        headers = {**self._service.signed_in(name), "content-type": "application/json"}
        return event("POST", path, {}, body=json.dumps(body), headers=headers)
