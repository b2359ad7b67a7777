"""The code of today on the tables of every release that has a dump: nobody has to do anything."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

import app
from chalicelib import settings
from chalicelib.core.codes import Lifetime
from chalicelib.core.codes import State as CodeState
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import CodeNotRedeemableError, LimitReachedError
from chalicelib.core.rollouts import State
from chalicelib.roles import (
    assignments,
    devices,
    domains,
    handouts,
    installations,
    provisioning,
    rollouts,
    security_tokens,
    updates,
    users,
)
from chalicelib.roles.rollouts import Selection
from chalicelib.sockets import push
from chalicelib.storage import devices as device_table
from chalicelib.storage import idempotency
from chalicelib.storage import notifications as notification_table
from chalicelib.storage.connection import Item
from local import demo
from tests import bus as buses
from tests import world
from tests.bus import Bus
from tests.conftest import use
from tests.releases import dumps, story
from tests.releases.dumps import Dump
from tests.releases.story import DOMAIN, phone
from tests.wires import Wires, stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

WITHOUT_MODEL = "idempotency"
FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"
PHONES = {"009033000002", "009033000003", "009033000004", "009033000006", "00903300000a"}
RELEASED, EXPECTED = phone(5)[0], phone(21)[0]


@pytest.fixture(params=dumps.releases())
def dump(
    request: pytest.FixtureRequest,
    client: "DynamoDBClient",
    table_names: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Dump:
    """Put what a release left into the tables, and its keys where the service looks for them."""
    found = dumps.read(request.param)
    keys = tmp_path / "keys of the release.json"
    keys.write_text(json.dumps(found.keys))
    use(replace(settings.current(), keys_file=str(keys)), monkeypatch)
    found.load(client, table_names)
    return found


@pytest.fixture
def now(dump: Dump) -> datetime:
    """Tell the time: the code of today came a minute after the dump."""
    return dump.taken_at + timedelta(minutes=1)


@pytest.fixture
def wires(dump: Dump, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wires]:
    """Keep the connections open that were open under the release."""
    with story.standing_still(monkeypatch, lambda: now) as (made, _):
        made.open |= set(dump.known["connections"].values())
        yield made


def test_this_release_has_its_dump() -> None:
    """Whoever raises the version takes one: docs/data-model.md."""
    assert dumps.version() in dumps.releases()


def test_every_item_is_read_by_its_model(dump: Dump) -> None:
    """And written again as it was, so that what is changed in part loses nothing."""
    models = {model.concept: model for model in Item.__subclasses__()}
    for concept, items in dump.tables.items():
        assert items, concept
        for item in items if concept != WITHOUT_MODEL else ():
            written = models[concept].from_raw_data(item).serialize()
            assert {name: written.get(name) for name in item} == item


def test_a_dump_has_every_table_that_its_code_wrote(dump: Dump) -> None:
    """A table is dropped from the service only with its last dump."""
    assert set(dump.tables) <= set(settings.TABLES)


@pytest.mark.parametrize(
    ("name", "number", "user"),
    [
        ("open", 30, "user1"),
        ("refused", 31, "user1"),
        ("rolled out", 32, "user7"),
        ("asked", 33, "user12"),
        ("in place", 21, ""),
    ],
)
def test_an_open_code_is_redeemed(
    dump: Dump, now: datetime, name: str, number: int, user: str
) -> None:
    """A person's, one that was refused once, a rollout's, a Users instance's, a replacement's."""
    made = world.redeem(dump.known["codes"][name], *phone(number), now)
    assert (made.device.domain, made.device.user) == (DOMAIN, user)
    script = devices.update_script(world.visit(None, *phone(number), made.token), now)
    assert demo.EXPERT_LINES[0] in script


@pytest.mark.parametrize("name", ["expired", "revoked", "used", "told", "foreign"])
def test_a_code_that_had_ended_stays_so(dump: Dump, now: datetime, name: str) -> None:
    """Also one that is another installation's."""
    with pytest.raises(CodeNotRedeemableError):
        world.redeem(dump.known["codes"][name], *phone(30), now)


@pytest.mark.parametrize("name", ["open", "rolled out", "foreign"])
def test_the_central_service_leads_an_open_code_on(dump: Dump, now: datetime, name: str) -> None:
    """To its Devices, ours or a foreign one."""
    typed = world.visit(dump.known["codes"][name], *phone(30))
    inquiry = provisioning.Inquiry(typed.hw_id, typed.facts, typed.entry, typed.source)
    assert "config add UP1 /url" in provisioning.answer(inquiry, now)


def test_a_repeated_code_gets_its_first_answer(dump: Dump, now: datetime) -> None:
    """The same token as the phone may have been told before."""
    hw_id, _ = phone(3)
    again = world.redeem(dump.known["codes"]["repeatable"], *phone(3), now)
    assert again.token == dump.known["phones"][hw_id]


def test_phones_poll_with_their_tokens(dump: Dump, now: datetime) -> None:
    """Each is known; only the one that was released is asked for a code."""
    assert dump.known["phones"].keys() >= {*PHONES, RELEASED}
    for hw_id, token in dump.known["phones"].items():
        polling = world.visit(None, hw_id, world.HOME, token)
        asked = FORM in devices.update_script(polling, now)
        assert asked is (device_table.find(hw_id).token_hash == ""), hw_id  # type: ignore[union-attr]  # it is there
        if hw_id in PHONES:
            assert not asked


def test_an_idle_phone_costs_what_it_did(dump: Dump, now: datetime) -> None:
    """What it reported under the release counts: it was here a minute ago, and nothing changed."""
    hw_id, source = phone(2)
    polling = world.visit(None, hw_id, source, dump.known["phones"][hw_id])
    with world.calls() as made:
        devices.update_script(polling, now)
    assert made == ["BatchGetItem", "BatchGetItem"]


def test_jobs_go_on_where_they_were(dump: Dump, now: datetime) -> None:
    """What was done stays done, what failed is not offered before its time; secrets are opened."""
    hw_id, _ = phone(4)
    token = dump.known["phones"][hw_id]
    device = device_table.find(hw_id)
    assert device is not None
    (failed,) = device.failures
    left = {job.job_id for job in devices.jobs_of(hw_id, token, device.failures[failed].at).jobs}
    assert left.isdisjoint({failed, *device.confirmed.values()})
    later = devices.jobs_of(hw_id, token, now + timedelta(hours=1))
    assert failed in {job.job_id for job in later.jobs}
    assert "pass of tests" in str([job.parameters for job in later.jobs])
    explained = updates.explain(world.admin(now), DOMAIN, hw_id, None)
    assert failed in {one.verdict.job.job_id for one in explained}


def test_a_rollout_goes_on(dump: Dump, now: datetime) -> None:
    """Listed, exported, extended, reissued in part, revoked."""
    office, rollout_id = world.users_admin(now), dump.known["rollout_id"]
    assert [one.rollout_id for one in rollouts.list_all(office, 10, None).items] == [rollout_id]
    shown = rollouts.show(office, rollout_id, None, 10, None)
    assert {one.registration.sip: one.registration.state for one in shown.entries.items} == {
        "user6": State.REGISTERED,
        "user7": State.PENDING,
        "user8": State.PENDING,
        "user9": State.REVOKED,
    }
    _, found = handouts.export(office, rollout_id, None)
    told = {one.registration.sip: one.digits for one in found if one.digits}
    codes = dump.known["codes"]
    assert told == {"user7": codes["rolled out"], "user8": codes["also rolled out"]}
    assert rollouts.extend(office, rollout_id, Selection()).changed == 2
    week = timedelta(seconds=Lifetime.ROLLOUT.seconds)
    late = now + week - timedelta(seconds=1)
    assert world.redeem(codes["rolled out"], *phone(30), late).device.user == "user7"
    assert rollouts.reissue(office, rollout_id, Selection(["user9"])).changed == 1
    assert rollouts.revoke(office, rollout_id, Selection(["user8"])).changed == 1
    with pytest.raises(CodeNotRedeemableError):
        world.redeem(codes["also rolled out"], *phone(31), now)


def test_what_was_pending_is_told(dump: Dump, now: datetime, wires: Wires) -> None:
    """To the connection that asked under the release, with the number after the last one."""
    push.remind()
    opened = dump.known["connections"]
    (told,) = [one for one in wires.sent[opened["instance"]] if one["mt"] == "DeviceProvisioned"]
    assert (told["code"], told["sequence"]) == (dump.known["codes"]["to be told"], 2)
    assert (told["src"], told["device"]["hwId"]) == ("user11", phone(11)[0])
    world.redeem(dump.known["codes"]["asked abroad"], *phone(30), now)
    push.remind()
    (abroad,) = [one for one in wires.sent[opened["abroad"]] if one["mt"] == "DeviceProvisioned"]
    assert abroad["sequence"] == 3
    assert notification_table.list_pending(DOMAIN, 10, None).items == []


def test_what_the_stream_still_held_is_told(dump: Dump, wires: Wires) -> None:
    """Rows that the release wrote and its consumer had not read."""
    app.follow_notifications(stream_event(*dump.tables["notifications"]), None)
    opened = dump.known["connections"]
    person = {one["mt"] for one in wires.sent[opened["person"]]}
    assert person == {"CodeChanged"}
    (told,) = [one for one in wires.sent[opened["admin"]] if one["mt"] == "RegistrationChanged"]
    assert {one["sip"] for one in told["entries"]} == {"user6", "user7", "user8", "user9"}
    assert [one["mt"] for one in wires.sent[opened["instance"]]] == ["DeviceProvisioned"]


def test_what_the_stream_still_held_is_an_event(dump: Dump, bus: Bus) -> None:
    """Of rollouts at least: not every release wrote down that a phone came."""
    rows = stream_event(*dump.tables["notifications"])
    assert app.hand_over(rows, None) == {"batchItemFailures": []}
    told = {entry["sip"] for one in bus.told("RegistrationChanged") for entry in one["entries"]}
    assert told == {"user6", "user7", "user8", "user9"}
    for entry in bus.taken:
        buses.hold(entry)


def test_lists_are_read(dump: Dump, now: datetime) -> None:
    """The audit trail, codes, phones, devices, jobs, sightings, installations."""
    office, platform = world.admin(now), world.platform(now)
    trail = domains.audit_trail(office, DOMAIN, f"{dump.taken_at:%Y-%m}", 100, None).items
    written = [one for one in dump.tables["audit"] if one["domain"]["S"] == DOMAIN]
    assert len(trail) == len(written)
    assert {"code redeemed", "code refused", "token set"} <= {one.action for one in trail}
    states = [one.code.state_at(now) for one in users.list_codes(world.person("user4"), 9, None)[0]]
    assert sorted(states) == [CodeState.REDEEMED, CodeState.REVOKED]
    (own,), _ = users.list_phones(world.person("user2"), 10, None)
    assert own.hw_id == phone(2)[0]
    found = assignments.list_all(office, DOMAIN, 100, None, category="", state=None).items
    listed = {one.hw_id: one for one in found}
    assert listed.keys() >= {*PHONES, EXPECTED}
    assert RELEASED not in listed
    assert listed[phone(2)[0]].state is DeviceState.UPDATING
    assert len(updates.list_software(office, DOMAIN, 10, None).items) == 1
    assert len(updates.list_configuration(office, DOMAIN, 10, None).items) == 3
    seen = provisioning.list_sightings(platform, f"{dump.taken_at:%Y-%m-%d}", 10, None).items
    assert phone(22)[0] in {one.hw_id for one in seen}
    assert [one.name for one in installations.list_all(platform, 10, None).items] == ["Foreign Ltd"]


def test_a_domain_is_as_it_was_set(dump: Dump, now: datetime, wires: Wires) -> None:
    """Settings and token are shown, its password logs in, its keys and limits count."""
    office = world.admin(now)
    shown = domains.show(office, DOMAIN)
    assert (shown.granted_domains, shown.phone_apps, shown.devices_url) == (
        ["other.example"],
        ["phone", "softphone"],
        world.UPDATE_URL,
    )
    assert quote(story.SECOND_TOKEN) in security_tokens.show(office, DOMAIN, "Office").url
    assert [one.name for one in domains.categories(office, DOMAIN)] == [
        "Gateways",
        "Office",
        "Reception",
    ]
    instance = wires.instance()
    found = instance.ask("GetDomains")["domains"]
    assert {one["name"] for one in found} == {DOMAIN, "other.example"}
    url = "https://devices.foreign.example/update"
    key = dump.known["installation"]
    assert installations.issue_code(key, url, Lifetime.USER, world.HOME, now).digits


@pytest.mark.parametrize("token", [story.SECOND_TOKEN, story.FIRST_TOKEN])
def test_a_domains_token_admits(dump: Dump, now: datetime, token: str) -> None:
    """The one that counts, and the one before it as long as it was to be kept."""
    assert dump.tables
    made = world.admit(world.claiming(token, *phone(30)), now)
    assert (made.device.domain, made.device.category) == (DOMAIN, "Office")


def test_a_phone_that_was_expected_takes_its_place(dump: Dump, now: datetime) -> None:
    """By the domain's token as well as by its code."""
    before = device_table.find(EXPECTED)
    assert before is not None
    made = world.admit(world.claiming(story.SECOND_TOKEN, *phone(21)), now)
    assert (made.device.user, made.device.category) == (before.user, before.category)
    assert dump.known["phones"].get(EXPECTED) is None


def test_a_phone_changes_hands(dump: Dump, now: datetime) -> None:
    """It is on a list by the release's item, and leaves it by today's code."""
    hw_id, _ = phone(2)
    assert hw_id in dump.known["phones"]
    users.release_phone(world.asking("user2", now), hw_id)
    assert users.list_phones(world.person("user2"), 10, None)[0] == []
    assert world.redeem(dump.known["codes"]["open"], *phone(2), now).device.user == "user1"


def test_what_a_source_has_tried_still_counts(dump: Dump) -> None:
    """One wrong code under the release, nine now, and no more."""
    hw_id, source = phone(22)
    for n in range(9):
        with pytest.raises(CodeNotRedeemableError):
            world.redeem(f"{n + 1:012}", hw_id, source, dump.taken_at)
    with pytest.raises(LimitReachedError):
        world.redeem("000000000000", hw_id, source, dump.taken_at)


def test_a_write_that_is_repeated_gets_its_answer(dump: Dump) -> None:
    """The answer that the release kept, and nothing is done again."""
    assert dump.tables[WITHOUT_MODEL]

    def again() -> idempotency.Answer:
        raise AssertionError("done a second time")

    assert idempotency.once(story.WRITE, again, 10_000) == story.ANSWERED
