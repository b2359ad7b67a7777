"""The promises of the design that redeeming keeps, each broken on purpose as far as one can."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.core.codes import Lifetime, State
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    DeviceElsewhereError,
    LimitReachedError,
    NotSignedInError,
    Refusal,
)
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles import (
    devices,
    domains,
    installations,
    registrations,
    security_tokens,
    updates,
    users,
)
from chalicelib.storage import audit, codes, connection
from chalicelib.storage import devices as device_table
from chalicelib.storage import domains as domain_table
from local import demo
from tests import world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

PHONES = 50


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


def _attempt(digits: str, hw_id: str, source: str, now: datetime = NOW) -> Any:  # noqa: ANN401 - an outcome
    try:
        return world.redeem(digits, hw_id, source, now)
    except (CodeNotRedeemableError, DeviceElsewhereError, LimitReachedError) as error:
        return error


def test_promise_1_one_code_is_redeemed_by_one_of_fifty_phones() -> None:
    """Fifty phones from fifty sources try one code at once: one wins, 49 get the same refusal."""
    issued = world.issue()
    with ThreadPoolExecutor(PHONES) as pool:
        outcomes = list(
            pool.map(
                lambda n: _attempt(issued.digits, f"0090330001{n:02x}", f"192.0.2.{n}"),
                range(PHONES),
            )
        )
    winners = [outcome for outcome in outcomes if isinstance(outcome, registrations.Registration)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, CodeNotRedeemableError)]
    assert (len(winners), len(losers)) == (1, PHONES - 1)
    code = world.stored(issued.code)
    assert (code.state, code.hw_id) == (State.REDEEMED, winners[0].device.hw_id)
    phones, _ = users.list_phones(world.person(), 100, None)
    assert [phone.hw_id for phone in phones] == [winners[0].device.hw_id]
    again = world.redeem(issued.digits, code.hw_id, code.redeemed_from)
    assert again.token == winners[0].token


def test_promise_1_one_phone_that_asks_many_times_at_once_registers_once() -> None:
    """A phone that repeats itself in parallel has one registration and one token."""
    issued = world.issue()
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(
            pool.map(lambda _: _attempt(issued.digits, world.HW_ID, world.HOME), range(8))
        )
    tokens = {outcome.token for outcome in outcomes}
    assert len(tokens) == 1


def test_promise_1_two_codes_race_for_one_phone() -> None:
    """A phone that redeems two codes of its user at once ends with one whole registration."""
    first, second = world.issue(), world.issue()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(
            pool.map(
                lambda digits: _attempt(digits, world.HW_ID, world.HOME),
                [first.digits, second.digits],
            )
        )
    device = device_table.find(world.HW_ID)
    assert device is not None
    winning = [outcome for outcome in outcomes if isinstance(outcome, registrations.Registration)]
    assert device.registration_id in {outcome.device.registration_id for outcome in winning}
    phones, _ = users.list_phones(world.person(), 10, None)
    assert [phone.hw_id for phone in phones] == [world.HW_ID]


@pytest.mark.parametrize("seconds", [599, 600, 601])
def test_promise_2_a_users_code_ends_after_ten_minutes(seconds: int) -> None:
    """By the server's clock a code is good at 599 s and refused at 600 s, deleted or not."""
    issued = world.issue()
    outcome = _attempt(issued.digits, world.HW_ID, world.HOME, NOW + timedelta(seconds=seconds))
    _assert_in_time(outcome, in_time=seconds < 600)
    assert world.stored(issued.code)


@pytest.mark.parametrize("seconds", [604_799, 604_800, 604_801])
def test_promise_2_a_rollouts_code_ends_after_seven_days(seconds: int) -> None:
    """By the server's clock a rollout's code is good for seven days less a second."""
    issued = world.issue_rollout()
    outcome = _attempt(issued.digits, world.HW_ID, world.HOME, NOW + timedelta(seconds=seconds))
    _assert_in_time(outcome, in_time=seconds < 604_800)


def _assert_in_time(outcome: object, *, in_time: bool) -> None:
    if in_time:
        assert isinstance(outcome, registrations.Registration)
    else:
        assert isinstance(outcome, CodeNotRedeemableError)
        assert outcome.refusal is Refusal.EXPIRED


def test_promise_2_a_code_that_expires_between_read_and_write_is_refused() -> None:
    """The write's own condition counts, not what was read before it."""
    issued = world.issue()
    transaction = connection.Transaction()
    codes.redeem(transaction, issued.code, world.HW_ID, world.HOME, issued.code.expires_at)
    with pytest.raises(connection.Refused) as refused:
        transaction.commit()
    assert set(refused.value.items) == {"code"}


def test_promise_3_the_same_phone_gets_its_first_answer_for_an_hour() -> None:
    """The answer may have been lost: the same phone from the same source gets it again."""
    issued = world.issue()
    first = world.redeem(issued.digits)
    again = world.redeem(issued.digits, now=NOW + timedelta(seconds=3599))
    assert again.token == first.token
    assert again.plan == first.plan
    too_late = _attempt(issued.digits, world.HW_ID, world.HOME, NOW + timedelta(seconds=3600))
    assert isinstance(too_late, CodeNotRedeemableError)


def test_promise_3_ends_with_the_first_use_of_the_token() -> None:
    """A phone that has used its token has had its answer."""
    issued = world.issue()
    token = world.redeem(issued.digits).token
    devices.update_script(world.visit(None, token=token), NOW)
    assert isinstance(_attempt(issued.digits, world.HW_ID, world.HOME), CodeNotRedeemableError)


def test_promise_3_a_repeat_from_elsewhere_is_refused_audited_and_shown(
    client: "DynamoDBClient",
    table_names: dict[str, str],
) -> None:
    """Somebody else with the same MAC and code gets nothing, and the owner sees that they tried."""
    issued = world.issue()
    world.redeem(issued.digits)
    elsewhere = _attempt(issued.digits, world.HW_ID, "198.51.100.9")
    assert isinstance(elsewhere, CodeNotRedeemableError)
    assert isinstance(
        _attempt(issued.digits, "0090330000ff", "198.51.100.9"), CodeNotRedeemableError
    )
    own = users.find_code(world.person(), issued.code.code_id)
    assert own.code.reason == Refusal.REPEATED_ELSEWHERE
    trail = client.scan(TableName=table_names["audit"])["Items"]
    refused = [item for item in trail if item["action"]["S"] == "code refused"]
    assert [(item["source"]["S"], item["detail"]["S"]) for item in refused] == [
        ("198.51.100.9", Refusal.REPEATED_ELSEWHERE),
        ("198.51.100.9", Refusal.ALREADY_USED),
    ]


def test_a_domain_hears_that_it_lost_a_phone() -> None:
    """That never came back and that another domain took: what, from where, and not to whom."""
    world.redeem(world.issue().digits)
    later = NOW + timedelta(days=2)
    code = world.issue_rollout(later, "vera", "other.example", "Sales")
    world.redeem(code.digits, source="198.51.100.9", now=later)
    (newest, *_) = audit.list_month(world.DOMAIN, f"{later:%Y-%m}", 10, None).items
    assert newest == audit.Entry(
        domain=world.DOMAIN,
        at=later,
        action="device left",
        actor=world.HW_ID,
        subject=world.HW_ID,
        source="198.51.100.9",
        owner="user1",
    )


def test_what_is_not_charged_does_not_fill_the_audit_trail() -> None:
    """A phone's own code, refused again and again, is written down once in ten minutes a source."""
    issued = world.issue()
    world.redeem(issued.digits)
    for source in ("198.51.100.9", "198.51.100.10"):
        for minute in range(15):
            now = NOW + timedelta(minutes=minute)
            outcome = _attempt(issued.digits, world.HW_ID, source, now)
            assert isinstance(outcome, CodeNotRedeemableError)
    trail = audit.list_month(world.DOMAIN, f"{NOW:%Y-%m}", 100, None).items
    refused = [(one.source, one.at - NOW) for one in trail if one.action == "code refused"]
    assert sorted(refused) == [
        (source, timedelta(minutes=minute))
        for source in ("198.51.100.10", "198.51.100.9")
        for minute in (0, 10)
    ]


def test_promise_3_a_source_that_has_nothing_left_may_still_repeat() -> None:
    """A code that this very phone redeemed is not charged, whoever else guesses behind its NAT."""
    issued = world.issue()
    first = world.redeem(issued.digits)
    for _ in range(12):
        _attempt("000000000000", "0090330000ff", world.HOME)
    assert isinstance(_attempt("000000000000", "0090330000ff", world.HOME), LimitReachedError)
    assert world.redeem(issued.digits).token == first.token


def test_promise_5_every_code_that_cannot_be_redeemed_gets_one_answer() -> None:
    """Unknown, malformed, expired, revoked and used codes look alike to a phone."""
    expired = world.issue(now=NOW - timedelta(hours=1))
    revoked = world.issue()
    users.revoke_code(world.asking(), revoked.code.code_id)
    used = world.issue()
    world.redeem(used.digits, "0090330000aa", "198.51.100.1")
    typed = ["000000000000", "12345", expired.digits, revoked.digits, used.digits]
    answers = {
        devices.update_script(world.visit(code, source=f"203.0.113.{n}"), NOW)
        for n, code in enumerate(typed)
    }
    assert len(answers) == 1
    assert "vars create UPDATE/PROVISIONING-CODE h prompt" in answers.pop()


def test_promise_8_configuration_goes_to_the_phones_own_token_alone() -> None:
    """A MAC alone, a wrong token, and another phone's token bring no line of configuration."""
    registration = world.redeem(world.issue().digits)
    other = world.redeem(world.issue("user2").digits, "0090330000bb", "198.51.100.2")
    secret_line = demo.EXPERT_LINES[0]
    for token in (None, "", "guess", other.token, registration.token[:-1]):
        script = devices.update_script(world.visit(None, token=token), NOW)
        assert secret_line not in script
    assert secret_line in devices.update_script(world.visit(None, token=registration.token), NOW)


def test_promise_8_tokens_have_more_than_128_bits() -> None:
    """A token is 256 bits of a keyed hash, different for each registration."""
    tokens = {
        world.redeem(world.issue(f"user{n}").digits, f"0090330000{n:02x}", f"203.0.113.{n}").token
        for n in range(1, 6)
    }
    assert len(tokens) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_promise_9_ones_own_code_takes_over_no_colleagues_phone() -> None:
    """A colleague's hw_id with one's own code changes nothing, and the code stays good."""
    token = world.redeem(world.issue("user1").digits).token
    devices.update_script(world.visit(None, token=token), NOW)
    mine = world.issue("user2")
    outcome = _attempt(mine.digits, world.HW_ID, "198.51.100.3")
    assert isinstance(outcome, DeviceElsewhereError)
    device = device_table.find(world.HW_ID)
    assert device is not None
    assert device.user == "user1"
    assert users.find_code(world.person("user2"), mine.code.code_id).code.reason == (
        Refusal.DEVICE_OF_ANOTHER_USER
    )
    assert world.redeem(mine.digits, "0090330000cc").device.user == "user2"


def test_promise_9_a_rollouts_code_moves_a_phone_within_the_domain() -> None:
    """An administrator's code gives a phone to another user, and the first one loses it."""
    world.redeem(world.issue("user1").digits)
    world.redeem(world.issue_rollout(owner="user2").digits, source="198.51.100.3")
    assert users.list_phones(world.person("user1"), 10, None)[0] == []
    assert [phone.hw_id for phone in users.list_phones(world.person("user2"), 10, None)[0]] == [
        world.HW_ID
    ]


def test_promise_9_another_domain_waits_for_release() -> None:
    """A device of another domain is refused until it is released there."""
    token = world.redeem(world.issue().digits).token
    devices.update_script(world.visit(None, token=token), NOW)
    other = world.issue_rollout(owner="vera", domain="other.example", category="Sales")
    later = NOW + timedelta(days=2)
    assert isinstance(
        _attempt(other.digits, world.HW_ID, "198.51.100.3", later), DeviceElsewhereError
    )
    users.release_phone(world.asking(now=later), world.HW_ID)
    taken = world.redeem(other.digits, source="198.51.100.3", now=later)
    assert taken.device.domain == "other.example"


@pytest.mark.parametrize(("seconds", "is_free"), [(86_399, False), (86_400, True)])
def test_promise_9_a_token_unused_for_a_day_counts_as_released(seconds: int, is_free: bool) -> None:
    """A phone that never came back with its token belongs to nobody after 24 hours."""
    world.redeem(world.issue().digits)
    later = NOW + timedelta(seconds=seconds)
    other = world.issue("user2", later)
    outcome = _attempt(other.digits, world.HW_ID, "198.51.100.3", later)
    assert isinstance(outcome, registrations.Registration) is is_free


def test_promise_9_a_phone_that_comes_back_in_the_same_moment_keeps_its_owner() -> None:
    """The day is over when the rule looks; the phone uses its token before the write."""
    first = world.redeem(world.issue().digits)
    later = NOW + timedelta(days=1)
    seen = device_table.find(world.HW_ID)
    devices.update_script(world.visit(None, token=first.token), later)
    other = world.issue("user2", later)
    transaction = connection.Transaction()
    device_table.assign(transaction, first.device, seen)
    with pytest.raises(connection.Refused) as refused:
        transaction.commit()
    assert set(refused.value.items) == {"device"}
    assert isinstance(
        _attempt(other.digits, world.HW_ID, "198.51.100.3", later), DeviceElsewhereError
    )


def test_promise_11_nothing_scans_and_no_cost_grows() -> None:
    """The whole journey makes keyed calls alone, as many among many phones as among one."""
    first = _calls_of_a_journey("user10", "0090330000d1", "203.0.113.1")
    for n in range(30):
        world.redeem(
            world.issue(f"user{n % 5 + 2}").digits, f"00903300e0{n:02x}", f"198.51.100.{n}"
        )
    assert _calls_of_a_journey("user11", "0090330000d2", "203.0.113.2") == first
    assert "Scan" not in first
    assert set(first) <= {
        "BatchGetItem",
        "GetItem",
        "PutItem",
        "Query",
        "TransactWriteItems",
        "UpdateItem",
    }


def _calls_of_a_journey(sip: str, hw_id: str, source: str) -> list[str]:
    with world.calls() as made:
        issued = world.issue(sip)
        token = world.redeem(issued.digits, hw_id, source).token
        devices.update_script(world.visit(None, hw_id, source, token), NOW)
        users.list_phones(world.person(sip), 1, None)
        users.list_codes(world.person(sip), 1, None)
    return made


def test_promise_12_a_dump_of_the_tables_redeems_nothing_and_logs_in_nowhere(
    client: "DynamoDBClient",
    table_names: dict[str, str],
) -> None:
    """No code or token can be read in any item, nor guessed from a hash without a key."""
    pending, redeemed = world.issue(), world.issue()
    token = world.redeem(redeemed.digits).token
    dump = world.dump(client, table_names)
    for secret in (pending.digits, redeemed.digits, token):
        assert secret not in dump
    plain = hashlib.sha256(pending.digits.encode()).hexdigest()
    assert plain not in dump
    stored = world.stored(redeemed.code)
    assert stored.sealed_code is None
    for fake in (pending.code.fingerprint, str(world.stored(pending.code).sealed_code)):
        assert isinstance(_attempt(fake, world.HW_ID, "203.0.113.5"), CodeNotRedeemableError)
    device = device_table.find(world.HW_ID)
    assert device is not None
    script = devices.update_script(world.visit(None, token=device.token_hash), NOW)
    assert demo.EXPERT_LINES[0] not in script
    assert device.state is DeviceState.REGISTERED


def test_promise_12_a_dump_holds_nothing_that_administrators_set_in_secret(
    client: "DynamoDBClient",
    table_names: dict[str, str],
) -> None:
    """Neither token nor password nor key, old or new, in clear or as a hash without a key."""
    office, platform = world.admin(), world.platform()
    secrets = ["the first security token", "the second security token", "a websocket password"]
    for token in secrets[:2]:
        security_tokens.put(office, world.DOMAIN, "Office", token, None)
    domains.change(office, world.DOMAIN, {"websocket_password": secrets[2]})
    password = {"password": "pass of a phone"}
    updates.make_configuration_job(office, world.DOMAIN, "*", "admin-password", password)
    made = installations.create(platform, "Foreign Ltd")
    foreign = installations.issue_code(
        made.key, "https://f.example", Lifetime.USER, world.HOME, NOW
    )
    registration = world.admit(world.claiming(secrets[1]))
    _attempt_claim("a wrong security token")
    secrets += [password["password"], foreign.digits, "a wrong security token"]
    dump = world.dump(client, table_names)
    for secret in (*secrets, made.key.partition(".")[2], registration.token):
        assert secret not in dump
    for guessable in secrets:
        assert hashlib.sha256(guessable.encode()).hexdigest() not in dump
    kept = domain_table.find_token(world.DOMAIN)
    assert kept is not None
    for fake in (kept.sealed_token, kept.sealed_old_token):
        assert isinstance(_attempt_claim(fake), CodeNotRedeemableError)
    fake = f"{made.installation.installation_id}.{made.installation.key_hash}"
    with pytest.raises(NotSignedInError):
        installations.issue_code(fake, "https://f.example", Lifetime.USER, world.HOME, NOW)


def _attempt_claim(token: str) -> Any:  # noqa: ANN401 - an outcome
    try:
        return world.admit(world.claiming(token, "0090330000bb"))
    except (CodeNotRedeemableError, DeviceElsewhereError) as error:
        return error


def test_forty_parallel_wrong_codes_from_one_source_look_up_ten() -> None:
    """Of 40 guesses at once exactly ten are looked up; another source still gets in."""
    issued = world.issue()
    with world.calls() as made, ThreadPoolExecutor(40) as pool:
        outcomes = list(
            pool.map(
                lambda n: _attempt(f"{n:012d}", f"0090330002{n:02x}", "203.0.113.77"), range(40)
            )
        )
    looked_up = [outcome for outcome in outcomes if isinstance(outcome, CodeNotRedeemableError)]
    limited = [outcome for outcome in outcomes if isinstance(outcome, LimitReachedError)]
    assert len(looked_up) == 10
    assert len(limited) == 30
    assert all(0 < error.retry_after_seconds <= 60 for error in limited)
    assert made.count("BatchGetItem") == 10 + 30  # 30 ask whether it is their own repeat
    assert all(error.limit == LimitName.GUESSES for error in limited)
    assert world.redeem(issued.digits, source="203.0.113.78").device.user == "user1"


def test_what_is_audited_is_a_name_and_never_a_secret() -> None:
    """An audit entry has a place for names alone."""
    assert {"code", "token", "password"}.isdisjoint(audit.Entry.__dataclass_fields__)
