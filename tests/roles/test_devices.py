from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chalicelib.core import jobs as job_rules
from chalicelib.core.codes import read_entry
from chalicelib.core.devices import Device, Facts, Failure, State
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    LimitReachedError,
    NotFoundError,
    NotSignedInError,
    StoreUnavailableError,
)
from chalicelib.roles import devices, users
from chalicelib.storage import codes, connection, redemptions
from chalicelib.storage import devices as device_table
from chalicelib.storage import jobs as job_table
from chalicelib.storage.ids import new_id
from local import demo
from tests import faults, world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
STUCK_SECONDS = job_rules.STUCK_POLLS * 15 * 60
FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def device() -> Device:
    """Read the phone of these tests."""
    found = device_table.find(world.HW_ID)
    assert found is not None
    return found


def poll(token: str, facts: Facts = world.FACTS, seconds: int = 60) -> str:
    """Let the phone poll with its token."""
    return devices.update_script(
        world.visit(None, token=token, facts=facts), NOW + timedelta(seconds=seconds)
    )


def done_facts() -> Facts:
    """Tell what a phone reports that has run everything."""
    plan = job_rules.plan_for(
        "example.com", "Office", job_table.find_matching("example.com", "Office")
    )
    check = job_rules.serial_of(device().registration_id, plan)
    return replace(world.FACTS, prot=demo.FIRMWARE_BUILD, boot=demo.BOOT_BUILD, check=check)


def test_a_phone_goes_from_registered_over_updating_to_current() -> None:
    """Its state is what it reports, not what was sent to it."""
    token = world.redeem(world.issue().digits).token
    assert device().state is State.REGISTERED
    assert demo.EXPERT_LINES[0] in poll(token)
    assert device().state is State.UPDATING
    assert device().token_used_at is not None
    assert poll(token, done_facts()) == "# dialtone: nothing to do\r\n"
    assert device().state is State.CURRENT
    assert (device().prot, device().boot) == (demo.FIRMWARE_BUILD, demo.BOOT_BUILD)


def test_a_newer_job_changes_what_the_next_poll_brings_once() -> None:
    """Only the new job's lines come, until the phone confirms them."""
    token = world.redeem(world.issue().digits).token
    poll(token, done_facts())
    at = NOW + timedelta(hours=1)
    job_table.put(
        job_rules.Job(new_id(at), "example.com", "*", "update-client", {"poll_minutes": 7}, at)
    )
    before = replace(done_facts(), check="of-before")
    script = poll(token, before)
    assert "config add UP1 /poll 7" in script
    assert demo.EXPERT_LINES[0] not in script
    assert device().state is State.UPDATING
    assert poll(token, done_facts()) == "# dialtone: nothing to do\r\n"


def test_a_phone_that_never_finishes_is_stuck_after_three_polls() -> None:
    """From what it reports; an end of it makes it unstuck."""
    token = world.redeem(world.issue().digits).token
    poll(token, seconds=60)
    assert device().stuck_since(NOW + timedelta(seconds=60)) is None
    poll(token, seconds=STUCK_SECONDS + 61)
    assert device().stuck_since(NOW + timedelta(seconds=STUCK_SECONDS + 61)) == NOW + timedelta(
        seconds=STUCK_SECONDS
    )
    poll(token, done_facts(), seconds=STUCK_SECONDS + 120)
    assert device().stuck_since(NOW + timedelta(seconds=60)) is None


def test_a_phone_that_never_comes_back_is_stuck_too() -> None:
    """Three polls after it registered, and not before; its return heals it."""
    token = world.redeem(world.issue().digits).token
    stuck_at = NOW + timedelta(seconds=STUCK_SECONDS)
    assert device().stuck_since(stuck_at) is None
    assert device().stuck_since(stuck_at + timedelta(seconds=1)) == stuck_at
    poll(token, done_facts(), seconds=STUCK_SECONDS + 60)
    assert device().stuck_since(stuck_at + timedelta(days=30)) is None


def test_a_valid_token_wins_and_a_code_beside_it_is_not_charged() -> None:
    """The code that a phone still sends is ignored once it has its token."""
    first = world.issue()
    token = world.redeem(first.digits).token
    with world.calls() as made:
        for n in range(12):
            script = devices.update_script(world.visit(f"{n:012d}", token=token), NOW)
            assert demo.EXPERT_LINES[0] in script
    assert made.count("UpdateItem") <= 1


def test_a_dead_token_costs_nothing_and_shows_the_form() -> None:
    """A released phone is asked for a code, as often as it polls."""
    token = world.redeem(world.issue().digits).token
    poll(token)
    users.release_phone(world.asking(), world.HW_ID)
    for _ in range(12):
        assert FORM in poll(token)
    assert device().state is State.RELEASED
    again = world.issue()
    script = devices.update_script(world.visit(again.digits, token=token), NOW)
    assert demo.EXPERT_LINES[0] in script
    assert device().user == "user1"


def test_a_phone_without_token_and_code_sees_the_form() -> None:
    """No call is made for it."""
    with world.calls() as made:
        assert FORM in devices.update_script(world.visit(None), NOW)
    assert made == []


def test_a_phone_released_while_it_reports_sees_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reports is not written over the release."""
    token = world.redeem(world.issue().digits).token
    poll(token)
    seen = device()
    users.release_phone(world.asking(), world.HW_ID)
    with monkeypatch.context() as patch:
        patch.setattr(device_table, "find", lambda _: seen)
        assert FORM in poll(token, done_facts())
    assert device().state is State.RELEASED


def test_another_kind_of_phone_takes_its_jobs_and_reports_them() -> None:
    """Done confirms, failed keeps the reason, and the next report heals it."""
    token = world.redeem(world.issue().digits).token
    plan = devices.jobs_of(world.HW_ID, token, NOW)
    assert device().state is State.UPDATING
    assert len(plan.jobs) == 3
    first = plan.jobs[0].job_id
    failed, done = devices.Outcome.FAILED, devices.Outcome.DONE
    devices.report_job(world.HW_ID, token, devices.Report(first, failed, "flash is full"), NOW)
    assert device().failures == {first: Failure(1, NOW, "flash is full")}
    devices.report_job(world.HW_ID, token, devices.Report(first, failed), NOW)
    assert device().failures == {first: Failure(2, NOW, "no reason given")}
    for job in plan.jobs:
        devices.report_job(world.HW_ID, token, devices.Report(job.job_id, done), NOW)
    assert device().failures == {}
    assert device().state is State.CURRENT
    with pytest.raises(NotFoundError):
        devices.report_job(world.HW_ID, token, devices.Report("01NONE", done), NOW)
    for hw_id, presented in ((world.HW_ID, "guess"), ("0090330000ee", token)):
        with pytest.raises(NotSignedInError):
            devices.jobs_of(hw_id, presented, NOW)


def test_a_phone_whose_answer_was_lost_repeats_and_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction commits, the network dies: the phone keeps its code, comes back, is in."""
    issued = world.issue()
    lost = [faults.timeout()]
    with (
        faults.failing(monkeypatch, "TransactWriteItems", *lost, after_commit=True),
        pytest.raises(StoreUnavailableError),
    ):
        world.redeem(issued.digits)
    assert world.redeem(issued.digits).device.user == "user1"


@pytest.mark.parametrize("operation", ["UpdateItem", "BatchGetItem", "TransactWriteItems"])
def test_a_store_that_is_down_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Whichever call fails before its commit, the code is still good."""
    issued = world.issue()
    with (
        faults.failing(monkeypatch, operation, faults.timeout()),
        pytest.raises(StoreUnavailableError),
    ):
        world.redeem(issued.digits)
    assert world.redeem(issued.digits).device.user == "user1"


def test_a_refund_that_fails_costs_an_attempt_and_no_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phone is registered all the same."""
    issued = world.issue()
    with faults.failing(monkeypatch, "UpdateItem", faults.timeout(), spare=1) as to_come:
        assert world.redeem(issued.digits).device.user == "user1"
    assert to_come == []


def test_a_refusal_that_cannot_be_recorded_is_still_the_same_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the phone hears does not depend on the audit trail."""
    issued = world.issue()
    users.revoke_code(world.asking(), issued.code.code_id)
    with (
        faults.failing(monkeypatch, "TransactWriteItems", faults.timeout()),
        pytest.raises(CodeNotRedeemableError),
    ):
        world.redeem(issued.digits)


def test_a_code_that_ttl_takes_while_it_is_refused_is_the_same_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is nobody left to tell, and the phone hears what everybody hears."""
    issued = world.issue()
    late = NOW + timedelta(seconds=601)
    real = redemptions.read

    def read_then_lose(prints: list[str], hw_id: str) -> object:
        found = real(prints, hw_id)
        codes.CodeItem(issued.code.fingerprint).delete()
        return found

    monkeypatch.setattr(redemptions, "read", read_then_lose)
    assert FORM in devices.update_script(world.visit(issued.digits), late)


def test_a_device_that_changes_all_the_time_is_asked_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After three lost races the phone keeps its code and tries later."""
    issued = world.issue()

    def beaten(*_: object, **__: object) -> None:
        raise connection.Refused({"device": None})

    monkeypatch.setattr(redemptions, "write", beaten)
    with pytest.raises(StoreUnavailableError):
        world.redeem(issued.digits)


def test_conflicts_between_transactions_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One to five conflicts in a row are nobody's trouble; six are."""
    conflict = faults.client_error(
        "TransactionCanceledException", "TransactWriteItems", ["TransactionConflict", "None"]
    )
    issued = world.issue()
    with faults.failing(monkeypatch, "TransactWriteItems", *[conflict] * 5):
        assert world.redeem(issued.digits).device.user == "user1"
    issued = world.issue("user2")
    with (
        faults.failing(monkeypatch, "TransactWriteItems", *[conflict] * 6),
        pytest.raises(StoreUnavailableError),
    ):
        world.redeem(issued.digits, "0090330000f1", "203.0.113.9")
    assert world.redeem(issued.digits, "0090330000f1", "203.0.113.9").device.user == "user2"


def test_a_phone_in_use_registers_again_with_a_new_code_of_its_user() -> None:
    """Factory-reset: a new registration, a new token, and the old one is dead."""
    old = world.redeem(world.issue().digits).token
    poll(old, done_facts())
    new = world.redeem(world.issue(category="Reception").digits)
    assert new.token != old
    assert (new.device.category, new.device.confirmed) == ("Reception", {})
    assert FORM in poll(old)


def test_a_code_without_a_user_registers_a_phone_of_the_domain() -> None:
    """A Users instance may ask for one: the phone is nobody's, and in nobody's list."""
    issued = world.issue_rollout(owner="user2")
    codes.CodeItem.of(replace(issued.code, owner="", rollout_id="")).save()
    assert world.redeem(issued.digits).device.user == ""
    assert users.list_phones(world.person("user2"), 10, None) == ([], None)


def spent() -> int:
    """Tell how many attempts the home source has spent."""
    item = connection.call(
        "GetItem",
        TableName=connection.table_name("limits"),
        Key={"bucket": {"S": f"guesses#{world.HOME}"}},
        ConsistentRead=True,
    ).get("Item", {"arrival_ms": {"N": "0"}})
    left_ms = int(item["arrival_ms"]["N"]) - int(NOW.timestamp() * 1000)
    return max(0, left_ms // 60_000)


def test_a_code_that_this_very_phone_redeemed_is_never_charged() -> None:
    """A phone that polls with its stale code does not lock its neighbours out."""
    issued = world.issue()
    token = world.redeem(issued.digits).token
    poll(token, seconds=0)
    for _ in range(12):
        assert FORM in devices.update_script(world.visit(issued.digits), NOW)
    assert spent() == 0
    assert FORM in devices.update_script(world.visit(issued.digits, "0090330000f2"), NOW)
    assert spent() == 1


def test_a_good_code_that_meets_a_store_in_trouble_is_not_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an outage the phone's code is good, and so is its source."""
    issued = world.issue()
    down = [faults.timeout() for _ in range(12)]
    with faults.failing(monkeypatch, "TransactWriteItems", *down):
        for _ in range(12):
            with pytest.raises(StoreUnavailableError):
                world.redeem(issued.digits)
    assert spent() == 0
    assert world.redeem(issued.digits).device.user == "user1"


def test_a_phone_whose_own_redemption_is_half_seen_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch read is no snapshot: the code may be redeemed, and the device not there yet."""
    issued = world.issue()
    first = world.redeem(issued.digits)
    real = redemptions.read
    monkeypatch.setattr(redemptions, "read", lambda *keys: (real(*keys)[0], None))
    assert world.redeem(issued.digits).token == first.token


def test_a_stranger_behind_a_full_bucket_learns_nothing_of_a_used_code() -> None:
    """The right code of somebody else's phone, from elsewhere, is limited like any other."""
    issued = world.issue()
    world.redeem(issued.digits, source="198.51.100.1")
    for _ in range(10):
        devices.update_script(world.visit("000000000000"), NOW)
    for typed in ("000000000000", issued.digits):
        with pytest.raises(LimitReachedError):
            devices.update_script(world.visit(typed), NOW)


def test_a_device_released_while_it_asks_gets_no_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its token is dead when the answer would leave."""
    token = world.redeem(world.issue().digits).token
    seen = device()
    users.release_phone(world.asking(), world.HW_ID)
    monkeypatch.setattr(device_table, "find", lambda _: seen)
    with pytest.raises(NotSignedInError):
        devices.jobs_of(world.HW_ID, token, NOW)
    plan = job_rules.plan_for(
        "example.com", "Office", job_table.find_matching("example.com", "Office")
    )
    report = devices.Report(plan.jobs[0].job_id, devices.Outcome.DONE)
    with pytest.raises(NotSignedInError):
        devices.report_job(world.HW_ID, token, report, NOW)


def test_a_name_stays_with_its_owner_and_goes_with_a_release() -> None:
    """The next one does not read what the last one called it."""
    named = replace(world.FACTS, name="Dr Meier, ward 3")

    def register(sip: str, facts: Facts, now: datetime = NOW) -> str:
        entry = read_entry(world.issue(sip, now).digits)
        assert entry is not None
        made = devices.Visit(world.HW_ID, facts, entry, None, world.HOME, world.UPDATE_URL)
        return devices.register(made, entry, now).device.name

    assert register("user1", named) == "Dr Meier, ward 3"
    assert register("user1", world.FACTS) == "Dr Meier, ward 3"
    assert register("user2", world.FACTS, NOW + timedelta(days=1)) == ""
    assert register("user2", named, NOW + timedelta(days=1)) == "Dr Meier, ward 3"
    users.release_phone(world.asking("user2"), world.HW_ID)
    assert device().name == ""


def test_a_poll_is_answered_although_its_user_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The state is kept; that a page hears of it at once is not worth a phone's script."""
    made = world.redeem(world.issue().digits)
    with faults.failing(monkeypatch, "PutItem", faults.timeout()) as left:
        devices.update_script(world.visit(None, token=made.token), NOW)
    assert left == []
    known = device_table.find(world.HW_ID)
    assert known is not None
    assert known.state is State.UPDATING
