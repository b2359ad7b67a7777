"""Jobs as administrators make, delete and explain them, and as phones get them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.core import jobs as rules
from chalicelib.core.configuration import CONFIGURATION_TYPES
from chalicelib.core.devices import Device, Facts, State
from chalicelib.core.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from chalicelib.core.explanations import Standing
from chalicelib.core.jobs import Fit, Job
from chalicelib.roles import assignments, devices, domains, updates
from chalicelib.storage import devices as device_table
from chalicelib.storage import jobs as job_table
from local import demo
from tests import world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
NOTHING = "# dialtone: nothing to do\r\n"
ELSEWHERE = "https://elsewhere.example/api/devices/update"
SECRETS = ("s3cr3t-var", "s3cr3t-phone", "s3cr3t-admin", "s3cr3t-line")
CONFIGURATION: Mapping[str, Mapping[str, Any]] = {
    "update-client": {"poll_minutes": 9, "url": ELSEWHERE},
    "ntp": {"server": "time.example.com"},
    "variables": {"variables": {"LANG": "de"}, "secret_variables": {"PIN": SECRETS[0]}},
    "phone": {"pbx": "pbx.example.com", "password": SECRETS[1]},
    "admin-password": {"password": SECRETS[2]},
    "expert": {"lines": ["config add A /b"], "secret_lines": [f"config add C /d {SECRETS[3]}"]},
}
NEW = "140001"


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def at(minutes: float) -> datetime:
    """Tell a time after the beginning."""
    return NOW + timedelta(minutes=minutes)


def make(job_type: str, minutes: float = 1, category: str = "Office", **parameters: Any) -> Job:  # noqa: ANN401 - parameters
    """Make a configuration job."""
    wanted = parameters or CONFIGURATION[job_type]
    asking = world.admin(at(minutes))
    return updates.make_configuration_job(asking, world.DOMAIN, category, job_type, wanted)


def firmware(build: str) -> dict[str, Any]:
    """Write a firmware JSON for the phone of these tests."""
    return {"IP232": {"prot": {"build": build, "url": f"https://firmware.example.com/{build}"}}}


def device() -> Device:
    """Read the phone of these tests."""
    found = device_table.find(world.HW_ID)
    assert found is not None
    return found


def done(build: str = demo.FIRMWARE_BUILD) -> Facts:
    """Tell what the phone reports that has run everything."""
    plan = rules.plan_for(
        world.DOMAIN,
        device().category,
        job_table.find_matching(world.DOMAIN, device().category),
    )
    check = rules.serial_of(device().registration_id, plan)
    return replace(world.FACTS, prot=build, boot=demo.BOOT_BUILD, check=check)


def poll(token: str, facts: Facts, minutes: float = 2) -> str:
    """Let the phone poll."""
    return devices.update_script(world.visit(None, token=token, facts=facts), at(minutes))


@pytest.fixture
def token() -> str:
    """Register the phone and let it do everything there is."""
    own = world.redeem(world.issue().digits).token
    assert poll(own, done()) == NOTHING
    return own


def explained(minutes: float = 2, category: str | None = None) -> dict[str, tuple[Fit, Any]]:
    """Tell what is said of each job: job_id → whether it is for the phone, and where it stands."""
    told = updates.explain(world.admin(at(minutes)), world.DOMAIN, world.HW_ID, category)
    return {one.verdict.job.job_id: (one.verdict.fit, one.standing) for one in told}


def still_open(minutes: float = 2) -> set[str]:
    """Tell which jobs are said to come with the next poll."""
    return {
        job_id for job_id, (_, standing) in explained(minutes).items() if standing is Standing.OPEN
    }


def test_a_software_job_changes_exactly_what_the_next_poll_brings_once(token: str) -> None:
    """As it was said before; the firmware JSON alone changes nothing."""
    updates.put_firmware(world.admin(), world.DOMAIN, firmware(NEW))
    assert updates.show_firmware(world.admin(), world.DOMAIN) == firmware(NEW)
    assert poll(token, done()) == NOTHING
    before = next(job for job in job_table.find_all(world.DOMAIN) if job.job_type == "software")
    job = updates.make_software_job(world.admin(at(1)), world.DOMAIN, "Office")
    assert (job.parameters, job.created_by, job.created_at) == (firmware(NEW), "admin", at(1))
    assert explained()[job.job_id] == (Fit.MATCHES, Standing.OPEN)
    assert explained()[before.job_id] == (Fit.SUPERSEDED, None)
    assert still_open() == {job.job_id}
    loads = (
        f"# dialtone: jobs\r\nmod cmd UP0 prot https://firmware.example.com/{NEW} iresetn {NEW}\r\n"
    )
    assert poll(token, done()) == loads
    assert device().state is State.UPDATING
    updates.put_firmware(world.admin(), world.DOMAIN, firmware("150001"))
    assert poll(token, done()) == loads
    assert poll(token, done(NEW)) == NOTHING
    assert poll(token, done(NEW), 3) == NOTHING
    assert explained()[job.job_id] == (Fit.MATCHES, Standing.CONFIRMED)
    assert device().state is State.CURRENT


def test_a_configuration_job_changes_exactly_what_the_next_poll_brings_once(token: str) -> None:
    """Its own lines and no others, until the phone has run them."""
    old = done()
    job = make("ntp", category="*")
    assert still_open() == {job.job_id}
    script = poll(token, old)
    assert [line for line in script.split("\r\n") if line and not line.startswith("#")] == [
        f"mod cmd UP1 check ser {done().check}",
        "config add NTP0 /addr time.example.com",
        "config write",
        "config activate",
    ]
    assert poll(token, done()) == NOTHING
    assert poll(token, done(), 3) == NOTHING
    assert still_open() == set()
    newer = make("ntp", 4, server="time2.example.com")
    assert explained(5)[job.job_id] == (Fit.SUPERSEDED, None)
    assert still_open(5) == {newer.job_id}
    assert "time2.example.com" in poll(token, old, 5)


def test_a_job_of_another_category_is_not_for_this_phone(token: str) -> None:
    """Until it moves; what it would get then can be asked before."""
    job = make("ntp", category="Reception")
    assert explained()[job.job_id] == (Fit.OTHER_CATEGORY, None)
    assert poll(token, done()) == NOTHING
    assert explained(category="Reception")[job.job_id] == (Fit.MATCHES, Standing.OPEN)
    for category in ("Nonsense", "*"):
        if category == "*":
            assert explained(category="*")[job.job_id] == (Fit.OTHER_CATEGORY, None)
        else:
            with pytest.raises(NotFoundError):
                explained(category=category)


def test_deleting_the_latest_job_brings_the_one_before_back(token: str) -> None:
    """Deleting an older one changes nothing, deleting the only one leaves none."""
    first = make("ntp", 1, server="time1.example.com")
    second = make("ntp", 2, server="time2.example.com")
    third = make("ntp", 3, server="time3.example.com")
    assert poll(token, done(), 4) == NOTHING
    updates.delete_job(world.admin(at(4)), world.DOMAIN, second.job_id)
    assert poll(token, done(), 5) == NOTHING
    updates.delete_job(world.admin(at(5)), world.DOMAIN, third.job_id)
    assert still_open(6) == {first.job_id}
    assert "time1.example.com" in poll(token, world.FACTS, 6)
    assert poll(token, done(), 7) == NOTHING
    updates.delete_job(world.admin(at(7)), world.DOMAIN, first.job_id)
    assert poll(token, done(), 8) == NOTHING
    assert "ntp" not in device().confirmed
    kept = updates.list_configuration(world.admin(), world.DOMAIN, 10, None).items
    assert [job.job_type for job in kept] == ["expert", "update-client"]
    for job_id in (first.job_id, "nonsense", "0" * 26):
        with pytest.raises(NotFoundError):
            updates.delete_job(world.admin(), world.DOMAIN, job_id)
    with pytest.raises(NotFoundError):
        updates.delete_job(world.platform(), "other.example", kept[0].job_id)


def test_a_deletion_that_meets_a_newer_job_says_so_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newer job stays what devices get."""
    old = make("ntp", 1)
    real = job_table._history  # noqa: SLF001 - the moment between its read and its write

    def read(domain: str, prefix: str) -> list[Job]:
        found = real(domain, prefix)
        monkeypatch.setattr(job_table, "_history", real)
        make("ntp", 2, server="newer.example.com")
        return found

    monkeypatch.setattr(job_table, "_history", read)
    with pytest.raises(ConflictError):
        updates.delete_job(world.admin(at(3)), world.DOMAIN, old.job_id)
    ntp = [job for job in job_table.find_all(world.DOMAIN) if job.job_type == "ntp"]
    assert [job.parameters["server"] for job in ntp] == ["newer.example.com", "time.example.com"]
    found = job_table.find_matching(world.DOMAIN, "Office")
    assert ntp[0] in found
    assert old not in found


def test_secrets_are_sealed_masked_and_in_clear_for_the_phone_alone(
    token: str, client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """In no item and no list; in the phone's script and in its jobs."""
    old = done()
    made = [make(job_type, number) for number, job_type in enumerate(CONFIGURATION, 1)]
    dumped = world.dump(client, table_names)
    listed = updates.list_configuration(world.admin(), world.DOMAIN, 20, None).items
    told = updates.explain(world.admin(at(9)), world.DOMAIN, world.HW_ID, None)
    script = poll(token, old, 10)
    plan = devices.jobs_of(world.HW_ID, token, at(11))
    again = world.issue(now=at(12))
    registered = devices.update_script(world.visit(again.digits), at(12))
    for secret in SECRETS:
        assert secret not in dumped + repr(made) + repr(listed) + repr(told)
        assert secret in script
        assert secret in registered
        assert secret in str([job.parameters for job in plan.jobs])
        assert secret not in repr(plan)
    masked = {job.job_type: job.parameters for job in listed}
    assert masked["admin-password"] == {"password": "***"}
    assert masked["phone"] == {"pbx": "pbx.example.com", "password": "***"}
    assert masked["variables"]["variables"] == {"LANG": "de"}
    assert {job.job_type: job.parameters for job in plan.configuration} == CONFIGURATION


def test_the_seal_of_one_job_opens_no_other(token: str) -> None:
    """Sealed parameters that are copied into another job's item do not open."""
    from cryptography.exceptions import InvalidTag

    admin, phone = make("admin-password", 1), make("phone", 2)
    with pytest.raises(InvalidTag):
        updates.opened([replace(phone, sealed_parameters=admin.sealed_parameters)])
    (whole,) = updates.opened([phone])
    assert whole.parameters["password"] == SECRETS[1]


def test_a_job_that_moves_the_update_client_takes_the_phones_own_token_along(token: str) -> None:
    """The next address is no use without it; at a poll and at a registration."""
    old = done()
    make("update-client")
    line = "config add UP1 /url https%3A%2F%2Felsewhere.example%2Fapi%2Fdevices%2Fupdate%3F"
    script = poll(token, old)
    assert line in script
    assert f"device_token%3D{token}\r\n" in script
    assert "config add UP1 /poll 9\r\n" in script
    own = world.redeem(world.issue("user2").digits, "0090330000bb").token
    again = world.issue("user3")
    script = devices.update_script(world.visit(again.digits, "0090330000cc"), at(3))
    registered = device_table.find("0090330000cc")
    assert registered is not None
    assert line in script
    assert own not in script
    assert world.UPDATE_URL.replace(":", "%3A").replace("/", "%2F") not in script


def test_a_failed_job_is_offered_again_after_a_pause_and_the_others_go_on(token: str) -> None:
    """After 1, 5, 25 minutes, not a second before; explained alike at every step."""
    ntp, expert = make("ntp", 0.5), make("expert", 0.5)

    def offered(now: datetime) -> set[str]:
        told = updates.explain(world.admin(now), world.DOMAIN, world.HW_ID, None)
        expected = {one.verdict.job.job_id for one in told if one.standing is Standing.OPEN}
        brought = {job.job_id for job in devices.jobs_of(world.HW_ID, token, now).jobs}
        assert brought == expected
        return brought

    def report(job: Job, outcome: devices.Outcome, now: datetime) -> None:
        told = devices.Report(job.job_id, outcome, "no such option")
        devices.report_job(world.HW_ID, token, told, now)

    now = at(1)
    assert offered(now) == {ntp.job_id, expert.job_id}
    for minutes in (1, 5, 25):
        report(ntp, devices.Outcome.FAILED, now)
        paused = updates.explain(world.admin(now), world.DOMAIN, world.HW_ID, None)
        assert [one.verdict.job for one in paused if one.standing is Standing.PAUSED] == [ntp]
        assert offered(now + timedelta(minutes=minutes, seconds=-1)) == {expert.job_id}
        now += timedelta(minutes=minutes)
        assert offered(now) == {ntp.job_id, expert.job_id}
    assert device().failures[ntp.job_id].count == 3
    report(expert, devices.Outcome.DONE, now)
    assert offered(now) == {ntp.job_id}
    report(ntp, devices.Outcome.DONE, now)
    assert offered(now) == set()
    assert (device().state, device().failures) == (State.CURRENT, {})


def test_a_script_leaves_a_paused_job_out_and_is_confirmed_without_it(token: str) -> None:
    """What the phone ran counts, and the failed job comes again by itself."""
    old = done()
    ntp, expert = make("ntp", 0.5), make("expert", 0.5)
    told = devices.Report(ntp.job_id, devices.Outcome.FAILED, "no")
    devices.report_job(world.HW_ID, token, told, at(1))
    script = poll(token, old, 1.5)
    assert "config add A /b" in script
    assert "NTP0" not in script
    serial = next(line for line in script.split("\r\n") if "check ser" in line).split()[-1]
    assert poll(token, replace(old, check=serial), 1.9) == NOTHING
    assert device().confirmed["expert"] == expert.job_id
    script = poll(token, replace(old, check=serial), 2)
    assert "NTP0" in script
    assert "config add A /b" not in script


def test_explaining_and_delivering_agree_at_every_step() -> None:
    """Before the first poll, after it, after a move, and after what was deleted."""
    token = world.redeem(world.issue().digits).token

    def agree(minutes: float) -> set[str]:
        expected = still_open(minutes)
        assert {
            job.job_id for job in devices.jobs_of(world.HW_ID, token, at(minutes)).jobs
        } == expected
        return expected

    assert len(agree(0)) == 3
    every = make("variables", 1, "*")
    reception = make("phone", 1, "Reception")
    assert every.job_id in agree(2)
    for job in devices.jobs_of(world.HW_ID, token, at(2)).jobs:
        report = devices.Report(job.job_id, devices.Outcome.DONE)
        devices.report_job(world.HW_ID, token, report, at(2))
        agree(2)
    assert agree(3) == set()
    assignments.change(world.admin(at(3)), world.DOMAIN, world.HW_ID, None, "Reception")
    assert agree(4) == {reception.job_id}
    updates.delete_job(world.admin(at(4)), world.DOMAIN, reception.job_id)
    assert agree(5) == set()
    with pytest.raises(NotFoundError):
        updates.explain(world.admin(), world.DOMAIN, "0090330000ff", None)
    with pytest.raises(NotFoundError):
        updates.explain(world.platform(), "other.example", world.HW_ID, None)


def test_jobs_are_explained_newest_first(token: str) -> None:
    """Software and configuration in one row."""
    made = [make("ntp", 1), updates.make_software_job(world.admin(at(2)), world.DOMAIN, "*")]
    told = updates.explain(world.admin(at(3)), world.DOMAIN, world.HW_ID, None)
    ids = [one.verdict.job.job_id for one in told]
    assert ids[:2] == [made[1].job_id, made[0].job_id]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 5


def test_what_is_no_job_is_refused_with_every_fault() -> None:
    """An unknown type, wrong parameters, another category, no firmware."""
    with pytest.raises(InvalidRequestError) as raised:
        make("phone", protocol="ISDN", password="")
    assert sorted(fault.field for fault in raised.value.faults) == ["password", "pbx", "protocol"]
    with pytest.raises(InvalidRequestError):
        make("nonsense", a=1)
    with pytest.raises(InvalidRequestError):
        updates.put_firmware(world.admin(), world.DOMAIN, {"IP232": {"prot": {"build": "1"}}})
    with pytest.raises(NotFoundError):
        make("ntp", category="Nonsense")
    with pytest.raises(NotFoundError):
        updates.make_software_job(world.admin(), world.DOMAIN, "Nonsense")
    with pytest.raises(NotFoundError):
        updates.show_firmware(world.platform(), "nowhere.example")
    assert updates.show_firmware(world.platform(), "other.example") == {}
    with pytest.raises(ConflictError):
        updates.make_software_job(world.platform(), "other.example", "Sales")
    assert len(job_table.find_all(world.DOMAIN)) == 3


def test_software_jobs_are_listed_apart_newest_first() -> None:
    """Page by page."""
    job = updates.make_software_job(world.admin(at(1)), world.DOMAIN, "*")
    page = updates.list_software(world.admin(), world.DOMAIN, 1, None)
    assert page.items == [job]
    page = updates.list_software(world.admin(), world.DOMAIN, 1, page.next_after)
    assert [other.created_at for other in page.items] == [NOW]


def test_what_is_done_to_jobs_is_audited() -> None:
    """Who made what, set which firmware, deleted which job."""
    updates.put_firmware(world.admin(at(1)), world.DOMAIN, firmware(NEW))
    job = make("admin-password", 2)
    updates.delete_job(world.admin(at(3)), world.DOMAIN, job.job_id)
    trail = domains.audit_trail(world.admin(), world.DOMAIN, "2036-11", 10, None).items
    assert [(one.action, one.subject, one.detail, one.actor) for one in trail] == [
        ("job deleted", job.job_id, "admin-password", "admin"),
        ("job made", job.job_id, "admin-password", "admin"),
        ("firmware set", world.DOMAIN, "", "admin"),
    ]


def test_every_type_has_its_case_here() -> None:
    """A new one is tried with its secrets, too."""
    assert tuple(CONFIGURATION) == tuple(CONFIGURATION_TYPES)
    secret = {
        one.name
        for known in CONFIGURATION_TYPES.values()
        for one in known.parameters
        if one.is_secret
    }
    given = {name for parameters in CONFIGURATION.values() for name in parameters}
    assert secret <= given
