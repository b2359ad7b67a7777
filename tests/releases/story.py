"""What happened under a release before its tables were dumped: both journeys, each state once.

It must not know how a dump is written or read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

import app
from chalicelib import identity, settings
from chalicelib.core.codes import Lifetime, read_entry
from chalicelib.core.errors import CodeNotRedeemableError, DeviceElsewhereError
from chalicelib.roles import (
    assignments,
    devices,
    domains,
    installations,
    provisioning,
    rollouts,
    security_tokens,
    updates,
    users,
)
from chalicelib.sockets import connections as sockets
from chalicelib.sockets import push
from chalicelib.storage import idempotency
from local import demo
from local.identity import AUDIENCE, Issuer
from tests import world
from tests.conftest import NOW
from tests.http.service import ISSUER_URL, new_issuer
from tests.wires import Wires, stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DOMAIN = world.DOMAIN
FIRST_TOKEN = "the first security token of the tests"
SECOND_TOKEN = "the second security token of the tests"
WRITE = idempotency.Write(("issuer", "sub-user1"), ("POST", "/me/codes"), "a key", b"content")
ANSWERED = idempotency.Answer(201, {"Content-Type": "application/json"}, '{"code_id": "first"}')
_OPEN_FOR_MS = 10_000


@contextmanager
def standing_still(patch: pytest.MonkeyPatch, now: Any) -> Iterator[tuple[Wires, Issuer]]:  # noqa: ANN401 - a clock
    """Let connections open and people sign in, by a clock that the caller holds."""
    wires, issuer = Wires(patch), new_issuer()
    patch.setattr(sockets, "now", now)
    patch.setattr(push, "now", now)
    used = replace(settings.current(), issuer=ISSUER_URL, audience=AUDIENCE)
    patch.setattr(settings, "current", cache(lambda: used))
    documents = {f"{ISSUER_URL}{path}": body for path, body in issuer.documents().items()}
    patch.setattr(identity, "_get_json", documents.__getitem__)
    identity.forget()
    yield wires, issuer


def phone(number: int) -> tuple[str, str]:
    """Name a phone and where it stands: each behind an address of its own."""
    return f"0090330000{number:02x}", f"203.0.113.{number}"


def redeemed(digits: str, number: int) -> str:
    """Redeem a code; returns the phone's token."""
    return world.redeem(digits, *phone(number)).token


def tell(wires: Wires, issuer: Issuer, client: "DynamoDBClient") -> dict[str, Any]:
    """Let it happen.

    Returns:
        What is in no table: what people and phones know, by name.
    """
    world.seed()
    _administer()
    known: dict[str, Any] = {"codes": {}, "phones": {}, "connections": {}}
    _add_phones(known)
    _roll_out(known)
    _connect(known, wires, issuer, client)
    _come_without_a_code(known)
    idempotency.once(WRITE, lambda: ANSWERED, _OPEN_FOR_MS)
    return known


def _administer() -> None:
    office, platform = world.admin(), world.platform()
    wanted = {"granted_domains": ["other.example"], "phone_apps": ["phone", "softphone"]}
    domains.change(platform, DOMAIN, wanted)
    domains.change(office, DOMAIN, {"devices_url": world.UPDATE_URL, "may_add_phones": True})
    for token in (FIRST_TOKEN, SECOND_TOKEN):
        security_tokens.put(office, DOMAIN, "Office", token, None)
    password = {"password": "pass of tests"}
    updates.make_configuration_job(office, DOMAIN, "*", "admin-password", password)
    domains.create(platform, "empty.example", {})


def _add_phones(known: dict[str, Any]) -> None:
    """Add a person's phones, with a code in each state."""
    codes, phones = known["codes"], known["phones"]
    codes["open"] = world.issue("user1").digits
    codes["expired"] = world.issue("user5", NOW - timedelta(hours=1)).digits
    revoked = world.issue("user4")
    users.revoke_code(world.asking("user4"), revoked.code.code_id)
    codes["revoked"] = revoked.digits

    codes["used"] = world.issue("user2").digits
    hw_id, source = phone(2)
    inquiry = provisioning.Inquiry(hw_id, world.FACTS, read_entry(codes["used"]), source)
    provisioning.answer(inquiry, NOW)
    phones[hw_id] = redeemed(codes["used"], 2)
    devices.update_script(world.visit(None, hw_id, source, phones[hw_id]), NOW)

    codes["repeatable"] = world.issue("user3").digits
    phones[phone(3)[0]] = redeemed(codes["repeatable"], 3)

    hw_id, source = phone(4)
    phones[hw_id] = redeemed(world.issue("user4").digits, 4)
    done, failed, *_ = devices.jobs_of(hw_id, phones[hw_id], NOW).jobs
    for job, outcome in ((done, devices.Outcome.DONE), (failed, devices.Outcome.FAILED)):
        report = devices.Report(job.job_id, outcome, "flash is full")
        devices.report_job(hw_id, phones[hw_id], report, NOW)

    codes["refused"] = world.issue("user1").digits
    with pytest.raises(DeviceElsewhereError):
        redeemed(codes["refused"], 2)

    hw_id, _ = phone(5)
    phones[hw_id] = redeemed(world.issue("user5").digits, 5)
    users.release_phone(world.asking("user5"), hw_id)


def _roll_out(known: dict[str, Any]) -> None:
    made = world.make_rollout(["user6", "user7", "user8", "user9"])
    digits = world.told(made)
    hw_id, _ = phone(6)
    known["phones"][hw_id] = redeemed(digits["user6"], 6)
    rollouts.revoke(world.users_admin(), made.rollout_id, rollouts.Selection(["user9"]))
    known["rollout_id"] = made.rollout_id
    known["codes"] |= {"rolled out": digits["user7"], "also rolled out": digits["user8"]}


def _connect(known: dict[str, Any], wires: Wires, issuer: Issuer, client: "DynamoDBClient") -> None:
    """Tell a Users instance of one phone and not of the next; people look on."""
    person, admin = wires.connect(), wires.connect()
    for wire, sip in ((person, "user1"), (admin, "admin")):
        assert wire.ask("UserLogin", token=issuer.token(sip, NOW))["ok"] is True
    instance = wires.instance()
    abroad = wires.instance(demo.INSTANCE_DOMAIN, "platform")
    names = {"instance": instance, "abroad": abroad, "person": person, "admin": admin}
    known["connections"] = {name: wire.connection_id for name, wire in names.items()}
    asked = [
        instance.ask("GetProvisioningCode", category="Office", sip=sip, src=sip)["code"]
        for sip in ("user10", "user11", "user12")
    ]
    found = {one["name"]: one["id"] for one in abroad.ask("GetDomains")["domains"]}
    asked_abroad = {"domainId": found[DOMAIN], "category": "Office", "sip": "user13"}
    known["codes"]["asked abroad"] = abroad.ask("GetProvisioningCode", **asked_abroad)["code"]
    known["codes"] |= {"told": asked[0], "to be told": asked[1], "asked": asked[2]}
    known["phones"][phone(10)[0]] = redeemed(asked[0], 10)
    pages = client.scan(TableName=settings.current().tables["notifications"])
    app.follow_notifications(stream_event(*pages["Items"]), None)
    assert [one["code"] for one in instance.told("DeviceProvisioned")] == [asked[0]]
    known["phones"][phone(11)[0]] = redeemed(asked[1], 11)


def _come_without_a_code(known: dict[str, Any]) -> None:
    """Come by the domain's token, in another's place, for a foreign installation, or in vain."""
    hw_id, source = phone(20)
    claiming = world.claiming(SECOND_TOKEN, hw_id, source)
    known["phones"][hw_id] = world.admit(claiming).token
    expected, _ = phone(21)
    known["codes"]["in place"] = _digits_of(
        assignments.put_in_place(world.admin(), DOMAIN, hw_id, expected)
    )
    made = installations.create(world.platform(), "Foreign Ltd")
    known["installation"] = made.key
    url = "https://devices.foreign.example/update"
    foreign = installations.issue_code(made.key, url, Lifetime.USER, world.HOME, NOW)
    known["codes"]["foreign"] = foreign.digits
    hw_id, source = phone(22)
    provisioning.answer(provisioning.Inquiry(hw_id, world.FACTS, None, source), NOW)
    with pytest.raises(CodeNotRedeemableError):
        world.redeem("000000000000", hw_id, source)
    with pytest.raises(CodeNotRedeemableError):
        world.admit(world.claiming("a wrong token", hw_id, source))


def _digits_of(replacement: assignments.Replacement) -> str:
    assert replacement.issued is not None
    return replacement.issued.digits
