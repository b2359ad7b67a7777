"""Both journeys, told as those outside live them, and what must be true when they have ended."""

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chalicelib.core.codes import State
from chalicelib.storage import codes, vault
from chalicelib.storage import devices as device_table
from local import demo
from local.phone import Outcome
from tests import world
from tests.journeys.clients import Service

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Redeemed:
    """A code, and the one phone that it is to bring."""

    digits: str
    hw_id: str
    source: str
    sip: str
    outcome: Outcome


@dataclass
class Story:
    """What happened to a few people whom no other story has.

    Args:
        redeemed: which phones came with which codes.
        refused: codes that no phone may redeem any more.
    """

    number: int = field(default_factory=lambda: next(_numbers))
    redeemed: list[Redeemed] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def sip(self, name: str) -> str:
        """Name somebody."""
        return f"{name}{self.number}"

    def hw_id(self, one: int) -> str:
        """Name a phone."""
        return f"009033{self.number:05x}{one:x}"

    def source(self, one: int) -> str:
        """Tell from where it calls."""
        return f"10.{self.number >> 8}.{self.number & 255}.{one + 1}"

    def switch_on(self, service: Service, one: int, digits: str, sip: str) -> None:
        """Let a phone come with a code."""
        hw_id, source = self.hw_id(one), self.source(one)
        outcome = service.switch_on(hw_id, source, digits)
        assert outcome.is_registered, (outcome.verdict, service.troubles)
        self.redeemed.append(Redeemed(digits, hw_id, source, sip, outcome))


def a_user_adds_a_phone(service: Service, story: Story | None = None) -> Story:
    """Let a person add one in Profile, and another one through a Users instance."""
    story = story or Story()
    sip = story.sip("person")
    world.hire(sip)
    token = service.token(sip)
    page = service.listen(token)
    categories = [one["name"] for one in service.read("/me/categories", token)["items"]]
    assert "Office" in categories
    made = service.write("/me/codes", token, {"category": "Office"})
    service.secrets.add(made["code"])
    story.switch_on(service, 1, made["code"], sip)
    instance = service.instance()
    ordered = service.order(instance, sip)
    story.switch_on(service, 2, ordered, sip)
    service.pump()
    codes_of = {one["code_id"]: one for one in service.read("/me/codes", token)["items"]}
    code = codes_of[made["code_id"]]
    assert (code["state"], code["device"]["hw_id"]) == ("redeemed", story.hw_id(1))
    phones = {one["hw_id"]: one["state"] for one in service.read("/me/phones", token)["items"]}
    assert phones == dict.fromkeys([story.hw_id(1), story.hw_id(2)], "current"), phones
    hear_of(service, story.hw_id(2), ordered)
    service.leave(instance)
    service.leave(page)
    return story


def an_administrator_rolls_out(service: Service, story: Story | None = None) -> Story:
    """Of four people, two get their phones, one by a second code; one is revoked, one extended."""
    story = story or Story()
    ann, bob, cid, dan = sips = [story.sip(name) for name in ("ann", "bob", "cid", "dan")]
    names = {sip: sip.title() for sip in sips}
    world.hire(*sips)
    token = service.token("admin", "admin")
    page = service.listen(token)
    body = {"category": "Office", "name": f"Rollout {story.number}", "users": sips}
    rollout = f"/rollouts/{service.write('/rollouts', token, body)['rollout_id']}"
    told = service.code_list(f"{rollout}/codes.csv", token)
    assert told.keys() == set(names.values())
    story.switch_on(service, 1, told[names[ann]], ann)
    service.write(f"{rollout}/reissue", token, {"users": [bob]})
    service.write(f"{rollout}/revoke", token, {"users": [cid]})
    service.write(f"{rollout}/extend", token, {"users": [dan]})
    again = service.code_list(f"{rollout}/codes.csv", token)
    assert again.keys() == {names[bob], names[dan]}
    assert again[names[dan]] == told[names[dan]]
    story.switch_on(service, 2, again[names[bob]], bob)
    story.refused += [told[names[bob]], told[names[cid]]]
    service.pump()
    expected = {ann: "registered", bob: "registered", cid: "revoked", dan: "pending"}
    counts = {"pending": 1, "registered": 2, "expired": 0, "revoked": 1}

    def is_told(shown: dict[str, Any]) -> bool:
        states = {entry["sip"]: entry["state"] for entry in shown["items"]}
        return (states, shown["counts"]) == (expected, counts)

    shown = service.read_until(rollout, token, is_told)
    assert {entry["device"]["hw_id"] for entry in shown["items"] if "device" in entry} == {
        story.hw_id(1),
        story.hw_id(2),
    }
    service.leave(page)
    return story


JOURNEYS = {"add": a_user_adds_a_phone, "roll out": an_administrator_rolls_out}


def hear_of(service: Service, hw_id: str, code: str) -> None:
    """Expect that a Users instance hears of a phone by its code; one that is gone logs in again."""

    def heard() -> list[dict[str, Any]]:
        told = [message for _, message in service.wires.all_sent]
        indications = [one for one in told if one["mt"] == "DeviceProvisioned"]
        named = [(one["device"]["hwId"], one["code"]) for one in indications]
        return [one for one, name in zip(indications, named, strict=True) if name == (hw_id, code)]

    if not heard():
        again = service.instance()
        service.pump()
        service.leave(again)
    told = heard()
    assert told
    assert all(one["sequence"] > 0 for one in told)


def assert_promises(service: Service, story: Story) -> None:
    """Hold a story against what the service promises, now that nothing fails."""
    now = service.now()
    for one in story.redeemed:
        (code,) = codes.find_all(vault.fingerprints(one.digits))
        device = device_table.find(one.hw_id)
        assert device is not None
        # once, by this phone, and for this person
        assert (code.state, code.hw_id) == (State.REDEEMED, one.hw_id)
        assert (device.domain, device.user) == (world.DOMAIN, one.sip)
        assert one.outcome.client.running["prot"] == demo.FIRMWARE_BUILD
    used = [one.digits for one in story.redeemed]
    dead = [*used, *story.refused, _expired(story, now), "000000000000"]
    answers = {
        service.fetch(story.source(number))(_visit(story.hw_id(9), digits))[1]
        for number, digits in enumerate(dead, 9)
    }
    # used, revoked, expired and unknown are one
    (form,) = answers
    assert "UPDATE/PROVISIONING-CODE h prompt" in form
    for one in story.redeemed:
        # never by its MAC alone
        script = service.fetch(one.source)(_visit(one.hw_id, ""))[1]
        assert demo.EXPERT_LINES[0] not in script
        _assert_not_taken(service, story, one, now)
    assert device_table.find(story.hw_id(9)) is None


def _assert_not_taken(service: Service, story: Story, one: Redeemed, now: datetime) -> None:
    """Nobody takes it over with a code of their own."""
    other = story.sip("other")
    world.hire(other)
    digits = world.issue(other, now).digits
    service.secrets.add(digits)
    service.fetch(story.source(8))(_visit(one.hw_id, digits))
    device = device_table.find(one.hw_id)
    assert device is not None
    assert device.user == one.sip


def _expired(story: Story, now: datetime) -> str:
    """Issue a code whose time is over, and which nothing has deleted."""
    sip = story.sip("late")
    world.hire(sip)
    return world.issue(sip, now - timedelta(seconds=601)).digits


def _visit(hw_id: str, digits: str) -> str:
    code = f"&PROVISIONING-CODE={digits}" if digits else ""
    return f"{world.UPDATE_URL}?sn={hw_id}&type=IP232{code}"
