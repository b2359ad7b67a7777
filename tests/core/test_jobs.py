from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import explanations, jobs, scripts
from chalicelib.core.devices import Device, Facts, Failure, State, parse_query_facts

NOW = datetime(2036, 11, 24, 12, tzinfo=UTC)
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
        "ntp": {"server": "time.example.com"},
        "variables": {"variables": {"LANGUAGE": "de"}},
        "phone": {"pbx": "pbx.example.com"},
        "admin-password": {"password": "sesame"},
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
    due = plan.without(set(confirmed.values()))
    left = (
        *jobs.firmware_lines(plan, facts),
        *jobs.configuration_lines(due.configuration, "a" * 12),
    )
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
    assert [one.job_id for one in newer.without(set(still.values())).jobs] == ["4"]
    assert jobs.state_of(newer, still) is State.UPDATING
    assert jobs.state_of(PLAN, confirmed) is State.CURRENT
    assert PLAN.without(set(confirmed.values())).jobs == ()
    assert len(jobs.configuration_lines(PLAN.configuration, "a" * 12)) == 2


def test_a_report_counts_more_than_what_was_confirmed_before() -> None:
    """A phone that was downgraded by hand is not current."""
    device = replace(DEVICE, confirmed={"software": "1", "update-client": "2", "expert": "3"})
    confirmed = jobs.confirmed_by(device, PLAN, OLD)
    assert confirmed == {"update-client": "2", "expert": "3"}
    assert jobs.state_of(PLAN, confirmed) is State.UPDATING
    for part in ("prot", "boot"):
        alone = Facts(product="IP232", **{part: "130100"})
        assert "software" not in jobs.confirmed_by(device, PLAN, alone)


def test_a_confirmation_is_of_its_own_type() -> None:
    """What stands beside another type is no confirmation."""
    device = replace(DEVICE, confirmed={"expert": "2", "update-client": "3", "software": "2"})
    assert jobs.confirmed_by(device, PLAN, Facts()) == {}


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
    assert jobs.stuck_at(NOW, plan) == limit
    device = replace(DEVICE, stuck_at=limit)
    assert device.stuck_since(limit) is None
    assert device.stuck_since(limit + timedelta(seconds=1)) == limit
    assert DEVICE.stuck_since(limit + timedelta(days=1)) is None
    assert jobs.stuck_at(NOW, jobs.Plan(None, ())) == NOW + timedelta(minutes=45)


@given(st.text(), st.text(), st.sampled_from(["prot", "boot"]))
def test_no_firmware_url_or_build_can_begin_a_line(url: str, build: str, command: str) -> None:
    """One load is one line of six words and its build, whatever the firmware JSON says."""
    software = job("1", "software", parameters={"IP232": {command: {"url": url, "build": build}}})
    lines = jobs.firmware_lines(jobs.Plan(software, ()), Facts(product="IP232"))
    assert len(lines) == (1 if build else 0)
    assert all(line.text.isprintable() and line.text.count(" ") == 6 for line in lines)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Device, list[jobs.Job]]:
    """Make any jobs, and a device that has done some of them, failed at some, and forgot others."""
    made = draw(ANY_JOBS)
    ids = st.sampled_from([*(one.job_id for one in made), "gone"])
    plan = jobs.plan_for("example.com", "Office", made)
    done = {one.job_type: one.job_id for one in plan.jobs if draw(st.booleans())}
    failures = st.builds(
        Failure,
        st.integers(1, 8),
        st.integers(0, 1500).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        st.just("no space"),
    )
    device = Device(
        "a" * 12,
        draw(st.sampled_from(list(State))),
        draw(st.sampled_from(["example.com", "other.example", ""])),
        draw(st.sampled_from(["Office", "Reception", ""])),
        product=draw(st.sampled_from(["IP232", "ip112", "IP999", ""])),
        prot=draw(st.sampled_from(["", "130100", "134250"])),
        boot=draw(st.sampled_from(["", "130100", "131286"])),
        registration_id="R1",
        confirmed=draw(st.dictionaries(st.sampled_from(jobs.JOB_TYPES), ids)) | done,
        failures=draw(st.dictionaries(ids, failures)),
    )
    return device, made


def standings(device: Device, made: list[jobs.Job]) -> dict[str, explanations.Standing | None]:
    """Tell where each job stands by its explanation."""
    return {
        told.verdict.job.job_id: told.standing
        for told in explanations.explain(device, device.category, made, NOW)
    }


@given(situations())
def test_what_is_explained_is_what_is_delivered(situation: tuple[Device, list[jobs.Job]]) -> None:
    """Open is exactly what the next script contains, and every other job has its one reason."""
    device, made = situation
    plan = jobs.plan_for(device.domain, device.category, made)
    offered = jobs.offer(device, plan, device.facts, NOW)
    told = standings(device, made)
    assert set(told) == {one.job_id for one in made}
    by_standing = {
        standing: {job_id for job_id, stands in told.items() if stands is standing}
        for standing in (*explanations.Standing, None)
    }
    assert by_standing[explanations.Standing.OPEN] == {one.job_id for one in offered.open.jobs}
    assert by_standing[explanations.Standing.PAUSED] == offered.paused
    assert by_standing[explanations.Standing.CONFIRMED] == set(offered.confirmed.values())
    planned = {one.job_id for one in plan.jobs}
    assert by_standing[None] == {one.job_id for one in made} - planned
    assert offered.plan == plan


@given(situations())
def test_every_job_has_exactly_one_verdict(situation: tuple[Device, list[jobs.Job]]) -> None:
    """In the order given; what matches is the plan, and what is superseded names what by."""
    device, made = situation
    plan = jobs.plan_for(device.domain, device.category, made)
    verdicts = jobs.judge(device.domain, device.category, made)
    explained = explanations.explain(device, device.category, made, NOW)
    assert tuple(told.verdict for told in explained) == verdicts
    assert [verdict.job for verdict in verdicts] == made
    matching = {verdict.job.job_id for verdict in verdicts if verdict.fit is jobs.Fit.MATCHES}
    assert matching == {one.job_id for one in plan.jobs}
    chosen = {one.job_type: one.job_id for one in plan.jobs}
    for verdict in verdicts:
        one = verdict.job
        if one.domain != device.domain:
            assert verdict == jobs.Verdict(one, jobs.Fit.OTHER_DOMAIN)
        elif one.category not in {device.category, "*"}:
            assert verdict == jobs.Verdict(one, jobs.Fit.OTHER_CATEGORY)
        elif verdict.fit is jobs.Fit.SUPERSEDED:
            assert verdict.superseded_by == chosen[one.job_type] > one.job_id
        else:
            assert verdict == jobs.Verdict(one, jobs.Fit.MATCHES)
            assert chosen[one.job_type] == one.job_id


@given(situations())
def test_an_analogue_phone_gets_no_job(situation: tuple[Device, list[jobs.Job]]) -> None:
    """Whatever would match; what is explained is what it gets."""
    device, made = situation
    phone = replace(device, hw_id=f"{device.hw_id}-TEL1")
    plan = jobs.plan_for(device.domain, device.category, made, is_analogue=True)
    assert plan.jobs == ()
    fits = {told.verdict.fit for told in explanations.explain(phone, phone.category, made, NOW)}
    assert fits <= {jobs.Fit.ANALOGUE_PHONE, jobs.Fit.OTHER_DOMAIN, jobs.Fit.OTHER_CATEGORY}
    assert set(standings(phone, made).values()) <= {None}


def test_a_job_of_an_unknown_type_says_so() -> None:
    """It supersedes nothing, however late, and another domain's is another domain's first."""
    strange = replace(job("9", "expert"), job_type="of tomorrow")
    elsewhere = replace(strange, job_id="8", domain="other.example")
    fits = [verdict.fit for verdict in jobs.judge("example.com", "Office", [strange, elsewhere])]
    assert fits == [jobs.Fit.UNKNOWN_TYPE, jobs.Fit.OTHER_DOMAIN]
    (told, *_) = explanations.explain(DEVICE, "Office", [strange, *ALL], NOW)
    assert told == explanations.Explanation(jobs.Verdict(strange, jobs.Fit.UNKNOWN_TYPE), None)


def test_a_move_can_be_thought_of_before_it_is_made() -> None:
    """The category that is asked for decides, and not the device's own."""
    made = [
        job("1", "expert"),
        job("2", "expert", "Reception"),
        job("3", "ntp", "*"),
        job("4", "variables", "Reception"),
        job("5", "phone", "Reception"),
    ]
    device = replace(failing(_5=1), confirmed={"expert": "1", "ntp": "3", "variables": "4"})
    there = {
        told.verdict.job.job_id: (told.verdict.fit, told.standing)
        for told in explanations.explain(device, "Reception", made, NOW)
    }
    assert there == {
        "1": (jobs.Fit.OTHER_CATEGORY, None),
        "2": (jobs.Fit.MATCHES, explanations.Standing.OPEN),
        "3": (jobs.Fit.MATCHES, explanations.Standing.CONFIRMED),
        "4": (jobs.Fit.MATCHES, explanations.Standing.CONFIRMED),
        "5": (jobs.Fit.MATCHES, explanations.Standing.PAUSED),
    }


@given(situations())
def test_paused_is_never_confirmed_and_waits_for_its_own_pause(
    situation: tuple[Device, list[jobs.Job]],
) -> None:
    """Of the plan, failed, not done otherwise, and its time has not come."""
    device, made = situation
    plan = jobs.plan_for(device.domain, device.category, made)
    offered = jobs.offer(device, plan, device.facts, NOW)
    done = set(offered.confirmed.values())
    assert offered.paused.isdisjoint(done)
    assert offered.paused == {
        job_id
        for job_id, failure in device.failures.items()
        if job_id in {one.job_id for one in plan.jobs} - done and failure.retry_at > NOW
    }
    later = jobs.offer(device, plan, device.facts, NOW + timedelta(days=1))
    assert later.paused == frozenset()
    assert later.confirmed == offered.confirmed


@given(situations(), st.sampled_from(["", "the plan's", "another"]))
def test_a_failed_job_changes_nothing_for_the_others(
    situation: tuple[Device, list[jobs.Job]], check: str
) -> None:
    """They stand where they would stand had nothing failed."""
    device, made = situation
    untroubled = replace(device, failures={})
    others = {one.job_id for one in made} - set(device.failures)
    before, after = standings(untroubled, made), standings(device, made)
    assert {job_id: before[job_id] for job_id in others} == {
        job_id: after[job_id] for job_id in others
    }
    plan = jobs.plan_for(device.domain, device.category, made)
    if check == "the plan's":
        check = jobs.serial_of(device.registration_id, plan)
    facts = replace(device.facts, check=check)
    troubled, free = (jobs.offer(each, plan, facts, NOW) for each in (device, untroubled))
    assert troubled.open.without(device.failures) == free.open.without(device.failures)


FOUR_JOBS = (job("1", "software"), job("2", "update-client"), job("3", "ntp"), job("4", "expert"))
FOUR = jobs.plan_for("example.com", "Office", FOUR_JOBS)


def failing(**counts: int) -> Device:
    """Let a device fail at jobs just now, so many times: `_3=2`."""
    return replace(
        DEVICE,
        failures={job_id[1:]: Failure(count, NOW, "no") for job_id, count in counts.items()},
    )


def test_a_paused_job_is_out_of_the_script_until_its_pause_ends() -> None:
    """To the second; the others go on, and the script that has it again is a new one."""
    device = failing(_3=2)
    end = NOW + timedelta(minutes=5)
    paused = jobs.offer(device, FOUR, OLD, end - timedelta(seconds=1))
    assert paused.paused == {"3"}
    assert [one.job_id for one in paused.open.jobs] == ["1", "2", "4"]
    texts = [
        line.text for line in jobs.configuration_lines(paused.open.configuration, DEVICE.hw_id)
    ]
    assert texts == ["config add UP1 /poll 5", "config add UP1 /disc"]
    again = jobs.offer(device, FOUR, OLD, end)
    assert again.paused == frozenset()
    assert again.open == FOUR
    assert again.serial == jobs.serial_of("R1", FOUR) != paused.serial
    assert paused.serial == jobs.serial_of("R1", FOUR.without({"3"}))


def test_a_script_without_a_failed_job_confirms_exactly_the_others() -> None:
    """By its serial, during the pause and after it; the failed one stays open."""
    device = failing(_3=1)
    sent = jobs.offer(device, FOUR, OLD, NOW)
    run = replace(OLD, check=sent.serial)
    confirmed = {"update-client": "2", "expert": "4"}
    assert jobs.confirmed_by(device, FOUR, run) == confirmed
    later = jobs.offer(replace(device, confirmed=confirmed), FOUR, run, NOW + timedelta(minutes=1))
    assert later.confirmed == confirmed
    assert [one.job_id for one in later.open.jobs] == ["1", "3"]
    done = jobs.confirmed_by(device, FOUR, replace(OLD, check=later.serial))
    assert done == {**confirmed, "ntp": "3"}


def test_failed_firmware_waits_and_the_configuration_does_not() -> None:
    """The serial is of the configuration alone, so that it stays the same."""
    device = failing(_1=1)
    sent = jobs.offer(device, FOUR, OLD, NOW)
    assert [one.job_id for one in sent.open.jobs] == ["2", "3", "4"]
    assert sent.open.software is None
    assert sent.serial == jobs.serial_of("R1", FOUR)
    assert jobs.offer(device, FOUR, NEW, NOW).paused == frozenset()
    assert jobs.offer(device, FOUR, NEW, NOW).confirmed == {"software": "1"}


def test_a_failure_of_a_job_that_is_gone_pauses_nothing() -> None:
    """Nor does one that was done after all."""
    assert jobs.offer(failing(_9=3), FOUR, OLD, NOW).open == FOUR
    device = replace(failing(_4=3), confirmed={"expert": "4"})
    offered = jobs.offer(device, FOUR, OLD, NOW)
    assert (offered.paused, offered.confirmed) == (frozenset(), {"expert": "4"})


def test_the_address_of_a_job_is_where_a_phone_shall_ask() -> None:
    """Of the update client's job alone, and only where it names one."""
    url = "https://elsewhere.example/update"
    moving = job("5", "update-client", parameters={"poll_minutes": 5, "url": url})
    assert jobs.url_in(jobs.plan_for("example.com", "Office", [*ALL, moving])) == url
    assert jobs.url_in(PLAN) == ""
    assert jobs.url_in(jobs.Plan(None, ())) == ""
    other = job("6", "variables", parameters={"url": url})
    assert jobs.url_in(jobs.plan_for("example.com", "Office", [other])) == ""
    assert jobs.url_in(jobs.plan_for("example.com", "Office", [other, moving])) == url


def test_a_script_is_stuck_by_the_polls_of_its_own_plan() -> None:
    """Another job's parameters say nothing of polls."""
    other = job("2", "variables", parameters={"poll_minutes": 600})
    assert jobs.stuck_at(NOW, jobs.Plan(None, (other,))) == NOW + timedelta(minutes=45)


def test_a_job_does_not_show_its_secrets() -> None:
    """Not even sealed ones: they have no place in a log."""
    assert "sesame" not in repr(job("1", "phone", sealed_parameters="sesame"))


@given(situations())
def test_a_script_that_was_run_confirms_what_it_contained(
    situation: tuple[Device, list[jobs.Job]],
) -> None:
    """All of it and nothing else, however many jobs had failed and whichever were paused."""
    device, made = situation
    plan = jobs.plan_for(device.domain, device.category, made)
    offered = jobs.offer(device, plan, device.facts, NOW)
    confirmed = jobs.confirmed_by(device, plan, replace(device.facts, check=offered.serial))
    contained = {one.job_type: one.job_id for one in offered.open.configuration}
    assert confirmed == {**offered.confirmed, **contained}


def test_a_second_failure_does_not_hide_what_a_script_did() -> None:
    """One job waits, another has waited long enough: its script counts once it has run."""
    waited = Failure(1, NOW - timedelta(minutes=2), "no")
    device = replace(failing(_3=1), failures={"3": Failure(1, NOW, "no"), "4": waited})
    sent = jobs.offer(device, FOUR, OLD, NOW)
    assert [one.job_id for one in sent.open.jobs] == ["1", "2", "4"]
    confirmed = jobs.confirmed_by(device, FOUR, replace(OLD, check=sent.serial))
    assert confirmed == {"update-client": "2", "expert": "4"}
