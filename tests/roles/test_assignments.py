"""An administrator's hand on devices: lists, names, moves, release, removal, replacement."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.codes import State as CodeState
from chalicelib.core.devices import Device, State
from chalicelib.core.errors import (
    ConflictError,
    DeviceElsewhereError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.roles import (
    assignments,
    devices,
    registrations,
    security_tokens,
    updates,
    users,
)
from chalicelib.roles.asking import Asking
from chalicelib.storage import audit
from chalicelib.storage import devices as device_table
from local import demo
from tests import faults, world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"
NEW = "0090330000ee"
LATER = NOW + timedelta(minutes=1)
DOMAIN = world.DOMAIN


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    world.seed()


def registered(hw_id: str = world.HW_ID, sip: str = "user1", category: str = "Office") -> str:
    """Register a phone in use; tells its token."""
    token = world.redeem(world.issue(sip, category=category).digits, hw_id).token
    poll(hw_id, token)
    return token


def poll(hw_id: str, token: str) -> str:
    """Let a phone poll with its token."""
    return devices.update_script(world.visit(None, hw_id, token=token), LATER)


def stored(hw_id: str) -> Device:
    """Read a device as it is now."""
    found = device_table.find(hw_id)
    assert found is not None
    return found


def phones(sip: str) -> list[str]:
    """List a person's phones."""
    return [phone.hw_id for phone in users.list_phones(world.person(sip), 10, None)[0]]


@pytest.mark.parametrize(
    "act",
    [
        lambda asking: assignments.list_all(asking, DOMAIN, 10, None, category="", state=None),
        lambda asking: assignments.show(asking, DOMAIN, world.HW_ID),
        lambda asking: assignments.change(asking, DOMAIN, world.HW_ID, "a", None),
        lambda asking: assignments.release(asking, DOMAIN, world.HW_ID),
        lambda asking: assignments.remove(asking, DOMAIN, world.HW_ID),
        lambda asking: assignments.put_in_place(asking, DOMAIN, world.HW_ID, NEW),
    ],
)
def test_only_administrators_of_the_domain_may(act: Callable[[Asking], object]) -> None:
    """Nobody else, not even another domain's; the platform's may everything."""
    registered()
    before = stored(world.HW_ID)
    for asking in (world.asking(), world.admin(domain="other.example")):
        with pytest.raises(NotAllowedError):
            act(asking)
    assert stored(world.HW_ID) == before
    act(world.platform(LATER))


def test_another_domains_device_is_not_there() -> None:
    """Nor is one that was never seen, or was released."""
    registered()
    for domain, hw_id in (("other.example", world.HW_ID), (DOMAIN, NEW)):
        with pytest.raises(NotFoundError):
            assignments.show(world.platform(), domain, hw_id)
    assignments.release(world.admin(), DOMAIN, world.HW_ID)
    with pytest.raises(NotFoundError):
        assignments.show(world.admin(), DOMAIN, world.HW_ID)


def test_lists_are_by_category_and_by_state_and_never_scan() -> None:
    """Each device once, whatever the size of a page."""
    for number in range(5):
        registered(f"00903300010{number}", f"user{number + 1}", ("Office", "Reception")[number % 2])
    world.redeem(world.issue("user9").digits, NEW)

    def walk(limit: int, category: str = "", state: State | None = None) -> list[str]:
        seen: list[str] = []
        after: str | None = None
        while True:
            page = assignments.list_all(
                world.admin(), DOMAIN, limit, after, category=category, state=state
            )
            seen += [device.hw_id[-3:] for device in page.items]
            if page.next_after is None:
                return seen
            after = page.next_after

    with world.calls() as made:
        for limit in (1, 2, 4, 100):
            assert walk(limit) == ["0ee", "100", "102", "104", "101", "103"]
            assert sorted(walk(limit, "Reception")) == ["101", "103"]
            assert walk(limit, state=State.REGISTERED) == ["0ee"]
            assert sorted(walk(limit, "Office", State.UPDATING)) == ["100", "102", "104"]
            assert sorted(walk(limit, state=State.CURRENT)) == ["101", "103"]
    assert set(made) == {"Query", "BatchGetItem"}


def test_a_name_is_the_administrators_and_stays_when_the_phone_comes_again() -> None:
    """A phone's own name does not replace it."""
    registered()
    named = assignments.change(world.admin(), DOMAIN, world.HW_ID, "Reception desk", None)
    assert named.name == stored(world.HW_ID).name == "Reception desk"
    with world.calls() as made:
        assignments.change(world.admin(), DOMAIN, world.HW_ID, "Reception desk", "Office")
    assert "UpdateItem" not in made
    again = world.issue("user1")
    told = replace(world.visit(again.digits), facts=replace(world.FACTS, name="IP232-1"))
    assert told.entry is not None
    assert registrations.register(told, told.entry, LATER).device.name == "Reception desk"


def test_a_moved_device_gets_the_other_categorys_jobs_and_keeps_what_is_for_all() -> None:
    """Its token and what it confirmed of every category stay; explain said so before."""
    asking = world.admin()
    everywhere = {"server": "10.0.0.1"}
    updates.make_configuration_job(asking, DOMAIN, "*", "ntp", everywhere)
    updates.make_configuration_job(
        asking, DOMAIN, "Reception", "expert", {"lines": ["config add HALL /on"]}
    )
    token = registered()
    plan = devices.jobs_of(world.HW_ID, token, LATER)
    for job in plan.jobs:
        done = devices.Report(job.job_id, devices.Outcome.DONE)
        devices.report_job(world.HW_ID, token, done, LATER)
    told = updates.explain(asking, DOMAIN, world.HW_ID, "Reception")
    expected = {one.verdict.job.job_type: one.standing for one in told if one.standing}
    assert expected == {"ntp": "confirmed", "expert": "open"}
    moved = assignments.change(asking, DOMAIN, world.HW_ID, None, "Reception")
    assert moved.category == "Reception"
    script = poll(world.HW_ID, token)
    assert "config add HALL /on" in script
    assert "NTP0" not in script
    assert demo.EXPERT_LINES[0] not in script
    page = assignments.list_all(asking, DOMAIN, 10, None, category="Reception", state=None)
    assert [device.hw_id for device in page.items] == [world.HW_ID]
    with pytest.raises(NotFoundError):
        assignments.change(asking, DOMAIN, world.HW_ID, None, "Nowhere")


@pytest.mark.parametrize("end", [assignments.release, assignments.remove])
def test_a_device_that_is_let_go_shows_the_form_and_may_come_again(
    end: Callable[[Asking, str, str], None],
) -> None:
    """Its token is dead, it is on nobody's list, and any good code may have it."""
    token = registered()
    end(world.admin(), DOMAIN, world.HW_ID)
    assert FORM in poll(world.HW_ID, token)
    assert phones("user1") == []
    assert world.redeem(world.issue("user2").digits).device.user == "user2"


def test_a_removed_device_is_forgotten_a_released_one_is_known() -> None:
    """What a released phone is stays; of a removed one nothing does."""
    registered()
    assignments.release(world.admin(), DOMAIN, world.HW_ID)
    assert (stored(world.HW_ID).state, stored(world.HW_ID).product) == (State.RELEASED, "IP232")
    registered(NEW, "user2")
    assignments.remove(world.admin(), DOMAIN, NEW)
    assert device_table.find(NEW) is None


def test_a_new_phone_in_place_of_another_is_expected_and_gets_a_code() -> None:
    """Seven days; it takes name, user, category and app, and the old one shows the form."""
    old = registered(category="Reception")
    assignments.change(world.admin(), DOMAIN, world.HW_ID, "Desk", None)
    made = assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, NEW)
    assert made.issued is not None
    assert made.issued.code.expires_at == LATER + timedelta(days=7)
    assert FORM in poll(world.HW_ID, old)
    assert (phones("user1"), stored(world.HW_ID).state) == ([], State.RELEASED)
    page = assignments.list_all(world.admin(), DOMAIN, 10, None, category="", state=None)
    assert [(device.hw_id, device.name) for device in page.items] == [(NEW, "Desk")]
    assert page.items[0].registered_at is None
    device = world.redeem(made.issued.digits, NEW, now=LATER + timedelta(days=6)).device
    assert (device.name, device.user, device.category, device.app) == (
        "Desk",
        "user1",
        "Reception",
        "phone",
    )
    assert phones("user1") == [NEW]


def test_an_expected_phone_may_come_by_its_domains_token_or_its_users_code() -> None:
    """It takes the place that was kept for it, whatever category its URL names."""
    security_tokens.put(world.platform(), DOMAIN, "Office", "abcdef#XYZ 99", None)
    registered(category="Reception")
    assignments.change(world.admin(), DOMAIN, world.HW_ID, "Desk", None)
    assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, NEW)
    claim = Claim(DOMAIN, "abcdef#XYZ 99", "Office")
    device = registrations.register(world.visit(None, NEW), claim, LATER).device
    assert (device.name, device.user, device.category) == ("Desk", "user1", "Reception")
    assert phones("user1") == [NEW]


def test_a_phone_without_a_user_can_take_a_users_place() -> None:
    """One that is registered in the domain goes on with its own token, and needs no code."""
    security_tokens.put(world.platform(), DOMAIN, "Office", "abcdef#XYZ 99", None)
    claim = Claim(DOMAIN, "abcdef#XYZ 99", "Office")
    token = registrations.register(world.visit(None, NEW), claim, NOW).token
    poll(NEW, token)
    registered(category="Reception")
    made = assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, NEW)
    assert made.issued is None
    assert phones("user1") == [NEW]
    assert (stored(NEW).category, stored(NEW).user) == ("Reception", "user1")
    assert FORM not in poll(NEW, token)


def test_a_replacement_of_nobodys_phone_is_nobodys() -> None:
    """It is on no list, and its code on none either."""
    security_tokens.put(world.platform(), DOMAIN, "Office", "abcdef#XYZ 99", None)
    claim = Claim(DOMAIN, "abcdef#XYZ 99", "Office")
    registrations.register(world.visit(None), claim, NOW)
    made = assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, NEW)
    assert made.issued is not None
    assert made.issued.code.state is CodeState.PENDING
    assert world.redeem(made.issued.digits, NEW, now=LATER).device.user == ""


def test_a_phone_that_was_let_go_can_be_the_new_one() -> None:
    """Released, or its token unused for a day: it is expected like an unknown one."""
    world.redeem(world.issue("user2").digits, NEW)
    registered()
    later = NOW + timedelta(days=1)
    made = assignments.put_in_place(world.admin(later), DOMAIN, world.HW_ID, NEW)
    assert made.issued is not None
    assert phones("user2") == []
    assert world.redeem(made.issued.digits, NEW, now=later).device.user == "user1"


def test_somebody_elses_phone_takes_nobodys_place() -> None:
    """Another user's, another domain's, or the phone itself; nothing is changed."""
    registered()
    registered(NEW, "user2")
    before = stored(world.HW_ID), stored(NEW)
    with pytest.raises(DeviceElsewhereError) as refused:
        assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, NEW)
    assert refused.value.refusal is Refusal.DEVICE_OF_ANOTHER_USER
    with pytest.raises(InvalidRequestError):
        assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, world.HW_ID)
    foreign = "0090330000ef"
    code = world.issue_rollout(owner="zoe", domain="other.example", category="Sales")
    poll(foreign, world.redeem(code.digits, foreign).token)
    with pytest.raises(DeviceElsewhereError) as refused:
        assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, foreign)
    assert refused.value.refusal is Refusal.DEVICE_OF_ANOTHER_DOMAIN
    assert (stored(world.HW_ID), stored(NEW)) == before


def test_a_change_that_is_not_written_down_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phone, trail and what its user hears: all or nothing, and the same call mends it."""
    registered()

    def changes() -> list[tuple[str, str]]:
        trail = audit.list_month(DOMAIN, f"{NOW:%Y-%m}", 100, None).items
        return [(one.detail, one.owner) for one in trail if one.action == "device changed"]

    with (
        faults.failing(monkeypatch, "TransactWriteItems", faults.timeout()),
        pytest.raises(StoreUnavailableError),
    ):
        assignments.change(world.admin(), DOMAIN, world.HW_ID, "Desk", None)
    assert (stored(world.HW_ID).name, changes()) == ("", [])
    assignments.change(world.admin(), DOMAIN, world.HW_ID, "Desk", None)
    assert (stored(world.HW_ID).name, changes()) == ("Desk", [("renamed", "user1")])


def test_who_is_beaten_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device changed hands between reading and writing: a conflict each time."""
    registered()
    stale = stored(world.HW_ID)
    assignments.release(world.admin(), DOMAIN, world.HW_ID)
    registered(sip="user2")
    now = stored(world.HW_ID)
    real = device_table.find
    monkeypatch.setattr(
        device_table, "find", lambda hw_id: stale if hw_id == world.HW_ID else real(hw_id)
    )
    with pytest.raises(ConflictError):
        assignments.change(world.admin(), DOMAIN, world.HW_ID, "Mine", None)
    with pytest.raises(ConflictError):
        assignments.release(world.admin(), DOMAIN, world.HW_ID)
    with pytest.raises(ConflictError):
        assignments.remove(world.admin(), DOMAIN, world.HW_ID)
    with pytest.raises(ConflictError):
        assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, NEW)
    assert real(NEW) is None
    assert real(world.HW_ID) == now


def test_trouble_after_a_replacement_takes_no_code_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told this once, and the old phone has gone already."""
    registered()
    error = faults.client_error("ThrottlingException", "Query")
    with faults.failing(monkeypatch, "Query", error, spare=1) as still_to_come:
        made = assignments.put_in_place(world.admin(LATER), DOMAIN, world.HW_ID, NEW)
    assert still_to_come == []
    assert made.issued is not None
    assert world.redeem(made.issued.digits, NEW, now=LATER).device.user == "user1"
