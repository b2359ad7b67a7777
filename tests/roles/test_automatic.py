"""Automatic provisioning: a domain's security token brings its phones in, and nobody else."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from chalicelib import settings
from chalicelib.core.auto_provisioning import read_claim
from chalicelib.core.codes import read_entry
from chalicelib.core.devices import Device, State
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    DeviceElsewhereError,
    LimitReachedError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import Limit, LimitName
from chalicelib.roles import devices, registrations, security_tokens, users
from chalicelib.storage import audit, connection, limits, redemptions
from chalicelib.storage import devices as device_table
from local import demo
from tests import world
from tests.conftest import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
TOKEN = "the token of example.com"
FORM = "# dialtone: type the provisioning code\r\nvars create UPDATE/PROVISIONING-CODE h prompt\r\n"
ELSEWHERE = "198.51.100.9"


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()
    rotate(TOKEN)


def rotate(token: str, keep_old_seconds: int | None = None, now: datetime = NOW) -> None:
    """Set the domain's security token."""
    security_tokens.put(world.admin(now), world.DOMAIN, "Office", token, keep_old_seconds)


def device(hw_id: str = world.HW_ID) -> Device:
    """Read a phone."""
    found = device_table.find(hw_id)
    assert found is not None
    return found


def poll(token: str, seconds: int = 60) -> str:
    """Let the phone poll with its own token."""
    return devices.update_script(world.visit(None, token=token), NOW + timedelta(seconds=seconds))


def refused(visited: devices.Visit, now: datetime = NOW) -> Any:  # noqa: ANN401 - an error
    """Let a phone try, by both ways, and tell the error of the one that has errors."""
    assert devices.update_script(visited, now) == FORM
    with pytest.raises((CodeNotRedeemableError, DeviceElsewhereError)) as raised:
        world.admit(visited, now)
    return raised.value


def test_an_unknown_phone_registers_and_gets_its_jobs_and_its_own_token() -> None:
    """No code is typed: firmware, configuration, and the token with which it comes back."""
    script = devices.update_script(world.claiming(TOKEN), NOW)
    assert f"{demo.FIRMWARE_BUILD}/ip232.bin" in script
    assert demo.EXPERT_LINES[0] in script
    own = re.search(r"device_token%3D([\w-]{43})\r\n", script)
    assert own is not None
    assert TOKEN not in script
    made = device()
    assert (made.domain, made.category, made.app, made.user) == (
        "example.com",
        "Office",
        "phone",
        "",
    )
    assert (made.state, made.code_id, made.product) == (State.REGISTERED, "", "IP232")
    assert (made.registered_at, made.registered_from) == (NOW, world.HOME)
    assert demo.EXPERT_LINES[0] in poll(own[1])
    assert device().state is State.UPDATING
    (entry, *_) = audit.list_month("example.com", "2036-11", 10, None).items
    assert (entry.action, entry.actor, entry.subject, entry.source) == (
        "device admitted",
        world.HW_ID,
        world.HW_ID,
        world.HOME,
    )


def test_another_kind_of_phone_gets_its_jobs_in_the_answer() -> None:
    """In clear, with what the phone calls itself kept."""
    visited = replace(world.claiming(TOKEN), facts=replace(world.FACTS, name="Ward 3"))
    assert visited.claim is not None
    registration = devices.register(visited, visited.claim, NOW)
    assert [job.job_type for job in registration.plan.jobs] == [
        "software",
        "update-client",
        "expert",
    ]
    assert (registration.device.name, device().name) == ("Ward 3", "Ward 3")
    assert devices.jobs_of(world.HW_ID, registration.token, NOW).jobs == registration.plan.jobs


def test_whatever_is_wrong_with_a_claim_the_answer_is_the_same() -> None:
    """Token, domain and category: the phone, or whoever asks, learns nothing of which."""
    wrong = {
        "token": world.claiming("a wrong token here"),
        "part of the token": world.claiming(TOKEN[:-1]),
        "unknown domain": world.claiming(TOKEN, domain="nowhere.example"),
        "no token set": world.claiming(TOKEN, domain="other.example", category="Sales"),
        "no provisioning category": world.claiming(TOKEN, category="Gateways"),
        "unknown category": world.claiming(TOKEN, category="Nonsense"),
        "every category": world.claiming(TOKEN, category="*"),
    }
    errors = [refused(visited) for visited in wrong.values()]
    assert {(type(error), str(error)) for error in errors} == {
        (CodeNotRedeemableError, "the code cannot be redeemed")
    }
    assert [error.refusal for error in errors] == [
        *[Refusal.WRONG_TOKEN] * 4,
        *[Refusal.NO_PROVISIONING_CATEGORY] * 3,
    ]
    assert device_table.find(world.HW_ID) is None


def test_names_too_long_for_any_key_are_refused_like_any_other() -> None:
    """What no domain or category can be called is no defect of ours."""
    long = "x" * 3_000
    query = {"domain": "example.com", "token": TOKEN, "category": "Office"}
    for name in query:
        assert read_claim({**query, name: long}) is None
    assert read_claim(query) is not None


def test_a_domain_learns_who_was_refused_and_why_but_not_what_they_tried() -> None:
    """Each attempt stands once in the trail; a domain that is not served has none."""
    for _ in range(3):
        refused(world.claiming("a wrong token here"))
        refused(world.claiming(TOKEN, category="Gateways"))
        refused(world.claiming(TOKEN, domain="nowhere.example"))
    trail = audit.list_month("example.com", "2036-11", 10, None).items
    tried = [entry for entry in trail if entry.action == "admission refused"]
    assert sorted(entry.detail for entry in tried) == [
        Refusal.NO_PROVISIONING_CATEGORY,
        Refusal.WRONG_TOKEN,
    ]
    assert {(entry.actor, entry.source) for entry in tried} == {(world.HW_ID, world.HOME)}
    assert "token here" not in repr(tried)
    assert audit.list_month("nowhere.example", "2036-11", 10, None).items == []


def test_a_known_phone_gets_nothing_by_its_domains_token() -> None:
    """Whoever knows token and MAC does not get its configuration, and it stays as it is."""
    own = world.admit(world.claiming(TOKEN)).token
    poll(own)
    before = device()
    for source in (world.HOME, ELSEWHERE):
        error = refused(world.claiming(TOKEN, source=source))
        assert isinstance(error, DeviceElsewhereError)
    assert device() == before
    assert demo.EXPERT_LINES[0] in poll(own)


def test_a_phone_of_another_domain_is_not_taken_by_a_token() -> None:
    """However good the token is in its own domain."""
    own = world.admit(world.claiming(TOKEN)).token
    poll(own)
    security_tokens.put(world.platform(), "other.example", "Sales", "the token of another", None)
    theirs = world.claiming("the token of another", domain="other.example", category="Sales")
    assert isinstance(refused(theirs, NOW + timedelta(days=30)), DeviceElsewhereError)
    assert device().domain == "example.com"


def test_a_phone_that_a_code_registered_is_not_repeated_by_a_token() -> None:
    """Within the hour, from the same source: it has its code for that."""
    world.redeem(world.issue().digits)
    assert isinstance(refused(world.claiming(TOKEN)), DeviceElsewhereError)


def test_a_released_phone_may_come_by_the_token_again() -> None:
    """A new registration, and the old token stays dead."""
    first = world.redeem(world.issue().digits).token
    poll(first)
    users.release_phone(world.asking(), world.HW_ID)
    again = world.admit(world.claiming(TOKEN))
    assert again.token != first
    assert (device().user, device().category) == ("", "Office")
    assert poll(first) == FORM


@pytest.mark.parametrize(("seconds", "may"), [(86_399, False), (86_400, True)])
def test_a_phone_that_never_used_its_token_may_come_after_a_day(seconds: int, may: bool) -> None:
    """It was lost, or it never was that phone."""
    first = world.admit(world.claiming(TOKEN)).token
    later = NOW + timedelta(seconds=seconds)
    visited = world.claiming(TOKEN, source=ELSEWHERE)
    if not may:
        assert isinstance(refused(visited, later), DeviceElsewhereError)
        return
    assert world.admit(visited, later).token != first
    assert device().registered_at == later


def test_a_phone_whose_answer_was_lost_gets_it_again_within_the_hour() -> None:
    """The same source, the same token; neither from another source nor later nor once used."""
    first = world.admit(world.claiming(TOKEN))
    again = world.admit(world.claiming(TOKEN), NOW + timedelta(seconds=3599))
    assert (again.token, again.device) == (first.token, first.device)
    script = devices.update_script(world.claiming(TOKEN), NOW + timedelta(seconds=60))
    assert first.token in script
    assert isinstance(refused(world.claiming(TOKEN, source=ELSEWHERE)), DeviceElsewhereError)
    late = NOW + timedelta(seconds=3600)
    assert isinstance(refused(world.claiming(TOKEN), late), DeviceElsewhereError)
    poll(first.token)
    assert isinstance(refused(world.claiming(TOKEN)), DeviceElsewhereError)


@pytest.mark.parametrize(("kept", "until"), [(3600, 3600), (None, 86_400), (0, 0)])
def test_the_token_before_counts_until_its_time_is_over(kept: int | None, until: int) -> None:
    """By the server's clock, to the second; the new one counts at once."""
    new = "the next token of example.com"
    rotate(new, kept)
    phones = iter(f"0090330000{number:02x}" for number in range(10))
    for seconds in (0, max(until - 1, 0), until, until + 1):
        now = NOW + timedelta(seconds=seconds)
        assert world.admit(world.claiming(new, next(phones)), now)
        old = world.claiming(TOKEN, next(phones))
        if seconds < until:
            assert world.admit(old, now)
        else:
            assert isinstance(refused(old, now), CodeNotRedeemableError)


def test_a_token_turned_off_brings_nobody_in() -> None:
    """Neither it nor the one before it."""
    rotate("the next token of example.com")
    security_tokens.delete(world.admin(), world.DOMAIN)
    for token in (TOKEN, "the next token of example.com"):
        assert isinstance(refused(world.claiming(token)), CodeNotRedeemableError)


def test_any_printable_token_survives_its_way_through_the_url() -> None:
    """Encoded for the URL and again for the line, it arrives as it was set."""
    tokens = [
        "a#b&c=d%e f/g?h+i",
        "größer als zehn Zeichen ü",
        "%23%26%25%20 in clear",
        "日本語のトークン、長い",
    ]
    for number, token in enumerate(tokens):
        sheet = security_tokens.put(world.admin(), world.DOMAIN, "Office", token, 0)
        for url in (sheet.url, sheet.update_client_url):
            assert " " not in url
            claim = read_claim(dict(parse_qsl(urlsplit(url).query)))
            assert claim is not None
            assert (claim.domain, claim.token, claim.category) == ("example.com", token, "Office")
        visited = replace(world.claiming("", f"0090330000{number:02x}"), claim=claim)
        assert world.admit(visited).device.domain == "example.com"


def test_one_phone_that_comes_many_times_at_once_registers_once() -> None:
    """Every answer brings the same token."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: world.admit(world.claiming(TOKEN)), range(8)))
    assert len({registration.token for registration in made}) == 1
    assert device().registration_id == made[0].device.registration_id
    trail = audit.list_month("example.com", "2036-11", 50, None).items
    assert [entry.action for entry in trail].count("device admitted") == 1


def beaten(
    monkeypatch: pytest.MonkeyPatch, times: int, meanwhile: "Callable[[], object]" = lambda: None
) -> None:
    """Let the next writes of an admission come too late."""
    real, left = redemptions.admit, [None] * times

    def admit(*given: Any) -> None:  # noqa: ANN401 - as the real one
        if not left:
            return real(*given)
        left.pop()
        meanwhile()
        raise connection.Refused({"device": None})

    monkeypatch.setattr(redemptions, "admit", admit)


def test_a_phone_that_is_beaten_by_its_own_other_attempt_gets_the_same_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever of two attempts writes first, both bring its token."""
    real, first = redemptions.admit, []

    def other_first() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(redemptions, "admit", real)
            first.append(world.admit(world.claiming(TOKEN)).token)

    beaten(monkeypatch, 1, other_first)
    assert world.admit(world.claiming(TOKEN)).token == first[0]


def test_a_device_that_changes_all_the_time_is_asked_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After three lost races the phone keeps its URL and tries later; two are nobody's trouble."""
    beaten(monkeypatch, 3)
    with pytest.raises(StoreUnavailableError):
        world.admit(world.claiming(TOKEN))
    beaten(monkeypatch, 2)
    assert world.admit(world.claiming(TOKEN)).token


def wrong(number: int) -> devices.Visit:
    """Make a phone with one of many wrong tokens."""
    return world.claiming(f"a wrong token, number {number}", f"0090330001{number:02x}")


def test_ten_wrong_tokens_of_one_source_shut_it_out() -> None:
    """Then the right one is not looked at either, until one comes back; another source gets in."""
    for number in range(10):
        with pytest.raises(CodeNotRedeemableError):
            world.admit(wrong(number))
    for visited in (wrong(10), world.claiming(TOKEN)):
        with pytest.raises(LimitReachedError) as limited:
            world.admit(visited)
        assert (limited.value.limit, limited.value.retry_after_seconds) == (LimitName.TOKENS, 60)
        with pytest.raises(LimitReachedError):
            devices.update_script(visited, NOW)
    assert device_table.find(world.HW_ID) is None
    assert world.admit(world.claiming(TOKEN, "0090330000ee", ELSEWHERE)).token
    assert world.admit(world.claiming(TOKEN), NOW + timedelta(seconds=60)).token


def test_the_same_wrong_token_counts_once() -> None:
    """A phone with an old URL polls every minute, and does not shut its neighbours out."""
    for number in range(50):
        with pytest.raises(CodeNotRedeemableError):
            world.admit(world.claiming("a wrong token here", f"0090330002{number:02x}"))
    for number in range(9):
        assert world.admit(world.claiming(TOKEN, f"0090330003{number:02x}")).token
        with pytest.raises(CodeNotRedeemableError):
            world.admit(wrong(number))
    with pytest.raises(LimitReachedError):
        world.admit(world.claiming(TOKEN))


def test_a_wrong_category_or_a_phone_that_is_there_is_no_guess() -> None:
    """They carry the right token, and are not counted against it."""
    poll(world.admit(world.claiming(TOKEN)).token)
    for number in range(15):
        refused(world.claiming(TOKEN))
        refused(world.claiming(TOKEN, f"0090330004{number:02x}", category="Gateways"))
    assert world.admit(world.claiming(TOKEN, "0090330000ee")).token


def test_all_phones_that_are_powered_on_at_once_get_in(request: pytest.FixtureRequest) -> None:
    """Behind one address: a success is never counted, so none is asked to come back."""
    count = 200 if request.config.getoption("--engine") else 50

    def come(number: int) -> registrations.Registration:
        return world.admit(world.claiming(TOKEN, f"00903301{number:04x}"))

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(come, range(count)))
    assert len({registration.token for registration in made}) == count
    assert device_table.count_in("example.com", "Office") == count


def test_admitting_costs_at_most_four_calls() -> None:
    """All that decides in one read, one transaction, the jobs."""
    with world.calls() as made:
        devices.update_script(world.claiming(TOKEN), NOW)
    assert len(made) <= 4
    assert made == ["BatchGetItem", "TransactWriteItems", "BatchGetItem"]


def guessed(client: "DynamoDBClient", table_names: dict[str, str]) -> list[str]:
    """Tell whose attempts at codes and tokens are counted."""
    found = client.scan(TableName=table_names["limits"])["Items"]
    names = [item["bucket"]["S"] for item in found if item["arrival_ms"]["N"] > "0"]
    return [name for name in names if not name.startswith(LimitName.ISSUES)]


def test_a_code_beside_a_token_of_the_domain_counts_more() -> None:
    """A wrong one is not healed by the token, a good one decides user and category."""
    code = world.issue(category="Reception").digits
    claim = world.claiming(TOKEN).claim
    wrong_code = replace(world.claiming(TOKEN), entry=read_entry("000000000000"))
    assert devices.update_script(wrong_code, NOW) == FORM
    assert device_table.find(world.HW_ID) is None
    assert demo.EXPERT_LINES[0] not in devices.update_script(
        replace(world.visit(code), claim=claim), NOW
    )
    assert (device().user, device().category) == ("user1", "Reception")


def test_a_phones_own_token_counts_more_than_both_and_costs_nothing(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """What stands beside it, however wrong, is not looked at."""
    own = world.admit(world.claiming(TOKEN)).token
    for number in range(12):
        visited = replace(wrong(number), hw_id=world.HW_ID, token=own, entry=read_entry("1"))
        assert demo.EXPERT_LINES[0] in devices.update_script(visited, NOW)
    assert guessed(client, table_names) == []
    devices.update_script(wrong(1), NOW)
    assert [name for name in guessed(client, table_names) if TOKEN in name] == []
    assert f"{LimitName.TOKENS}#{world.HOME}" in guessed(client, table_names)


def test_a_dead_token_beside_a_good_claim_lets_the_phone_in() -> None:
    """Its own token died with the release; its URL still names the domain."""
    own = world.redeem(world.issue().digits).token
    users.release_phone(world.asking(), world.HW_ID)
    visited = replace(world.claiming(TOKEN), token=own)
    assert demo.EXPERT_LINES[0] in devices.update_script(visited, NOW)


def test_room_is_asked_for_and_taken_separately() -> None:
    """A bucket that was read full refuses; one that is taken from while full says so."""
    limit = replace(limits_of_tokens(), burst=1)
    limits.demand_room(limit, None, NOW)
    assert limits.take(limit, "x", NOW)
    assert not limits.take(limit, "x", NOW)
    full = limits.LimitItem(
        *limits.bucket_key(limit, "x"), arrival_ms=int(NOW.timestamp() * 1000) + 60_000
    )
    with pytest.raises(LimitReachedError):
        limits.demand_room(limit, full, NOW)
    limits.demand_room(limit, full, NOW + timedelta(seconds=60))


def limits_of_tokens() -> Limit:
    """Read the limit of wrong tokens."""
    return settings.current().limits[LimitName.TOKENS]
