"""The jobs table: the latest job of each type for each category, and its history beside it.

It must not choose which jobs a device gets (core/jobs.py), nor unseal their secrets.
"""

from typing import TYPE_CHECKING

from pynamodb.attributes import JSONAttribute, UnicodeAttribute, UTCDateTimeAttribute

from chalicelib.core.jobs import EVERY_CATEGORY, JOB_TYPES, SOFTWARE, Job
from chalicelib.loading import on_use
from chalicelib.storage.connection import Item, Refused, Transaction, batch_get

if TYPE_CHECKING:
    from chalicelib.storage import audit, lists
    from chalicelib.storage.lists import Page, Span
else:
    # a poll writes no job, and asks for no list
    audit = on_use("chalicelib.storage.audit")
    lists = on_use("chalicelib.storage.lists")

_SOFTWARE = "history#software#"
_CONFIGURATION = "history#config#"
_MAX_PAGE = 1_000


class JobItem(Item):
    """One job; docs/data-model.md, jobs."""

    concept = "jobs"
    domain = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True)
    job_id = UnicodeAttribute()
    category = UnicodeAttribute()
    job_type = UnicodeAttribute()
    parameters = JSONAttribute()
    sealed_parameters = UnicodeAttribute(null=True)
    created_at = UTCDateTimeAttribute()
    created_by = UnicodeAttribute(null=True)


def put(job: Job, entry: "audit.Entry | None" = None) -> None:
    """Make a job the latest of its type, unless a later one is there already.

    Args:
        entry: of the audit trail, written with it.
    """
    transaction = _with_history(job, entry)
    is_later = JobItem.item.does_not_exist() | (JobItem.job_id < job.job_id)
    transaction.put("latest", _item(job, _latest_key(job)), is_later)
    try:
        transaction.commit()
    except Refused:
        _with_history(job, entry).commit()


def delete(job: Job, entry: "audit.Entry") -> bool:
    """Delete a job; if it was the latest of its type for its category, the one before is again.

    Returns:
        False if another job of that type was made or deleted meanwhile: nothing was written.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    history = [
        other
        for other in _history(job.domain, _prefix(job))
        if _latest_key(other) == _latest_key(job)
    ]
    others = [other for other in history if other.job_id != job.job_id]
    transaction = Transaction()
    audit.add(transaction, entry)
    transaction.delete("history", JobItem(job.domain, _history_key(job)), JobItem.item.exists())
    latest = JobItem(job.domain, _latest_key(job))
    if others and max(other.job_id for other in others) > job.job_id:
        transaction.check(
            "latest", JobItem, (job.domain, _latest_key(job)), JobItem.job_id > job.job_id
        )
    elif others:
        before = max(others, key=lambda other: other.job_id)
        kept = (job.domain, _history_key(before))
        transaction.check("before", JobItem, kept, JobItem.item.exists())
        transaction.put("latest", _item(before, _latest_key(before)), JobItem.job_id == job.job_id)
    else:
        transaction.delete("latest", latest, JobItem.job_id == job.job_id)
    try:
        transaction.commit()
    except Refused:
        return False
    return True


def find(domain: str, job_id: str) -> Job | None:
    """Read a job by its id, consistently."""
    keys = [(domain, f"{prefix}{job_id}") for prefix in (_SOFTWARE, _CONFIGURATION)]
    found = batch_get((JobItem, keys))[JobItem]
    return found[0].to(Job) if found else None


def find_matching(domain: str, category: str) -> list[Job]:
    """Read the latest jobs of a category and of every category, consistently, in one call."""
    return _latest(domain, (category, EVERY_CATEGORY))


def find_of_category(domain: str, category: str) -> list[Job]:
    """Read the latest jobs that are for one category alone, consistently."""
    return _latest(domain, (category,))


def list_software(domain: str, limit: int, after: str | None) -> "Page[Job]":
    """List a domain's software jobs, newest first, consistently."""
    return _page(domain, lists.Span(_SOFTWARE, limit, after, newest_first=True))


def list_configuration(domain: str, limit: int, after: str | None) -> "Page[Job]":
    """List a domain's configuration jobs, newest first, consistently."""
    return _page(domain, lists.Span(_CONFIGURATION, limit, after, newest_first=True))


def find_all(domain: str) -> list[Job]:
    """Read every job of a domain, newest first, software before configuration."""
    return [*_history(domain, _SOFTWARE), *_history(domain, _CONFIGURATION)]


def newest(domain: str) -> tuple[str, ...]:
    """Tell the newest job of each kind of a domain by its job_id, so that a later one is noticed.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    pages = (
        lists.query(JobItem, domain, lists.Span(prefix, 1, newest_first=True))
        for prefix in (_SOFTWARE, _CONFIGURATION)
    )
    return tuple(item["job_id"]["S"] for page in pages for item in page.items)


def _with_history(job: Job, entry: "audit.Entry | None") -> Transaction:
    transaction = Transaction()
    transaction.put("history", _item(job, _history_key(job)))
    if entry is not None:
        audit.add(transaction, entry)
    return transaction


def _history(domain: str, prefix: str) -> list[Job]:
    jobs: list[Job] = []
    page = _page(domain, lists.Span(prefix, _MAX_PAGE, newest_first=True))
    jobs += page.items
    while page.next_after is not None:
        page = _page(domain, lists.Span(prefix, _MAX_PAGE, page.next_after, newest_first=True))
        jobs += page.items
    return jobs


def _latest(domain: str, categories: tuple[str, ...]) -> list[Job]:
    keys = [(domain, f"{category}#{job_type}") for category in categories for job_type in JOB_TYPES]
    return [item.to(Job) for item in batch_get((JobItem, keys))[JobItem]]


def _page(domain: str, span: "Span") -> "Page[Job]":
    page = lists.query(JobItem, domain, span)
    return lists.Page([JobItem.from_raw_data(item).to(Job) for item in page.items], page.next_after)


def _prefix(job: Job) -> str:
    return _SOFTWARE if job.job_type == SOFTWARE else _CONFIGURATION


def _history_key(job: Job) -> str:
    return f"{_prefix(job)}{job.job_id}"


def _latest_key(job: Job) -> str:
    return f"{job.category}#{job.job_type}"


def _item(job: Job, key: str) -> JobItem:
    item = JobItem.of(job)
    item.item = key
    return item
