from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import jobs, scripts
from chalicelib.core.devices import Device, Facts, State, parse_query_facts

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRMWARE = {
    "IP232": {
        "prot": {"build": "134250", "url": "https://f.example/p"},
        "boot": {"build": "131286", "url": "https://f.example/b"},
    },
    "IP112": {"prot": {"build": "134250", "url": "https://f.example/p"}},
}
DEVICE = Device("a" * 12, State.REGISTERED, "example.com", "Office", registration_id="R1")
OLD = Facts(product="IP232", prot="130100", boot="130100")
NEW = Facts(product="IP232", prot="134250", boot="131286")


def job(job_id: str, job_type: str, category: str = "Office", **changes: Any) -> jobs.Job:  # noqa: ANN401 - parameters
    """Make a job."""
    parameters: Any = {
        "software": FIRMWARE,
        "update-client": {"poll_minutes": 5},
        "expert": {"lines": ["config add UP1 /disc"]},
    }[job_type]
    facts: dict[str, Any] = {
        "domain": "example.com",
        "parameters": parameters,
        "created_at": NOW,
    } | changes
    return jobs.Job(job_id, category=category, job_type=job_type, **facts)


ALL = (job("1", "software"), job("2", "update-client"), job("3", "expert", "*"))
PLAN = jobs.plan_for("example.com", "Office", ALL)
ANY_JOBS = st.lists(
    st.builds(
        job,
        st.text("0123456789", min_size=3, max_size=3),
        st.sampled_from(jobs.JOB_TYPES),
        st.sampled_from(["Office", "Reception", "*"]),
        domain=st.sampled_from(["example.com", "other.example"]),
    ),
    max_size=20,
    unique_by=lambda made: made.job_id,
)


@given(ANY_JOBS, st.randoms())
def test_a_plan_is_the_latest_matching_job_of_each_type(made: list[jobs.Job], random: Any) -> None:  # noqa: ANN401 - Hypothesis' own
    """Whatever their order; jobs of other domains and categories never match."""
    plan = jobs.plan_for("example.com", "Office", made)
    shuffled = list(made)
    random.shuffle(shuffled)
    assert jobs.plan_for("example.com", "Office", shuffled) == plan
    for job_type in jobs.JOB_TYPES:
        matching = [
            candidate
            for candidate in made
            if candidate.domain == "example.com"
            and candidate.category in {"Office", "*"}
            and candidate.job_type == job_type
        ]
        chosen = [candidate for candidate in plan.jobs if candidate.job_type == job_type]
        assert chosen == ([max(matching, key=lambda each: each.job_id)] if matching else [])


@given(ANY_JOBS)
def test_what_does_not_match_never_matters(made: list[jobs.Job]) -> None:
    """Other domains' and categories' jobs change nothing, however late; a device may get none."""
    own = [one for one in made if one.domain == "example.com" and one.category != "Reception"]
    plan = jobs.plan_for("example.com", "Office", made)
    assert plan == jobs.plan_for("example.com", "Office", own)
    assert {one.category for one in plan.jobs} <= {"Office", "*"}
    assert {one.domain for one in plan.jobs} <= {"example.com"}
    assert jobs.plan_for("third.example", "Office", made).jobs == ()


@given(ANY_JOBS, st.integers(0, 20))
def test_what_an_earlier_plan_left_out_never_comes_back(made: list[jobs.Job], cut: int) -> None:
    """Keeping only the latest job of each type, as the store does, loses nothing."""
    kept = jobs.plan_for("example.com", "Office", made[:cut]).jobs
    plan = jobs.plan_for("example.com", "Office", (*kept, *made[cut:]))
    assert plan == jobs.plan_for("example.com", "Office", made)


def test_a_job_for_every_category_and_one_for_this_one_are_equals() -> None:
    """The later wins, neither is more special."""
    special, general = job("1", "expert"), job("2", "expert", "*")
    assert jobs.plan_for("example.com", "Office", [special, general]).jobs == (general,)
    later = replace(special, job_id="3")
    assert jobs.plan_for("example.com", "Office", [later, general]).jobs == (later,)
    assert jobs.plan_for("example.com", "Reception", [later, general]).jobs == (general,)


def test_a_job_of_an_unknown_type_is_left_out() -> None:
    """Data of a newer version does not break an older one."""
    strange = replace(job("9", "expert"), job_type="of tomorrow")
    assert jobs.plan_for("example.com", "Office", [*ALL, strange]) == PLAN


def test_raw_lines_have_the_last_word() -> None:
    """The registry's order is the script's order."""
    assert [made.job_type for made in PLAN.configuration] == ["update-client", "expert"]


def test_a_serial_names_a_registration_and_its_configuration() -> None:
    """Another registration or another job is another serial; firmware is not in it."""
    other = jobs.plan_for("example.com", "Office", (*ALL, job("4", "expert")))
    firmware = jobs.plan_for("example.com", "Office", (*ALL, job("5", "software")))
    serial = jobs.serial_of("R1", PLAN)
    assert jobs.serial_of("R2", PLAN) != serial != jobs.serial_of("R1", other)
    assert jobs.serial_of("R1", firmware) == serial
    assert jobs.serial_of("R1", PLAN) == serial


def test_a_serial_comes_back_from_a_phone_as_it_was_sent() -> None:
    """CHECK is read as the serial that the script gave, 64 bits of it."""
    serial = jobs.serial_of("R1", PLAN)
    assert parse_query_facts({"check": serial}).check == serial
    assert scripts.guard(serial).text == f"mod cmd UP1 check ser {serial}"
    assert len(serial) == 16
    assert int(serial, 16) >= 0


def test_the_parts_of_a_serial_do_not_run_together() -> None:
    """Two registrations whose ids and jobs spell the same text have different serials."""
    one = jobs.Plan(None, (job("2", "update-client"),))
    two = jobs.Plan(None, (job("12", "update-client"),))
    assert jobs.serial_of("R1", one) != jobs.serial_of("R", two)


def test_firmware_is_loaded_only_where_the_build_differs() -> None:
    """By the phone's own report, for each of prot and boot."""
    texts = [line.text for line in jobs.firmware_lines(PLAN, OLD)]
    assert texts == [
        "mod cmd UP0 prot https://f.example/p iresetn 134250",
        "mod cmd UP0 boot https://f.example/b iresetn 131286",
    ]
    assert len(jobs.firmware_lines(PLAN, replace(OLD, prot="134250"))) == 1
    assert jobs.firmware_lines(PLAN, NEW) == ()
    assert jobs.firmware_lines(PLAN, replace(OLD, product="IP999")) == ()
    assert jobs.firmware_lines(jobs.Plan(None, ()), OLD) == ()


def test_what_a_phone_reports_confirms_its_jobs() -> None:
    """Builds confirm software, the serial confirms all configuration, at their own times."""
    serial = jobs.serial_of("R1", PLAN)
    assert jobs.confirmed_by(DEVICE, PLAN, OLD) == {}
    assert jobs.confirmed_by(DEVICE, PLAN, NEW) == {"software": "1"}
    assert jobs.confirmed_by(DEVICE, PLAN, replace(OLD, check=serial)) == {
        "update-client": "2",
        "expert": "3",
    }
    assert jobs.confirmed_by(DEVICE, PLAN, replace(OLD, check="another")) == {}


def test_a_plan_without_firmware_confirms_none() -> None:
    """Whatever a phone reports, it cannot have done a job that is not there."""
    configuration = jobs.Plan(None, PLAN.configuration)
    assert jobs.confirmed_by(DEVICE, configuration, NEW) == {}
    assert jobs.confirmed_by(DEVICE, jobs.Plan(None, ()), NEW) == {}


@given(
    ANY_JOBS,
    st.builds(
        Facts,
        product=st.sampled_from(["IP232", "IP112"]),
        prot=st.sampled_from(["", "130100", "134250"]),
        boot=st.sampled_from(["", "130100", "131286"]),
    ),
    st.booleans(),
)
def test_a_fresh_device_is_current_exactly_when_nothing_is_left_to_send(
    made: list[jobs.Job], facts: Facts, has_run: bool
) -> None:
    """What is explained is what is delivered, from one and the same report."""
    plan = jobs.plan_for("example.com", "Office", made)
    check = jobs.serial_of("R1", plan) if has_run else ""
    confirmed = jobs.confirmed_by(DEVICE, plan, replace(facts, check=check))
    left = (*jobs.firmware_lines(plan, facts), *jobs.configuration_lines(plan, confirmed))
    assert (jobs.state_of(plan, confirmed) is State.CURRENT) == (not left)
    assert set(confirmed.items()) <= {(one.job_type, one.job_id) for one in plan.jobs}


def test_a_confirmation_lasts_until_the_job_is_replaced() -> None:
    """What was confirmed stays; a newer job of one type is open, the others are not."""
    confirmed = {"software": "1", "update-client": "2", "expert": "3"}
    device = replace(DEVICE, confirmed=confirmed)
    assert jobs.confirmed_by(device, PLAN, Facts(product="IP232")) == confirmed
    assert jobs.confirmed_by(device, PLAN, Facts()) == confirmed
    newer = jobs.plan_for("example.com", "Office", (*ALL, job("4", "expert")))
    still = jobs.confirmed_by(device, newer, NEW)
    assert still == {"software": "1", "update-client": "2"}
    assert [line.text for line in jobs.configuration_lines(newer, still)] == [
        "config add UP1 /disc"
    ]
    assert jobs.state_of(newer, still) is State.UPDATING
    assert jobs.state_of(PLAN, confirmed) is State.CURRENT
    assert jobs.configuration_lines(PLAN, confirmed) == ()
    assert len(jobs.configuration_lines(PLAN, {})) == 2


def test_a_report_counts_more_than_what_was_confirmed_before() -> None:
    """A phone that was downgraded by hand is not current."""
    device = replace(DEVICE, confirmed={"software": "1", "update-client": "2", "expert": "3"})
    confirmed = jobs.confirmed_by(device, PLAN, OLD)
    assert confirmed == {"update-client": "2", "expert": "3"}
    assert jobs.state_of(PLAN, confirmed) is State.UPDATING


def test_a_product_is_matched_without_case_and_must_be_known() -> None:
    """What did not say what it is confirms nothing; what the job leaves out has nothing to load."""
    assert jobs.confirmed_by(DEVICE, PLAN, Facts()) == {}
    assert len(jobs.firmware_lines(PLAN, replace(OLD, product="ip232"))) == 2
    assert jobs.confirmed_by(DEVICE, PLAN, replace(NEW, product="ip232")) == {"software": "1"}
    assert jobs.confirmed_by(DEVICE, PLAN, Facts(product="IP999")) == {"software": "1"}


@pytest.mark.parametrize(("poll_minutes", "minutes"), [(5, 45), (15, 45), (60, 180)])
def test_a_script_is_stuck_after_three_polls(poll_minutes: int, minutes: int) -> None:
    """Counted from when it was first out, as often as the phone asks, while something is open."""
    job_of_polls = job("2", "update-client", parameters={"poll_minutes": poll_minutes})
    plan = jobs.plan_for("example.com", "Office", [job_of_polls])
    limit = NOW + timedelta(minutes=minutes)
    assert jobs.stuck_since(State.UPDATING, NOW, plan, limit) is None
    assert jobs.stuck_since(State.UPDATING, NOW, plan, limit + timedelta(seconds=1)) == limit
    assert jobs.stuck_since(State.CURRENT, NOW, plan, limit + timedelta(days=1)) is None
    assert jobs.stuck_since(State.UPDATING, None, plan, limit + timedelta(days=1)) is None
    none = jobs.Plan(None, ())
    assert jobs.stuck_since(State.UPDATING, NOW, none, NOW + timedelta(minutes=45)) is None


@pytest.mark.parametrize(
    ("job_type", "parameters", "fields"),
    [
        ("expert", {"lines": ["config write", "vars del X"]}, []),
        ("expert", {}, ["lines"]),
        ("expert", {"lines": []}, ["lines"]),
        ("expert", {"lines": ["a"] * 500}, []),
        ("expert", {"lines": ("a",) * 501}, ["lines"]),
        ("expert", {"lines": "reset"}, ["lines"]),
        ("expert", {"lines": {"reset": 1}}, ["lines"]),
        ("expert", {"lines": ["x" * 2000]}, []),
        (
            "expert",
            {"lines": ["bell\a", "\u2028", "\x85", "\r", "\t"]},
            [f"lines.{n}" for n in range(5)],
        ),
        (
            "expert",
            {"lines": ["ok", "two\nlines", 5, "x" * 2001]},
            ["lines.1", "lines.2", "lines.3"],
        ),
        ("update-client", {"poll_minutes": 1}, []),
        ("update-client", {"poll_minutes": 0}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": 1440}, []),
        ("update-client", {"poll_minutes": 1441}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": 5.0}, ["poll_minutes"]),
        ("update-client", {}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": True}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": "5\nreset"}, ["poll_minutes"]),
        ("nonsense", {}, ["type"]),
    ],
)
def test_parameters_are_checked_all_at_once(
    job_type: str, parameters: dict[str, Any], fields: list[str]
) -> None:
    """Every fault, by field; the known types are named."""
    faults = jobs.faults_of(job_type, parameters)
    assert [fault.field for fault in faults] == fields


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_raw_lines_without_a_fault_are_as_many_as_were_written(written: list[str]) -> None:
    """Nothing in one line can begin another; what could is a fault, named by its place."""
    faults = jobs.faults_of("expert", {"lines": written})
    at_fault = {fault.field for fault in faults}
    good = [line for place, line in enumerate(written) if f"lines.{place}" not in at_fault]
    lines = jobs.CONFIGURATION_TYPES["expert"].lines({"lines": good})
    script = scripts.render("test", lines)
    assert script.splitlines() == ["# dialtone: test", *good]
    assert script.count("\r\n") == len(good) + 1


def test_faults_say_what_would_be_right() -> None:
    """The limits and the known types are told, the value is not repeated."""
    wrong = [("expert", {}), ("expert", {"lines": [5]}), ("update-client", {}), ("nonsense", {})]
    assert [jobs.faults_of(kind, parameters)[0].message for kind, parameters in wrong] == [
        "a list of 1 to 500 lines",
        "one printable line of at most 2000 characters",
        "a whole number from 1 to 1440",
        "one of update-client, expert",
    ]


@given(st.text(), st.text(), st.sampled_from(["prot", "boot"]))
def test_no_firmware_url_or_build_can_begin_a_line(url: str, build: str, command: str) -> None:
    """One load is one line of six words and its build, whatever the firmware JSON says."""
    software = job("1", "software", parameters={"IP232": {command: {"url": url, "build": build}}})
    lines = jobs.firmware_lines(jobs.Plan(software, ()), Facts(product="IP232"))
    assert len(lines) == (1 if build else 0)
    assert all(line.text.isprintable() and line.text.count(" ") == 6 for line in lines)
