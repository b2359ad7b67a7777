from collections.abc import Callable
from datetime import timedelta

import pytest

from chalicelib.core.jobs import SOFTWARE, Job
from chalicelib.storage import audit, jobs
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
DOMAIN = "example.com"
ENTRY = audit.Entry(DOMAIN, NOW, "job deleted", "admin", "a job", "192.0.2.1")
FIRST, SECOND, THIRD, FOURTH = "1" * 26, "2" * 26, "3" * 26, "4" * 26


def made(job_id: str, category: str = "Office", job_type: str = "expert") -> Job:
    """Make a job and keep it."""
    job = Job(job_id, DOMAIN, category, job_type, {"lines": [f"# {job_id}"]}, NOW, "admin")
    jobs.put(job)
    return job


def latest(category: str = "Office") -> list[str]:
    """Tell which jobs a category's devices get."""
    return sorted(job.job_id for job in jobs.find_matching(DOMAIN, category))


def kept() -> list[str]:
    """Tell every job that is kept."""
    return [job.job_id for job in jobs.find_all(DOMAIN)]


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen once, after the next deletion has read the history."""
    real = jobs._history  # noqa: SLF001 - the moment between its read and its write

    def read(domain: str, prefix: str) -> list[Job]:
        found = real(domain, prefix)
        monkeypatch.setattr(jobs, "_history", real)
        happens()
        return found

    monkeypatch.setattr(jobs, "_history", read)


def test_a_deleted_job_gives_way_to_the_one_before() -> None:
    """The latest brings the one before back, the only one leaves none."""
    first, second, third = made(FIRST), made(SECOND), made(THIRD)
    assert jobs.delete(third, ENTRY)
    assert (latest(), kept()) == ([SECOND], [SECOND, FIRST])
    assert jobs.find_of_category(DOMAIN, "Office") == [second]
    assert jobs.delete(second, ENTRY)
    assert latest() == [FIRST]
    assert jobs.delete(first, ENTRY)
    assert (latest(), kept()) == ([], [])
    assert not jobs.delete(first, ENTRY)


def test_an_older_job_is_deleted_without_a_change_for_anybody() -> None:
    """Nor does it come back when the latest goes."""
    first, second, third = made(FIRST), made(SECOND), made(THIRD)
    assert jobs.delete(second, ENTRY)
    assert (latest(), kept()) == ([THIRD], [THIRD, FIRST])
    assert jobs.delete(third, ENTRY)
    assert jobs.find_matching(DOMAIN, "Office") == [first]


def test_jobs_of_other_types_and_categories_are_not_touched() -> None:
    """Each type of each category has its own latest."""
    others = [made(SECOND, "*"), made(FIRST, "Office", "ntp"), made(FIRST, "Office", SOFTWARE)]
    reception = made(FOURTH, "Reception")
    third = made(THIRD)
    assert jobs.delete(third, ENTRY)
    found = jobs.find_matching(DOMAIN, "Office")
    assert sorted(found, key=repr) == sorted(others, key=repr)
    assert jobs.find_of_category(DOMAIN, "*") == [others[0]]
    assert jobs.find_of_category(DOMAIN, "Reception") == [reception]


def test_a_deletion_that_races_with_a_newer_job_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newer job stays the latest, and the one to be deleted its history."""
    made(FIRST)
    second = made(SECOND)
    meanwhile(monkeypatch, lambda: made(THIRD))
    assert not jobs.delete(second, ENTRY)
    assert (latest(), kept()) == ([THIRD], [THIRD, SECOND, FIRST])
    assert jobs.delete(second, ENTRY)
    assert (latest(), kept()) == ([THIRD], [THIRD, FIRST])


def test_an_only_job_that_is_deleted_while_a_newer_one_comes_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newer one is not taken away instead."""
    first = made(FIRST)
    meanwhile(monkeypatch, lambda: made(SECOND))
    assert not jobs.delete(first, ENTRY)
    assert (latest(), kept()) == ([SECOND], [SECOND, FIRST])


def test_an_older_job_that_becomes_the_latest_meanwhile_is_not_half_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What devices get is always in the history."""
    first, second = made(FIRST), made(SECOND)
    meanwhile(monkeypatch, lambda: jobs.delete(second, ENTRY))
    assert not jobs.delete(first, ENTRY)
    assert (latest(), kept()) == ([FIRST], [FIRST])


def test_a_job_that_was_deleted_meanwhile_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two administrators delete the latest and the one before it at once."""
    made(FIRST)
    second, third = made(SECOND), made(THIRD)
    meanwhile(monkeypatch, lambda: jobs.delete(second, ENTRY))
    assert not jobs.delete(third, ENTRY)
    assert (latest(), kept()) == ([THIRD], [THIRD, FIRST])
    assert jobs.delete(third, ENTRY)
    assert latest() == [FIRST]


def test_a_deletion_and_its_audit_entry_are_one_write() -> None:
    """Who deleted what stands in the trail, and nothing of a deletion that did not happen."""
    first = made(FIRST)
    jobs.delete(first, ENTRY)
    jobs.delete(first, ENTRY)
    assert audit.list_month(DOMAIN, "2036-11", 10, None).items == [ENTRY]


def test_jobs_are_found_by_id_in_their_domain_alone() -> None:
    """Software and configuration alike."""
    software, expert = made(FIRST, job_type=SOFTWARE), made(SECOND)
    assert jobs.find(DOMAIN, FIRST) == software
    assert jobs.find(DOMAIN, SECOND) == expert
    assert jobs.find(DOMAIN, THIRD) is None
    assert jobs.find("other.example", FIRST) is None


def test_jobs_are_listed_newest_first_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Software apart from configuration, each once; the whole history in many pages."""
    for position in range(5):
        at = NOW + timedelta(seconds=position)
        for job_type in (SOFTWARE, "expert"):
            job = Job(f"{position}" * 26, DOMAIN, "Office", job_type, {}, at)
            jobs.put(job)
    for list_some, job_type in (
        (jobs.list_software, SOFTWARE),
        (jobs.list_configuration, "expert"),
    ):
        listed: list[Job] = []
        after = None
        while True:
            page = list_some(DOMAIN, 2, after)
            listed += page.items
            after = page.next_after
            if after is None:
                break
        assert [job.job_id[0] for job in listed] == ["4", "3", "2", "1", "0"]
        assert {job.job_type for job in listed} == {job_type}
    monkeypatch.setattr(jobs, "_MAX_PAGE", 2)
    assert [job.job_id[0] for job in jobs.find_all(DOMAIN)] == [*"43210", *"43210"]


def test_a_later_job_of_either_kind_is_noticed() -> None:
    """Of one category or of every one; of another domain it is not."""
    assert jobs.newest(DOMAIN) == ()
    made(FIRST)
    assert jobs.newest(DOMAIN) == (FIRST,)
    made(SECOND, "*", "ntp")
    assert jobs.newest(DOMAIN) == (SECOND,)
    made(THIRD, job_type=SOFTWARE)
    assert jobs.newest(DOMAIN) == (THIRD, SECOND)
    assert jobs.newest("other.example") == ()
