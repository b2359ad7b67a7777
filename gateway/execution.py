"""Execution: carries out what is open for a device, over its sysclient's websocket.

A phone gets the lines of an update script one by one, each as a command of its own web server
(`GET /!config%20write`), in the order in which an update client gets them: firmware, then the
configuration. Each configuration job is written and activated by itself, so that its outcome is
its own.

A phone says that it has taken a command to load, not that it runs what it has loaded: it may
restart in the middle, and then this connection ends. So loading is never reported as done. Once
the phone is back, the builds in its identify decide (core/jobs.confirmed_by), as PROT and BOOT do
for update clients; software is reported done here only if these builds were right already, and
failed if the phone refuses to load. There is no CHECK: what it would say of a configuration
job is what is reported here.

It must not know which jobs are open, nor how outcomes are kept; and no reason that it gives
repeats anything of a line, for that may hold a password.
"""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from chalicelib.core import jobs, scripts
from chalicelib.core.devices import Facts
from chalicelib.core.jobs import Job, Plan
from chalicelib.core.scripts import Line
from chalicelib.roles.devices import Outcome
from gateway.frames import Configuration
from gateway.tunnel import ANSWER_SECONDS, BadAnswerError, NoAnswerError, Tunnel

LOAD_SECONDS = 300.0
"""How long a phone may take to answer a command to load: it may load first and answer then."""

Report = Callable[[str, Outcome, str], Awaitable[None]]
"""Takes a job_id, how the job ended, and why it failed (else empty)."""

_COMMENT = "#"
_GOOD = range(200, 300)


async def carry_out(
    plan: Plan, facts: Facts, hw_id: str, tunnel: Tunnel, report: Report
) -> frozenset[str]:
    """Carry out the open jobs of a phone; one that fails does not keep the others from theirs.

    Args:
        plan: what is open, secrets in clear.
        facts: what the phone said of itself on this connection.
        hw_id: 12 lower-case hex digits.
        report: hears of each job that has ended; what it raises ends everything.

    Returns:
        The job_ids of which only the phone's return will show whether they are done. They stay
        open, and are not to be carried out again on this connection.

    Raises:
        TunnelClosedError: the connection is lost; of the job at hand and those behind it
            nothing was reported.
    """
    awaited = frozenset[str]()
    if plan.software and facts.product:
        lines = jobs.firmware_lines(plan, facts)
        reason = await _run(lines, tunnel, LOAD_SECONDS)
        if reason or not lines:
            await _report(plan.software, reason, report)
        else:
            awaited = frozenset({plan.software.job_id})
    for job in plan.configuration:
        lines = (*jobs.configuration_lines([job], hw_id), scripts.WRITE, scripts.ACTIVATE)
        await _report(job, await _run(lines, tunnel, ANSWER_SECONDS), report)
    return awaited


async def _report(job: Job, reason: str, report: Report) -> None:
    await report(job.job_id, Outcome.FAILED if reason else Outcome.DONE, reason)


async def _run(lines: Sequence[Line], tunnel: Tunnel, timeout_seconds: float) -> str:
    """Run lines up to the first that fails.

    Returns:
        Why it failed, without what it was; empty if all went well.
    """
    for number, line in enumerate(lines, start=1):
        if line.text.startswith(_COMMENT):
            continue
        where = f"line {number} of {len(lines)}"
        try:
            answer = await tunnel.request(
                "GET", f"/!{quote(line.text, safe='')}", timeout_seconds=timeout_seconds
            )
        except (NoAnswerError, BadAnswerError) as error:
            return f"{where}: {error}"
        if answer.status not in _GOOD:
            return f"{where}: the phone answers {answer.status}"
    return ""


def configuration_frames(plan: Plan) -> tuple[Configuration, ...]:
    """Write the configuration jobs for a device of another vendor, which has no web server for us.

    What is in an item is ours, for the vendor does not say it: `id`, `type` and `parameters` of
    the job, as `GET /devices/{hw_id}/jobs` brings them. Software is none of it.

    Args:
        plan: what is open, secrets in clear.

    Returns:
        A frame for each job, the last one marked; none for none.
    """
    return tuple(
        Configuration(
            {"id": job.job_id, "type": job.job_type, "parameters": job.parameters},
            last=job is plan.configuration[-1],
        )
        for job in plan.configuration
    )
