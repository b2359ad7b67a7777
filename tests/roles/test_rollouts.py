import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chalicelib.core.codes import Lifetime, grouped
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    ConflictError,
    DeviceElsewhereError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    Refusal,
)
from chalicelib.core.rollouts import (
    NOT_CONFIRMED,
    RELEASED,
    Registration,
)
from chalicelib.core.rollouts import State as EntryState
from chalicelib.roles import devices, domains, entries, handouts, rollouts, users
from chalicelib.roles.rollouts import Added, Selection
from chalicelib.storage import audit, codes, registrations
from local import demo
from tests import world
from tests.conftest import NOW
from tests.roles.rolling_out import (
    CALLS,
    ELSEWHERE,
    EXPIRED,
    NAMELESS,
    NOWHERE,
    OFFICE,
    PENDING,
    REGISTERED,
    REVOKED,
    TABLET,
    WEEK,
    counts,
    is_redeemed,
    reason,
    registered_elsewhere,
    shown,
    states,
    trail,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from chalicelib.roles.asking import Asking

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


def test_options_are_what_the_domain_has_for_phones() -> None:
    """Provisioning categories for phones, and its phone apps."""
    told = rollouts.options(OFFICE)
    assert (told.categories, told.phone_apps) == (["Office", "Reception"], ["phone"])


def test_a_rollout_gives_each_user_a_code_of_seven_days() -> None:
    """Whoever is named twice gets one; the app is the domain's first."""
    rollout, added = rollouts.create(
        OFFICE,
        name="Autumn",
        category="Office",
        app="",
        note="Second floor",
        sips=["user1", "user2", "user1"],
    )
    assert added == Added(added=2, already=1)
    assert rollouts.find(OFFICE, rollout.rollout_id) == rollout
    assert (rollout.app, rollout.note, rollout.created_by) == ("phone", "Second floor", "office")
    assert (rollout.created_at, rollout.domain) == (NOW, world.DOMAIN)
    told = world.told(rollout)
    assert sorted(told) == ["user1", "user2"]
    entry = world.entry(rollout, "user1")
    (code,) = codes.find_all([entry.fingerprint])
    assert (code.code_id, code.owner, code.rollout_id) == (
        entry.code_id,
        "user1",
        rollout.rollout_id,
    )
    assert (code.category, code.app, code.lifetime) == ("Office", "phone", Lifetime.ROLLOUT)
    assert code.devices_url == world.UPDATE_URL
    assert code.expires_at == entry.expires_at == NOW + timedelta(seconds=WEEK)
    assert (entry.name, entry.state, entry.since) == ("User 1", PENDING, NOW)
    device = world.redeem(told["user1"]).device
    assert (device.user, device.category, device.rollout_id) == (
        "user1",
        "Office",
        rollout.rollout_id,
    )


def test_a_rollout_can_begin_without_anybody_and_without_apps() -> None:
    """A domain need have no phone app."""
    asking = world.users_admin(domain="other.example")
    rollout = world.make_rollout([], domain="other.example", category="Sales")
    assert rollout.app == ""
    assert rollouts.show(asking, rollout.rollout_id, None, 10, None).entries.items == []
    assert rollouts.list_all(asking, 10, None).items == [rollout]


def test_phones_of_a_rollout_go_where_the_domain_says() -> None:
    """Its own Devices, if it names one; the app that was chosen."""
    domains.change(
        world.admin(),
        world.DOMAIN,
        {"devices_url": "https://devices.example.com/update", "phone_apps": ["phone", "softphone"]},
    )
    rollout, _ = rollouts.create(
        OFFICE, name="Autumn", category="Office", app="softphone", note="", sips=["user1"]
    )
    rollouts.add(OFFICE, rollout.rollout_id, ["user2"])
    for sip in ("user1", "user2"):
        (code,) = codes.find_all([world.entry(rollout, sip).fingerprint])
        assert (code.app, code.devices_url) == ("softphone", "https://devices.example.com/update")


def test_everything_that_is_wrong_with_a_new_rollout_is_told_at_once() -> None:
    """Each unknown user by place, the category, the app; and nothing is written."""
    with pytest.raises(InvalidRequestError) as refused:
        rollouts.create(
            OFFICE,
            name="Autumn",
            category="Gateways",
            app="pager",
            note="",
            sips=["user1", "nobody", "user2", "vera"],
        )
    assert [fault.field for fault in refused.value.faults] == [
        "users.1",
        "users.3",
        "category",
        "app",
    ]
    for category in ("nonsense", "Sales"):
        with pytest.raises(InvalidRequestError) as refused:
            world.make_rollout(["user1"], category=category)
        assert [fault.field for fault in refused.value.faults] == ["category"]
    assert rollouts.list_all(OFFICE, 10, None).items == []
    assert trail() == []


def test_unknown_users_are_named_all_at_once_and_nobody_is_added() -> None:
    """By their places in the list."""
    rollout = world.make_rollout(["user1"])
    with pytest.raises(InvalidRequestError) as refused:
        rollouts.add(OFFICE, rollout.rollout_id, ["nobody", "user2", "", "x" * 2_000])
    assert [fault.field for fault in refused.value.faults] == ["users.0", "users.2", "users.3"]
    assert list(states(rollout)) == ["user1"]


def test_users_are_added_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there already keeps the code; more than one transaction holds is no trouble."""
    monkeypatch.setattr(entries, "MAX_TRANSACTION_ITEMS", 10)
    sips = world.staff(11)
    rollout = world.make_rollout(sips[:3])
    before = world.told(rollout)
    assert rollouts.add(OFFICE, rollout.rollout_id, [*sips, sips[0], sips[10]]) == Added(8, 5)
    after = world.told(rollout)
    assert sorted(after) == sips
    assert len(set(after.values())) == 11
    assert before.items() <= after.items()
    assert rollouts.add(OFFICE, rollout.rollout_id, sips) == Added(0, 11)
    assert world.told(rollout) == after


def test_a_rollout_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to it, and not beyond; those who are there already do not count twice."""
    monkeypatch.setattr(rollouts, "MAX_ENTRIES", 3)
    rollout = world.make_rollout(["user1", "user2"])
    with pytest.raises(ConflictError):
        rollouts.add(OFFICE, rollout.rollout_id, ["user3", "user4"])
    assert rollouts.add(OFFICE, rollout.rollout_id, ["user1", "user2", "user3"]) == Added(1, 2)
    with pytest.raises(ConflictError):
        rollouts.add(OFFICE, rollout.rollout_id, ["user4"])
    assert rollouts.add(OFFICE, rollout.rollout_id, ["user3"]) == Added(0, 1)


def test_rollouts_are_listed_newest_first() -> None:
    """Page by page, of this domain alone."""
    made = [world.make_rollout([], NOW + timedelta(seconds=n)) for n in range(3)]
    world.make_rollout([], domain="other.example", category="Sales")
    first = rollouts.list_all(OFFICE, 2, None)
    second = rollouts.list_all(OFFICE, 2, first.next_after)
    assert [*first.items, *second.items] == made[::-1]


@pytest.mark.parametrize("name", CALLS)
def test_only_those_who_administer_users_roll_out(name: str) -> None:
    """Whatever else somebody may do; and it leaves everything as it was."""
    rollout = world.make_rollout(["user1"])
    before = world.entry(rollout, "user1"), trail()
    for who in (world.asking(), world.admin(), world.platform()):
        with pytest.raises(NotAllowedError):
            CALLS[name](who, rollout.rollout_id)
    assert (world.entry(rollout, "user1"), trail()) == before


@pytest.mark.parametrize("name", [name for name in CALLS if name not in NAMELESS])
def test_a_rollout_of_another_domain_is_not_there(name: str) -> None:
    """Nor is one that never was, or whose id can be none."""
    rollout = world.make_rollout(["user1"])
    before = world.entry(rollout, "user1")
    other = world.users_admin(domain="other.example")
    for who, rollout_id in (
        (other, rollout.rollout_id),
        (OFFICE, NOWHERE),
        (OFFICE, ""),
        (OFFICE, rollout.rollout_id + "0"),
    ):
        with pytest.raises(NotFoundError):
            CALLS[name](who, rollout_id)
    assert world.entry(rollout, "user1") == before


@pytest.mark.parametrize("name", ["options", "create"])
def test_a_domain_that_is_not_served_here_rolls_nothing_out(name: str) -> None:
    """Whatever its users-admin's token says."""
    with pytest.raises(NotAllowedError):
        CALLS[name](world.users_admin(domain="foreign.example"), NOWHERE)


def test_what_is_shown_of_each_state() -> None:
    """Newest change first, with its phone; of one state alone; counted."""
    rollout = world.make_rollout(["user1", "user2", "user3", "user4"])
    told = world.told(rollout)
    world.redeem(told["user3"], now=NOW + timedelta(minutes=1))
    at, second = rollout.rollout_id, NOW + timedelta(minutes=2)
    rollouts.revoke(world.users_admin(second), at, Selection(["user1"]))
    third = NOW + timedelta(minutes=3)
    rollouts.extend(world.users_admin(third), at, Selection(["user4"]))
    assert shown(rollout) == ["user4", "user1", "user3", "user2"]
    assert counts(rollout, 300) == {PENDING: 2, REGISTERED: 1, REVOKED: 1}
    assert shown(rollout, PENDING) == ["user4", "user2"]
    assert shown(rollout, REGISTERED) == ["user3"]
    assert shown(rollout, REVOKED) == ["user1"]
    assert counts(rollout, WEEK) == {PENDING: 1, EXPIRED: 1, REGISTERED: 1, REVOKED: 1}
    assert shown(rollout, EXPIRED, WEEK) == ["user2"]
    assert counts(rollout, WEEK + 180) == {EXPIRED: 2, REGISTERED: 1, REVOKED: 1}
    assert shown(rollout, EXPIRED, WEEK + 180) == ["user4", "user2"]
    (entry,) = rollouts.show(OFFICE, rollout.rollout_id, REGISTERED, 10, None).entries.items
    assert entry.device is not None
    assert (entry.device.hw_id, entry.registration.since) == (
        world.HW_ID,
        NOW + timedelta(minutes=1),
    )
    late = NOW + timedelta(seconds=2 * WEEK)
    since = {sip: world.entry(rollout, sip).since_at(late) for sip in told}
    assert since == {
        "user1": NOW + timedelta(minutes=2),
        "user2": NOW + timedelta(seconds=WEEK),
        "user3": NOW + timedelta(minutes=1),
        "user4": NOW + timedelta(minutes=3, seconds=WEEK),
    }


def test_a_list_that_lags_shows_nothing_twice_and_nothing_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry that has changed since the index saw it, or is gone, is left out of its state."""
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)

    def act() -> None:
        world.redeem(told["user1"])
        registrations.RegistrationItem(rollout.rollout_id, "user2").delete()

    real = registrations.find_all

    def lagging(rollout_id: str, sips: list[str]) -> list[Registration]:
        act()
        return real(rollout_id, sips)

    monkeypatch.setattr(registrations, "find_all", lagging)
    page = rollouts.show(OFFICE, rollout.rollout_id, PENDING, 10, None).entries
    assert [entry.registration.sip for entry in page.items] == ["user3"]


def test_a_phone_of_another_domain_is_shown_at_its_entry() -> None:
    """As the reason why nothing happens; it moves up in the list, and stays pending."""
    rollout = world.make_rollout(["user1", "user2"])
    digits = world.told(rollout)["user1"]
    registered_elsewhere()
    assert shown(rollout) == ["user2", "user1"]
    with pytest.raises(DeviceElsewhereError):
        world.redeem(digits, now=NOW + timedelta(minutes=1))
    assert reason(rollout, "user1") == Refusal.DEVICE_OF_ANOTHER_DOMAIN
    assert shown(rollout) == ["user1", "user2"]
    assert states(rollout) == {"user1": PENDING, "user2": PENDING}
    entry = world.entry(rollout, "user1")
    assert (entry.since, entry.changed_at) == (NOW, NOW + timedelta(minutes=1))
    world.redeem(digits, TABLET)
    assert reason(rollout, "user1") == ""


def test_a_harmless_refusal_does_not_hide_a_serious_one() -> None:
    """That somebody elsewhere repeated a code stays to be seen."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    world.redeem(digits)
    for hw_id, source in ((world.HW_ID, ELSEWHERE), (TABLET, ELSEWHERE)):
        with pytest.raises(CodeNotRedeemableError):
            world.redeem(digits, hw_id, source)
        assert reason(rollout, "user1") == Refusal.REPEATED_ELSEWHERE
    assert states(rollout) == {"user1": REGISTERED}


def test_an_attempt_after_the_end_is_shown() -> None:
    """The user tried too late, and the administrator sees it."""
    rollout = world.make_rollout(["user1"])
    assert not is_redeemed(world.told(rollout)["user1"], seconds=WEEK)
    assert reason(rollout, "user1", WEEK) == Refusal.EXPIRED
    later = world.users_admin(NOW + timedelta(seconds=WEEK))
    rollouts.reissue(later, rollout.rollout_id, Selection())
    assert reason(rollout, "user1", WEEK) == ""


def test_a_phone_that_does_not_finish_is_shown() -> None:
    """Its script was not confirmed within three polls; it is registered all the same."""
    rollout = world.make_rollout(["user1"])
    world.redeem(world.told(rollout)["user1"])
    assert reason(rollout, "user1") == ""
    assert reason(rollout, "user1", 86_400) == NOT_CONFIRMED
    assert states(rollout, 86_400) == {"user1": REGISTERED}


def test_a_phone_that_was_given_up_is_shown() -> None:
    """Or that is another user's now."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    users.release_phone(world.asking(), world.HW_ID)
    assert reason(rollout, "user1") == RELEASED
    world.redeem(told["user2"])
    assert (reason(rollout, "user1"), reason(rollout, "user2")) == (RELEASED, "")
    page = rollouts.show(OFFICE, rollout.rollout_id, REGISTERED, 10, None).entries
    phones = {entry.registration.sip: entry.device for entry in page.items}
    assert phones["user1"] is None
    assert phones["user2"] is not None


def test_a_rollouts_code_moves_a_phone_from_another_user_of_the_domain() -> None:
    """And whoever had it in the rollout before is shown without it."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    assert world.redeem(told["user2"], source=ELSEWHERE).device.user == "user2"
    assert (reason(rollout, "user1"), reason(rollout, "user2")) == (RELEASED, "")


def test_the_audit_trail_says_who_did_what_to_whom() -> None:
    """Each change, each export and each look, with everybody whom it concerned."""
    rollout = world.make_rollout(["user1", "user2"])
    rollout_id = rollout.rollout_id
    acts: list[Callable[[Asking], object]] = [
        lambda who: rollouts.add(who, rollout_id, ["user3"]),
        lambda who: rollouts.extend(who, rollout_id, Selection(["user1"])),
        lambda who: rollouts.reissue(who, rollout_id, Selection(["user2"])),
        lambda who: rollouts.revoke(who, rollout_id, Selection(["user3"])),
        lambda who: handouts.export(who, rollout_id, None),
        lambda who: handouts.export(who, rollout_id, NOW),
        lambda who: handouts.view(who, rollout_id, 10, None),
        lambda who: rollouts.revoke(who, rollout_id, Selection(["user3"])),
    ]
    for minute, act in enumerate(acts, 1):
        act(world.users_admin(NOW + timedelta(minutes=minute)))
    told = [(entry.action, ", ".join(sorted(entry.detail.split(", ")))) for entry in trail()]
    assert told == [
        ("rollout made", ""),
        ("codes issued", "user1, user2"),
        ("codes issued", "user3"),
        ("codes extended", "user1"),
        ("codes reissued", "user2"),
        ("codes revoked", "user3"),
        ("codes exported", "3 entries"),
        ("codes exported", "3 entries changed since 2036-11-24T12:00:00+00:00"),
        ("codes viewed", "user1, user2"),
    ]
    for entry in trail():
        assert (entry.actor, entry.subject, entry.source) == ("office", rollout_id, world.HOME)
    assert [entry.at for entry in trail()[2:]] == [
        NOW + timedelta(minutes=minute) for minute in range(1, 8)
    ]


def test_a_redemption_is_in_the_audit_trail_and_names_its_code() -> None:
    """By its handle; the rollout is found by it."""
    rollout = world.make_rollout(["user1"])
    world.redeem(world.told(rollout)["user1"])
    (entry, *_) = audit.list_month(world.DOMAIN, "2036-11", 10, None).items
    assert (entry.action, entry.actor, entry.subject) == (
        "code redeemed",
        world.HW_ID,
        world.entry(rollout, "user1").code_id,
    )


def test_a_rollouts_code_is_none_of_the_users_own() -> None:
    """Profile shows the phone, and not a code that they did not ask for."""
    rollout = world.make_rollout(["user1"])
    world.redeem(world.told(rollout)["user1"])
    assert users.list_codes(world.person(), 10, None) == ([], None)
    with pytest.raises(NotFoundError):
        users.find_code(world.person(), world.entry(rollout, "user1").code_id)
    assert [phone.hw_id for phone in users.list_phones(world.person(), 10, None)[0]] == [
        world.HW_ID
    ]


def test_promise_11_a_rollouts_code_costs_a_phone_six_calls() -> None:
    """As any code does, however many others there are."""
    rollout = world.make_rollout(world.staff(8))
    told = world.told(rollout)
    with world.calls() as made:
        script = devices.update_script(world.visit(told["clerk007"]), NOW)
    assert demo.EXPERT_LINES[0] in script
    assert len(made) <= 6
    assert "Scan" not in made


@pytest.mark.parametrize(("part", "most"), [(6, 7), (1, 8)])
def test_promise_11_adding_costs_a_transaction_for_fifty(many: int, part: int, most: int) -> None:
    """Nothing is read user by user."""
    sips = world.staff(many // part)
    rollout = world.make_rollout([])
    with world.calls() as made:
        rollouts.add(OFFICE, rollout.rollout_id, sips)
    assert len(made) <= most
    assert set(made) <= {"BatchGetItem", "Query", "TransactWriteItems"}


@pytest.mark.parametrize("state", [None, *EntryState])
def test_promise_11_a_list_costs_the_same_whatever_is_in_it(state: EntryState | None) -> None:
    """The rollout, a page, its phones, and a count of each state."""
    rollout = world.make_rollout(world.staff(15))
    told = world.told(rollout)
    for n in range(5):
        world.redeem(told[f"clerk{n:03}"], f"0090330000a{n}")
    with world.calls() as made:
        rollouts.show(OFFICE, rollout.rollout_id, state, 10, None)
    assert len(made) <= 8
    assert set(made) <= {"BatchGetItem", "Query"}


def _strings(value: object) -> Iterator[str]:
    """Find every text in an item as DynamoDB writes it."""
    if isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str):
        yield value


def test_promise_12_a_dump_after_a_whole_rollout_redeems_nothing(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """No code in any spelling and no token; nothing that stands in it registers a phone."""
    rollout = world.make_rollout(["user1", "user2", "user3", "user4"])
    seen = set(world.told(rollout).values())
    rollouts.reissue(OFFICE, rollout.rollout_id, Selection(["user1"]))
    rollouts.extend(OFFICE, rollout.rollout_id, Selection(["user2"]))
    rollouts.revoke(OFFICE, rollout.rollout_id, Selection(["user4"]))
    told = world.told(rollout)
    seen |= set(told.values())
    token = world.redeem(told["user3"], TABLET).token
    assert not is_redeemed(told["user3"], "0090330000ff")
    handouts.view(OFFICE, rollout.rollout_id, 10, None)
    dump = world.dump(client, table_names)
    assert len(seen) == 5
    for digits in seen:
        spellings = {digits, grouped(digits), grouped(digits).replace(" ", "-"), digits[::-1]}
        assert not [spelling for spelling in spellings if spelling in dump]
        assert hashlib.sha256(digits.encode()).hexdigest() not in dump
    assert token not in dump
    texts = {
        text
        for name in table_names.values()
        for item in client.scan(TableName=name)["Items"]
        for text in _strings(item)
        if text
    }
    assert len(texts) > 100
    for n, text in enumerate(sorted(texts)):
        visit = world.visit(text, "0090330000ee", f"source {n}", token=text)
        assert demo.EXPERT_LINES[0] not in devices.update_script(visit, NOW)
    assert is_redeemed(told["user1"], "0090330000ef")


def test_rollouts_and_entries_end_when_they_say() -> None:
    """Ninety days to issue in, ninety more to look at it."""
    rollout = world.make_rollout(["user1"])
    assert rollout.ends_at == NOW + timedelta(days=90)
    assert rollout.purge_at == world.entry(rollout, "user1").purge_at == NOW + timedelta(days=180)
    assert replace(rollout, created_at=NOW + timedelta(days=1)).ends_at > rollout.ends_at


def test_a_state_is_listed_page_by_page() -> None:
    """Each entry once, also where the states are told apart by the end of their codes."""
    sips = world.staff(5)
    rollout = world.make_rollout(sips)
    assert sorted(shown(rollout, PENDING)) == sips
    assert sorted(shown(rollout, EXPIRED, WEEK)) == sips
