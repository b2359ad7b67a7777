"""Analogue phones at the interfaces of a gateway: a phone's promises, and what is their own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chalicelib.core.codes import State as CodeState
from chalicelib.core.codes import read_entry
from chalicelib.core.devices import Device, State, hw_id_at
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    ConflictError,
    DeviceElsewhereError,
    DialtoneError,
    InvalidRequestError,
    LimitReachedError,
    NotFoundError,
    NotSignedInError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.core.jobs import Fit
from chalicelib.core.rollouts import State as EntryState
from chalicelib.roles import analogue_phones, assignments, devices, updates, users
from chalicelib.storage import audit, codes, holdings
from chalicelib.storage import devices as device_table
from tests import faults, world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

GATEWAY = "009033460af2"
TEL1 = f"{GATEWAY}-TEL1"
DOMAIN = world.DOMAIN
OTHER = "other.example"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    world.seed()


def stored(hw_id: str) -> Device:
    """Read a device as it is now."""
    found = device_table.find(hw_id)
    assert found is not None
    return found


def gateway(sip: str = "user9", hw_id: str = GATEWAY, now: datetime = NOW) -> Device:
    """Register a gateway that is in use, and read it as its session has it."""
    token = world.redeem(world.issue(sip, now).digits, hw_id, now=now).token
    devices.update_script(world.visit(None, hw_id, token=token), now)
    return stored(hw_id)


def typed(
    at: Device,
    digits: str,
    interface: str = "TEL1",
    source: str = world.HOME,
    now: datetime = NOW,
) -> None:
    """Type a code on the analogue phone at an interface."""
    entry = read_entry(digits)
    assert entry is not None
    analogue_phones.register(at, interface, entry, source, now)


def attempt(
    at: Device,
    digits: str,
    interface: str = "TEL1",
    source: str = world.HOME,
    now: datetime = NOW,
) -> DialtoneError | None:
    """Type a code; tells why it was refused."""
    try:
        typed(at, digits, interface, source, now)
    except DialtoneError as error:
        return error
    return None


def phones(sip: str, domain: str = DOMAIN) -> list[str]:
    """List a person's phones."""
    return [phone.hw_id for phone in users.list_phones(world.person(sip, domain), 10, None)[0]]


def interfaces(at: Device) -> list[str]:
    """List the interfaces that have a phone."""
    return [phone.interface for phone in analogue_phones.list_at(at)]


def trail(action: str, domain: str = DOMAIN, now: datetime = NOW) -> list[audit.Entry]:
    """List what the trail of a domain says of an action, newest first."""
    every = audit.list_month(domain, f"{now:%Y-%m}", 100, None).items
    return [entry for entry in every if entry.action == action]


def test_a_code_typed_at_an_interface_registers_its_phone() -> None:
    """In domain and category, on its user's list, up to date at once, and never stuck."""
    at, issued = gateway(), world.issue()
    typed(at, issued.digits)
    phone = stored(TEL1)
    assert (phone.gateway, phone.interface) == (GATEWAY, "TEL1")
    assert (phone.domain, phone.category, phone.user) == (DOMAIN, "Office", "user1")
    assert (phone.state, phone.product, phone.code_id) == (
        State.CURRENT,
        at.product,
        issued.code.code_id,
    )
    assert phone.stuck_since(NOW + 365 * DAY) is None
    code = world.stored(issued.code)
    assert (code.state, code.hw_id) == (CodeState.REDEEMED, TEL1)
    assert (phones("user1"), interfaces(at)) == ([TEL1], ["TEL1"])
    (entry,) = [one for one in trail("code redeemed") if one.actor == TEL1]
    assert (entry.subject, entry.owner, entry.source) == (
        issued.code.code_id,
        "user1",
        world.HOME,
    )
    assert stored(GATEWAY) == at


def test_it_costs_what_any_phone_costs() -> None:
    """Reserve, look up, write, refund; and its gateway's list is one read and one of devices."""
    at, issued = gateway(), world.issue()
    with world.calls() as made:
        typed(at, issued.digits)
    assert len(made) <= 4
    with world.calls() as made:
        assert interfaces(at) == ["TEL1"]
    assert made == ["Query", "BatchGetItem"]


def test_it_has_no_token_that_anybody_could_use() -> None:
    """Not even an empty one."""
    at = gateway()
    typed(at, world.issue().digits)
    for token in ("", "guess"):
        with pytest.raises(NotSignedInError):
            devices.jobs_of(TEL1, token, NOW)


def test_it_gets_no_jobs_and_is_told_so() -> None:
    """Those of its category are for others; what is explained is what it gets."""
    at = gateway()
    typed(at, world.issue().digits)
    explained = updates.explain(world.admin(), DOMAIN, TEL1, None)
    assert {told.verdict.fit for told in explained} == {Fit.ANALOGUE_PHONE}
    assert {told.standing for told in explained} == {None}
    of_gateway = updates.explain(world.admin(), DOMAIN, GATEWAY, None)
    assert Fit.MATCHES in {told.verdict.fit for told in of_gateway}


def test_promise_1_one_code_is_redeemed_at_one_of_many_interfaces() -> None:
    """Typed at all interfaces of two gateways at once, it is redeemed at one of them."""
    ats = gateway(), gateway("user8", "009033460af3")
    issued = world.issue()
    places = [(at, f"TEL{n}") for at in ats for n in range(1, 9)]
    with ThreadPoolExecutor(len(places)) as pool:
        outcomes = list(
            pool.map(
                lambda n: attempt(places[n][0], issued.digits, places[n][1], f"192.0.2.{n + 10}"),
                range(len(places)),
            )
        )
    assert outcomes.count(None) == 1
    lost = [outcome for outcome in outcomes if isinstance(outcome, CodeNotRedeemableError)]
    assert len(lost) == len(places) - 1
    at, interface = places[outcomes.index(None)]
    code = world.stored(issued.code)
    assert code.hw_id == hw_id_at(at.hw_id, interface)
    assert phones("user1") == [code.hw_id]
    assert [interfaces(one) for one in ats].count([]) == 1


def test_phones_that_come_to_one_gateway_at_once_all_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each demands that the gateway is there, and waits for the others that do."""
    at = gateway()
    codes_ = [world.issue(f"user{n}").digits for n in range(1, 5)]
    with faults.conflicts(monkeypatch) as met, ThreadPoolExecutor(4) as pool:
        outcomes = list(
            pool.map(lambda n: attempt(at, codes_[n], f"TEL{n + 1}", f"192.0.2.{n + 10}"), range(4))
        )
    assert set(met) <= {"devices"}
    assert outcomes == [None] * 4
    assert interfaces(at) == ["TEL1", "TEL2", "TEL3", "TEL4"]


def test_promise_3_the_same_interface_may_repeat_its_code_for_an_hour() -> None:
    """The answer may have been lost; nobody else may, and nothing is registered twice."""
    at, issued = gateway(), world.issue()
    typed(at, issued.digits)
    first = stored(TEL1)
    for interface, source, why in (
        ("TEL1", "198.51.100.9", Refusal.REPEATED_ELSEWHERE),
        ("TEL2", world.HOME, Refusal.ALREADY_USED),
    ):
        refused = attempt(at, issued.digits, interface, source)
        assert isinstance(refused, CodeNotRedeemableError)
        assert refused.refusal is why
    own = users.find_code(world.person(), issued.code.code_id)
    assert own.code.reason == Refusal.REPEATED_ELSEWHERE
    assert attempt(at, issued.digits, now=NOW + timedelta(seconds=3599)) is None
    assert stored(TEL1) == first
    late = attempt(at, issued.digits, now=NOW + timedelta(seconds=3600))
    assert isinstance(late, CodeNotRedeemableError)


def test_promise_3_an_interface_may_repeat_when_its_source_has_nothing_left() -> None:
    """Ten wrong codes are enough for a source, of all phones behind it; a repeat is not charged."""
    at, issued, other = gateway(), world.issue(), world.issue("user2")
    typed(at, issued.digits)
    for _ in range(10):
        assert isinstance(attempt(at, "000000000000", "TEL2"), CodeNotRedeemableError)
    assert isinstance(attempt(at, other.digits, "TEL2"), LimitReachedError)
    assert attempt(at, issued.digits) is None
    with pytest.raises(LimitReachedError):
        world.redeem(other.digits)


@pytest.mark.parametrize(("seconds", "is_good"), [(599, True), (600, False), (601, False)])
def test_promise_2_a_code_ends_after_ten_minutes(seconds: int, is_good: bool) -> None:
    """By the server's clock."""
    at, issued = gateway(), world.issue()
    outcome = attempt(at, issued.digits, now=NOW + timedelta(seconds=seconds))
    if is_good:
        assert outcome is None
    else:
        assert isinstance(outcome, CodeNotRedeemableError)
        assert outcome.refusal is Refusal.EXPIRED
        assert device_table.find(TEL1) is None


def test_promise_5_what_cannot_be_redeemed_has_one_answer() -> None:
    """Unknown, malformed, revoked, used, and one of a foreign installation."""
    at, revoked, used, foreign = gateway(), world.issue(), world.issue("user2"), world.issue()
    users.revoke_code(world.asking(), revoked.code.code_id)
    world.redeem(used.digits, "0090330000aa", "198.51.100.1")
    codes.CodeItem.of(replace(foreign.code, domain="", owner="")).save()
    typed_codes = ("000000000000", "12345", revoked.digits, used.digits, foreign.digits)
    outcomes = [attempt(at, digits) for digits in typed_codes]
    assert {(type(outcome), str(outcome)) for outcome in outcomes} == {
        (CodeNotRedeemableError, "the code cannot be redeemed")
    }
    assert device_table.find(TEL1) is None


@pytest.mark.parametrize("interface", ["", "TEL 1", "TEL#1", "TEL-1", "TÉL1", "T" * 17, "TEL1\n"])
def test_what_can_be_no_interface_costs_nothing(interface: str) -> None:
    """It never becomes part of a key; the code stays good."""
    at, issued = gateway(), world.issue()
    with world.calls() as made:
        assert isinstance(attempt(at, issued.digits, interface), InvalidRequestError)
    assert made == []
    assert attempt(at, issued.digits, "T" * 16) is None


def test_promise_9_a_code_of_another_domain_is_refused_and_told_there() -> None:
    """To its owner and in that domain's trail; it stays good, and the attempt was charged."""
    at = gateway()
    issued = users.issue_code(world.asking("vera", domain=OTHER), "Sales")
    for n in range(10):
        refused = attempt(at, issued.digits, f"TEL{n}")
        assert isinstance(refused, CodeNotRedeemableError)
        assert refused.refusal is Refusal.CODE_OF_ANOTHER_DOMAIN
    assert isinstance(attempt(at, issued.digits), LimitReachedError)
    told = trail("code refused", OTHER)
    assert {entry.actor for entry in told} == {f"{GATEWAY}-TEL{n}" for n in range(10)}
    assert {(entry.subject, entry.detail, entry.owner) for entry in told} == {
        (issued.code.code_id, Refusal.CODE_OF_ANOTHER_DOMAIN, "vera")
    }
    own = users.find_code(world.person("vera", OTHER), issued.code.code_id)
    assert own.code.reason == Refusal.CODE_OF_ANOTHER_DOMAIN
    assert (interfaces(at), trail("code refused")) == ([], [])
    assert world.redeem(issued.digits, source="198.51.100.3").device.domain == OTHER


def test_promise_9_not_even_a_repeat_is_taken_in_another_domain() -> None:
    """Whatever the gateway's interface redeemed while it was in the one before."""
    at, issued = gateway(), world.issue()
    typed(at, issued.digits)
    refused = attempt(replace(at, domain=OTHER), issued.digits)
    assert isinstance(refused, CodeNotRedeemableError)


def test_promise_9_ones_own_code_takes_over_no_phone_at_an_interface() -> None:
    """Not after days, either, for it has no token that could stay unused; a rollout's code does."""
    at = gateway()
    typed(at, world.issue().digits)
    later = NOW + 2 * DAY
    mine = world.issue("user2", later)
    refused = attempt(at, mine.digits, now=later)
    assert isinstance(refused, DeviceElsewhereError)
    assert refused.refusal is Refusal.DEVICE_OF_ANOTHER_USER
    assert (phones("user1"), phones("user2")) == ([TEL1], [])
    own = users.find_code(world.person("user2"), mine.code.code_id)
    assert own.code.reason == Refusal.DEVICE_OF_ANOTHER_USER
    typed(at, world.issue_rollout(later).digits, now=later)
    assert (phones("user1"), phones("user2")) == ([], [TEL1])
    assert interfaces(at) == ["TEL1"]
    assert trail("code redeemed", now=later)[0].detail == "from user1"


def test_its_user_may_register_it_anew_and_keeps_its_name() -> None:
    """As any phone's user."""
    at = gateway()
    typed(at, world.issue().digits)
    assignments.change(world.admin(), DOMAIN, TEL1, "Hall", None)
    typed(at, world.issue(category="Reception").digits)
    phone = stored(TEL1)
    assert (phone.name, phone.category) == ("Hall", "Reception")
    typed(at, world.issue_rollout().digits)
    assert stored(TEL1).name == ""


def test_a_rollouts_entry_is_registered() -> None:
    """With the phone's hardware id, in the same transaction."""
    at = gateway()
    world.hire("clerk")
    rollout = world.make_rollout(["clerk"])
    typed(at, world.told(rollout)["clerk"])
    entry = world.entry(rollout, "clerk")
    assert (entry.state, entry.hw_id) == (EntryState.REGISTERED, TEL1)
    assert stored(TEL1).rollout_id == rollout.rollout_id


def test_interfaces_are_listed_as_people_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across pages; of this gateway alone."""
    monkeypatch.setattr(holdings, "_MAX_PAGE", 1)
    at, other = gateway(), gateway("user8", "009033460af3")
    for n, interface in enumerate(("TEL10", "TEL2", "TEL1"), 1):
        typed(at, world.issue(f"user{n}").digits, interface)
    typed(other, world.issue("user4").digits, "TEL3")
    assert interfaces(at) == ["TEL1", "TEL2", "TEL10"]
    assert interfaces(other) == ["TEL3"]


def remover(subject: str = GATEWAY) -> audit.Entry:
    """Make what a Users instance writes down."""
    return audit.Entry(DOMAIN, NOW, "device removed", "users (a)", subject, world.HOME)


def test_a_removed_phone_is_forgotten_and_may_come_again() -> None:
    """Its old code brings it back no more; a new one does, anybody's."""
    at, issued = gateway(), world.issue()
    typed(at, issued.digits)
    analogue_phones.remove(at, "TEL1", remover())
    assert device_table.find(TEL1) is None
    assert (phones("user1"), interfaces(at)) == ([], [])
    (entry,) = trail("device removed")
    assert (entry.actor, entry.subject, entry.owner) == ("users (a)", TEL1, "user1")
    assert isinstance(attempt(at, issued.digits), CodeNotRedeemableError)
    with pytest.raises(NotFoundError):
        analogue_phones.remove(at, "TEL1", remover())
    typed(at, world.issue("user2").digits)
    assert (phones("user2"), interfaces(at)) == ([TEL1], ["TEL1"])


def test_only_the_phones_of_a_gateway_are_removed() -> None:
    """Not those that are released, or that it left in another domain."""
    at = gateway()
    typed(at, world.issue().digits)
    with pytest.raises(NotFoundError):
        analogue_phones.remove(replace(at, domain=OTHER), "TEL1", remover())
    users.release_phone(world.asking(), TEL1)
    with pytest.raises(NotFoundError):
        analogue_phones.remove(replace(at, domain=""), "TEL1", remover())


def test_a_phone_that_changes_hands_while_it_is_removed_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of its new registration is undone."""
    at, again = gateway(), world.issue()
    typed(at, world.issue().digits)
    with (
        faults.meanwhile(monkeypatch, "TransactWriteItems", lambda: typed(at, again.digits)),
        pytest.raises(ConflictError),
    ):
        analogue_phones.remove(at, "TEL1", remover())
    assert (phones("user1"), interfaces(at)) == ([TEL1], ["TEL1"])


def test_its_user_gives_it_up() -> None:
    """By its hardware id; it is at no interface then, and its code does not bring it back."""
    at, issued = gateway(), world.issue()
    typed(at, issued.digits)
    with pytest.raises(NotFoundError):
        users.release_phone(world.asking("user2"), TEL1)
    users.release_phone(world.asking(), TEL1)
    assert (phones("user1"), interfaces(at)) == ([], [])
    assert stored(TEL1).state is State.RELEASED
    assert isinstance(attempt(at, issued.digits), CodeNotRedeemableError)
    typed(at, world.issue("user2").digits)
    assert (phones("user2"), interfaces(at)) == ([TEL1], ["TEL1"])


def test_a_phone_takes_its_place() -> None:
    """An administrator replaces it by one that is none; the interface is free."""
    at = gateway()
    typed(at, world.issue().digits)
    made = assignments.put_in_place(world.admin(), DOMAIN, TEL1, "0090330000ee")
    assert made.issued is not None
    assert (made.device.user, interfaces(at)) == ("user1", [])
    world.redeem(made.issued.digits, "0090330000ee")
    assert phones("user1") == ["0090330000ee"]


ENDS: list[Callable[[], object]] = [
    lambda: assignments.release(world.admin(), DOMAIN, GATEWAY),
    lambda: assignments.remove(world.admin(), DOMAIN, GATEWAY),
    lambda: assignments.put_in_place(world.admin(), DOMAIN, GATEWAY, "0090330000ee"),
    lambda: users.release_phone(world.asking("user9"), GATEWAY),
]


@pytest.mark.parametrize("end", ENDS)
def test_with_a_gateway_go_its_phones(end: Callable[[], object]) -> None:
    """From every list, each with its entry in the trail; and whoever gets it next begins anew."""
    at = gateway()
    typed(at, world.issue().digits)
    typed(at, world.issue("user2").digits, "TEL2")
    end()
    assert (phones("user1"), phones("user2"), interfaces(at)) == ([], [], [])
    released = {
        (one.subject, one.owner)
        for one in trail("device released")
        if one.detail == "with its gateway"
    }
    assert released == {(TEL1, "user1"), (f"{GATEWAY}-TEL2", "user2")}
    assert isinstance(attempt(at, world.issue().digits), NotSignedInError)
    again = gateway()
    typed(again, world.issue("user3").digits)
    assert (phones("user3"), interfaces(again)) == ([TEL1], ["TEL1"])


@pytest.mark.parametrize("end", ENDS)
def test_a_phone_that_comes_while_its_gateway_goes_goes_too(
    end: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was registered after the others were released, and before the gateway was."""
    at, issued = gateway(), world.issue()
    with faults.meanwhile(monkeypatch, "TransactWriteItems", lambda: typed(at, issued.digits)):
        end()
    assert world.stored(issued.code).state is CodeState.REDEEMED
    assert (phones("user1"), interfaces(at)) == ([], [])


@pytest.mark.parametrize("end", ENDS)
def test_promise_1_no_phone_comes_to_a_gateway_that_goes_at_this_moment(
    end: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading and writing: nothing is registered, and the code stays good."""
    at, issued = gateway(), world.issue()
    with faults.meanwhile(monkeypatch, "TransactWriteItems", end):
        assert isinstance(attempt(at, issued.digits), NotSignedInError)
    assert device_table.find(TEL1) is None
    assert world.stored(issued.code).state is CodeState.PENDING
    assert world.redeem(issued.digits).device.user == "user1"


def test_a_gateway_that_was_registered_anew_must_prove_that_it_is_there() -> None:
    """What its session read before does not count any more."""
    before = gateway()
    after = gateway(now=NOW + timedelta(seconds=1))
    issued = world.issue()
    assert isinstance(attempt(before, issued.digits), NotSignedInError)
    assert attempt(after, issued.digits) is None


def test_a_gateways_phones_stay_when_it_is_registered_anew_in_its_domain() -> None:
    """It may have lost its memory; the phones at it are the same."""
    typed(gateway(), world.issue().digits)
    after = gateway(now=NOW + timedelta(seconds=1))
    assert (phones("user1"), interfaces(after)) == ([TEL1], ["TEL1"])


def test_who_is_interrupted_lets_a_gateway_go_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some phones are released, the gateway is still there, and the same call goes on."""
    at = gateway()
    for n in (1, 2):
        typed(at, world.issue(f"user{n}").digits, f"TEL{n}")
    with (
        faults.failing(monkeypatch, "TransactWriteItems", faults.timeout(), spare=1),
        pytest.raises(StoreUnavailableError),
    ):
        assignments.release(world.admin(), DOMAIN, GATEWAY)
    assert (interfaces(at), stored(GATEWAY).domain) == (["TEL2"], DOMAIN)
    assignments.release(world.admin(), DOMAIN, GATEWAY)
    assert (interfaces(at), stored(GATEWAY).domain) == ([], "")


def test_a_phone_that_is_given_up_while_its_gateway_goes_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its user was first."""
    at = gateway()
    typed(at, world.issue().digits)

    def give_up() -> None:
        users.release_phone(world.asking(), TEL1)

    with faults.meanwhile(monkeypatch, "TransactWriteItems", give_up):
        assignments.release(world.admin(), DOMAIN, GATEWAY)
    assert (interfaces(at), stored(GATEWAY).domain) == ([], "")
    assert [one.actor for one in trail("device released") if one.subject == TEL1] == ["user1"]


def test_a_gateway_that_another_domain_took_keeps_no_phone_of_the_one_before() -> None:
    """It never came back, so it was free; what it left is none of its phones, and stops none."""
    world.redeem(world.issue("user9").digits, GATEWAY)
    typed(stored(GATEWAY), world.issue().digits)
    later = NOW + DAY
    code = world.issue_rollout(later, "vera", OTHER, "Sales")
    world.redeem(code.digits, GATEWAY, "198.51.100.3", later)
    at = stored(GATEWAY)
    assert (at.domain, interfaces(at), phones("user1")) == (OTHER, [], [TEL1])
    mine = users.issue_code(world.asking("vera", later, OTHER), "Sales")
    typed(at, mine.digits, now=later)
    assert (phones("vera", OTHER), interfaces(at)) == ([GATEWAY, TEL1], ["TEL1"])
    assert phones("user1") == []
    left = {(one.subject, one.owner) for one in trail("device left", now=later)}
    assert left == {(GATEWAY, "user9"), (TEL1, "user1")}
