from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import jobs
from chalicelib.core.devices import Device, Facts, State

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


def test_a_confirmation_lasts_until_the_job_is_replaced() -> None:
    """What was confirmed stays; a newer job of one type is open, the others are not."""
    confirmed = {"software": "1", "update-client": "2", "expert": "3"}
    device = replace(DEVICE, confirmed=confirmed)
    assert jobs.confirmed_by(device, PLAN, OLD) == confirmed
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


def test_a_script_is_stuck_after_three_polls() -> None:
    """Counted from when it was first out, and only while something is open."""
    limit = NOW + timedelta(seconds=jobs.STUCK_SECONDS)
    assert jobs.stuck_since(State.UPDATING, NOW, limit) is None
    assert jobs.stuck_since(State.UPDATING, NOW, limit + timedelta(seconds=1)) == limit
    assert jobs.stuck_since(State.CURRENT, NOW, limit + timedelta(days=1)) is None
    assert jobs.stuck_since(State.UPDATING, None, limit + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("job_type", "parameters", "fields"),
    [
        ("expert", {"lines": ["config write", "vars del X"]}, []),
        ("expert", {}, ["lines"]),
        ("expert", {"lines": []}, ["lines"]),
        ("expert", {"lines": ["a"] * 501}, ["lines"]),
        (
            "expert",
            {"lines": ["ok", "two\nlines", 5, "x" * 2001]},
            ["lines.1", "lines.2", "lines.3"],
        ),
        ("update-client", {"poll_minutes": 1}, []),
        ("update-client", {"poll_minutes": 0}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": 1441}, ["poll_minutes"]),
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
