"""The jobs table: the latest job of each type for each category, and its history beside it.

It must not choose which jobs a device gets (core/jobs.py).
"""

from pynamodb.attributes import JSONAttribute, UnicodeAttribute, UTCDateTimeAttribute

from chalicelib.core.jobs import EVERY_CATEGORY, JOB_TYPES, Job
from chalicelib.storage.connection import Item, Refused, Transaction, batch_get


class JobItem(Item):
    """One job; docs/data-model.md, jobs."""

    concept = "jobs"
    domain = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True)
    job_id = UnicodeAttribute()
    category = UnicodeAttribute()
    job_type = UnicodeAttribute()
    parameters = JSONAttribute()
    created_at = UTCDateTimeAttribute()
    created_by = UnicodeAttribute(null=True)


def put(job: Job) -> None:
    """Make a job the latest of its type, unless a later one is there already."""
    transaction = Transaction()
    transaction.put("history", _item(job, f"history#{job.job_id}"))
    latest = _item(job, f"{job.category}#{job.job_type}")
    transaction.put("latest", latest, JobItem.item.does_not_exist() | (JobItem.job_id < job.job_id))
    try:
        transaction.commit()
    except Refused:
        _item(job, f"history#{job.job_id}").save()


def find_matching(domain: str, category: str) -> list[Job]:
    """Read the latest jobs of a category and of every category, consistently, in one call."""
    keys = [
        (domain, f"{wanted}#{job_type}")
        for wanted in (category, EVERY_CATEGORY)
        for job_type in JOB_TYPES
    ]
    return [item.to(Job) for item in batch_get((JobItem, keys))[JobItem]]


def _item(job: Job, key: str) -> JobItem:
    item = JobItem.of(job)
    item.item = key
    return item
