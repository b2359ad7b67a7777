"""Explanations: why a device gets a job, or does not, by the functions that delivery uses.

It must not have a rule of its own: core/jobs.py judges and offers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chalicelib.core.devices import Device
from chalicelib.core.jobs import Fit, Job, Verdict, judge, offer, plan_for


class Standing(StrEnum):
    """Where a matching job stands with one device."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    PAUSED = "paused after a failure"


@dataclass(frozen=True)
class Explanation:
    """Why a device gets a job, or does not.

    Args:
        standing: of a job that matches, else None.
    """

    verdict: Verdict
    standing: Standing | None


def explain(
    device: Device, category: str, jobs: Iterable[Job], now: datetime
) -> tuple[Explanation, ...]:
    """Explain every job for a device, by the functions that delivery uses.

    Args:
        category: the device's own, or another one for a move that is only thought of.
    """
    given, is_analogue = tuple(jobs), bool(device.gateway)
    plan = plan_for(device.domain, category, given, is_analogue=is_analogue)
    offered = offer(device, plan, device.facts, now)
    done = set(offered.confirmed.values())

    def standing(verdict: Verdict) -> Standing | None:
        if verdict.fit is not Fit.MATCHES:
            return None
        if verdict.job.job_id in done:
            return Standing.CONFIRMED
        return Standing.PAUSED if verdict.job.job_id in offered.paused else Standing.OPEN

    verdicts = judge(device.domain, category, given, is_analogue=is_analogue)
    return tuple(Explanation(verdict, standing(verdict)) for verdict in verdicts)
