"""A session: one phone's websocket, from its first word to its end.

    identify ─┬─ the domain has it ──── 0002 challenge ─ identify with its digest ─┐
              ├─ a code, or the address ─ 0001 password ───────────────────────────┴─ online
              └─ neither ─ unassigned: stays, and may identify again with a code

An online phone gets what is open for it at once, whenever it is woken, and whenever it says anew
who it is. It must not know the transport, nor any other phone; nobody else notices how it ends.

Source: the vendor's sysclient description; docs/sysclient.md.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from chalicelib import observability
from chalicelib.core import sysclient_login
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.codes import read_entry
from chalicelib.core.devices import Device, Facts
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    DeviceElsewhereError,
    DialtoneError,
    InvalidRequestError,
    LimitReachedError,
    MalformedFrameError,
    NotFoundError,
    NotSignedInError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.core.jobs import ADMIN_PASSWORD, Job, Plan
from chalicelib.roles import analogue_phones, devices, registrations, sysclients
from chalicelib.roles.devices import Outcome, Report, Visit
from chalicelib.roles.sysclients import Credentials, Proof
from chalicelib.storage import vault
from gateway import execution, frames
from gateway.frames import (
    AdminFrame,
    AdminPassword,
    Challenge,
    Identify,
    Provision,
    ProvisionResult,
    SysclientPassword,
    TunnelFrame,
)
from gateway.tunnel import Tunnel, TunnelClosedError, UnexpectedFrameError

IDENTIFY_SECONDS = 30.0
"""How long a phone may take to say who it is, and to prove it."""

UNASSIGNED_SECONDS = 3_600.0
"""How long one that has nothing to show may stay; a phone comes back."""

MAX_IDENTIFIES = 20
"""How often it may say so on one connection."""

PROTOCOL_ERROR, UNSUPPORTED, POLICY = 1002, 1003, 1008
DEFECT, RESTART, LATER = 1011, 1012, 1013
"""Close codes. Source: RFC 6455, 7.4.1, and its registry."""


class Socket(Protocol):
    """What a session needs of a websocket."""

    async def receive(self) -> bytes | str | None:
        """Wait for the next message; None at the end."""

    async def send(self, frame: bytes) -> None:
        """Send a binary message.

        Raises:
            LostError: nobody is there.
        """

    async def settle(self) -> None:
        """Wait until the phone has got all that was sent.

        Raises:
            LostError: nobody knows whether it has.
        """

    async def close(self, code: int, reason: str) -> None:
        """Close it; one that is closed stays as it is."""


@dataclass(frozen=True)
class Arrival:
    """How a phone came.

    Args:
        domain: whose address it came to.
        source: in the form of rate_limits.source_of.
        claim: of automatic provisioning, None if its address holds none.
    """

    domain: str
    source: str
    claim: Claim | None = None


class Standing(StrEnum):
    """How far a phone has come."""

    NEW = "new"
    CHALLENGED = "challenged"
    UNASSIGNED = "unassigned"
    ONLINE = "online"


class LostError(Exception):
    """The connection has ended, and nobody closed it."""


class HangUpError(Exception):
    """The connection is to be closed.

    Args:
        code: a close code.
        reason: for the phone and the log alike, so nothing that it may not know.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """One connection of a phone.

    Args:
        connection: who holds it, and under which number (core/devices.py).
        arrived: is told once it is online, before it gets its jobs.
        now: tells the time.

    Attributes:
        hw_id: as it was told, proven or not; empty before.
        connection: as the device's row has it, as long as this is the device's.
        is_put_off: it could not be served the last time that it was woken.
    """

    def __init__(
        self,
        socket: Socket,
        arrival: Arrival,
        connection: str,
        arrived: Callable[["Session"], None],
        now: Callable[[], datetime],
    ) -> None:
        self.arrival = arrival
        self.standing = Standing.NEW
        self.hw_id = ""
        self.is_put_off = False
        self.tunnel = Tunnel(self._send_bytes)
        self._socket = socket
        self.connection = connection
        self._arrived = arrived
        self._now = now
        self._challenge = ""
        self._identified_count = 0
        self._said: Identify | None = None
        self._credentials = Credentials("", "")
        self._awaited: frozenset[str] = frozenset()
        self._is_woken = False
        self._noting: asyncio.Task[Plan] | None = None
        self._plan: Plan | None = None
        self._visiting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Converse until the connection ends, whoever ends it."""
        try:
            async with asyncio.timeout(IDENTIFY_SECONDS) as deadline:
                while (received := await self._socket.receive()) is not None:
                    await self._take(received)
                    if self.standing is Standing.ONLINE:
                        deadline.reschedule(None)
                    elif self.standing is Standing.UNASSIGNED:
                        now = asyncio.get_running_loop().time()
                        deadline.reschedule(now + UNASSIGNED_SECONDS)
        except Exception as error:  # noqa: BLE001 - the last line of defence, and each has its end
            await self._end(error)
        finally:
            await self._leave()

    def wake(self) -> None:
        """Let it look for what is open, now or after what it is doing; not once it leaves."""
        if self.standing is not Standing.ONLINE:
            return
        self._is_woken = True
        if self._visiting is None or self._visiting.done():
            self._visiting = asyncio.create_task(self._visit())

    async def close(self, code: int, reason: str) -> None:
        """Close the connection; `run` ends by that."""
        self._log("hung up", code=code, reason=reason)
        await self._socket.close(code, reason)

    async def _take(self, received: bytes | str) -> None:
        if isinstance(received, str):
            raise HangUpError(UNSUPPORTED, "a text frame")
        frame = frames.parse(received)
        if isinstance(frame, TunnelFrame):
            self._log_tunnel("from phone", frame)
            self.tunnel.take(frame)
            # reading it may have taken its time, and the next frame may be here: now the others
            await asyncio.sleep(0)
            return
        self._log(
            "from phone", kind=f"{frame.message:04x}", said=repr(frame), brings=_brought(frame)
        )
        match frame:
            case Identify():
                await self._identify(frame)
            case Provision():
                await self._provision(frame)
            case _:
                raise HangUpError(PROTOCOL_ERROR, "only Devices says that")

    async def _identify(self, said: Identify) -> None:
        """Take who the phone says it is, and find out what that is worth."""
        self._identified_count += 1
        if self._identified_count > MAX_IDENTIFIES:
            raise HangUpError(POLICY, "identifies again and again")
        if self.hw_id not in {"", said.hw_id}:
            raise HangUpError(POLICY, "identifies with another id")
        self.hw_id, self._said = said.hw_id, said
        if self.standing is Standing.ONLINE:
            self.wake()
            return
        challenge, self._challenge = self._challenge, ""
        known = await asyncio.to_thread(
            sysclients.find_known, said.hw_id, self.arrival.domain, self._now()
        )
        if known and not challenge and (sysclients.has_its_password(known) or not self._brings()):
            await self._ask_for_proof()
        elif known and challenge and await self._is_proven(known, challenge):
            await self._arrive("returned")
        elif self._brings():
            await self._register(is_known=known is not None)
        elif known:
            observability.count("WrongDigest")
            raise HangUpError(POLICY, "a wrong digest")
        else:
            self._stay_unassigned("neither a code nor a domain's token")

    def _brings(self) -> bool:
        """Tell whether it brings anything that could register it."""
        entered = read_entry(self._said.provisioning_code) if self._said else None
        return entered is not None or self.arrival.claim is not None

    async def _ask_for_proof(self) -> None:
        self._challenge = vault.new_sysclient_challenge()
        self.standing = Standing.CHALLENGED
        await self._send(Challenge(self._challenge))

    async def _is_proven(self, known: Device, challenge: str) -> bool:
        """Tell whether the phone knows its password, and keep what is its own if it does."""
        said = self._identity
        own = await asyncio.to_thread(sysclients.credentials, known)
        proof = Proof(said.id, said.product, said.version, challenge, said.digest)
        if not sysclients.is_proven(proof, own.password):
            return False
        self._credentials = own
        return True

    async def _register(self, *, is_known: bool) -> None:
        """Register the phone by what it brings; a code counts more than its address."""
        said = self._identity
        entry = read_entry(said.provisioning_code)
        visit = Visit(
            self.hw_id,
            _facts(said),
            entry,
            None,
            self.arrival.source,
            update_url="",
            claim=self.arrival.claim,
            domain=self.arrival.domain,
        )
        grounds = entry or self.arrival.claim
        assert grounds is not None  # noqa: S101 - or this would not have been asked for
        try:
            made = await asyncio.to_thread(registrations.register, visit, grounds, self._now())
        except (CodeNotRedeemableError, DeviceElsewhereError) as error:
            if is_known:
                raise HangUpError(POLICY, "a wrong digest, and nothing else that counts") from None
            self._stay_unassigned(f"refused: {error.refusal}")
            return
        self._credentials = await asyncio.to_thread(sysclients.credentials, made.device)
        await self._send(SysclientPassword(self._credentials.password))
        # from here on its password is asked for: it must have it
        await self._socket.settle()
        await self._arrive("registered")

    def _stay_unassigned(self, why: str) -> None:
        self.standing = Standing.UNASSIGNED
        observability.count("PhoneConnected", outcome="unassigned")
        self._log("unassigned", why=why)

    async def _arrive(self, outcome: str) -> None:
        """Let the domain have the phone online, and the phone have its jobs."""
        # a thread goes on when nobody waits for it any more; whoever leaves does
        self._noting = asyncio.create_task(self._look(is_new=True))
        self._plan = await asyncio.shield(self._noting)
        self.standing = Standing.ONLINE
        observability.count("PhoneConnected", outcome=outcome)
        self._log("online", outcome=outcome)
        self._arrived(self)
        self.wake()

    async def _visit(self) -> None:
        """Bring the phone what is open, as long as there is more; one visit at a time."""
        try:
            while self._is_woken:
                self._is_woken = self.is_put_off = False
                plan, self._plan = self._plan or await self._look(), None
                await self._carry_out(plan.without(self._awaited))
        except StoreUnavailableError as error:
            # what was not done is open at the next visit
            self.is_put_off = True
            self._log("visit put off", why=error.what)
        except (LostError, TunnelClosedError):
            self._log("cut off at its jobs")
        except Exception as error:  # noqa: BLE001 - the last line of defence, as in run
            await self._end(error)

    async def _look(self, *, is_new: bool = False) -> Plan:
        """Look what is open for a phone that is here, and let it be known here."""
        # also later: a late write, of a connection that has gone, may have taken this one away
        return await asyncio.to_thread(
            devices.arrive,
            self.hw_id,
            self._credentials.token,
            _facts(self._identity),
            self._now(),
            connection=self.connection,
            is_new=is_new,
        )

    async def _carry_out(self, plan: Plan) -> None:
        """Bring the phone its open jobs, each in the way that its kind of device takes it."""
        if plan.jobs:
            self._log("jobs", open=[f"{job.job_type} {job.job_id}" for job in plan.jobs])
        admin = [job for job in plan.configuration if job.job_type == ADMIN_PASSWORD]
        for job in admin:
            await self._set_admin_password(job)
        rest = plan.without([job.job_id for job in admin])
        if self._identity.other:
            await self._configure(rest)
        else:
            self._awaited |= await execution.carry_out(
                rest, _facts(self._identity), self.hw_id, self.tunnel, self._report
            )

    async def _set_admin_password(self, job: Job) -> None:
        """Set the administrator's password in the way that the protocol has for it."""
        seed = vault.new_seed()
        password = str(job.parameters["password"])
        encrypted = sysclient_login.encrypt(password, seed, self._credentials.password)
        await self._send(AdminPassword(seed, encrypted))
        await self._socket.settle()
        await self._report(job.job_id, Outcome.DONE, "")

    async def _configure(self, plan: Plan) -> None:
        """Give a device of another vendor its items; it has them once it has answered a ping."""
        for frame in execution.configuration_frames(plan):
            await self._send(frame)
        await self._socket.settle()
        for job in plan.configuration:
            await self._report(job.job_id, Outcome.DONE, "")

    async def _report(self, job_id: str, outcome: Outcome, reason: str) -> None:
        """Keep how a job ended; one that was deleted meanwhile has no end.

        Raises:
            LostError: it seems to have failed, and the phone is not there.
        """
        if outcome is Outcome.FAILED:
            # a connection that died in silence answers nothing either, and must undo nothing that
            # the phone's next one has done meanwhile
            await self._socket.settle()
        self._log("job", job_id=job_id, outcome=outcome, reason=reason)
        report = Report(job_id, outcome, reason)
        try:
            await asyncio.to_thread(
                devices.report_job, self.hw_id, self._credentials.token, report, self._now()
            )
        except NotFoundError:
            self._log("job is gone", job_id=job_id)

    async def _provision(self, said: Provision) -> None:
        """Register the analogue phone at an interface, or say that its code is none."""
        if self.standing is not Standing.ONLINE:
            raise HangUpError(POLICY, "speaks for a phone and is nobody")
        entry = read_entry(said.code)
        try:
            if entry is None:
                raise CodeNotRedeemableError(Refusal.MALFORMED)
            gateway = await asyncio.to_thread(devices.show, self.hw_id, self._credentials.token)
            register = analogue_phones.register
            source = self.arrival.source
            await asyncio.to_thread(register, gateway, said.id, entry, source, self._now())
        except NotSignedInError:
            raise
        except DialtoneError as error:
            await self._send(ProvisionResult(_refusal_of(error)))
        else:
            await self._send(ProvisionResult())

    async def _send(self, frame: AdminFrame) -> None:
        self._log("to phone", kind=f"{frame.message:04x}", said=repr(frame))
        await self._socket.send(bytes(frame))

    async def _send_bytes(self, written: bytes) -> None:
        """Write a frame of the tunnel."""
        self._log_tunnel("to phone", written)
        await self._socket.send(written)

    async def _end(self, error: Exception) -> None:
        """Close the connection for what has happened, and say why."""
        if isinstance(error, LostError):
            return
        end = _end_of(error)
        if end.code == DEFECT:
            observability.logger().exception("session failed", extra={"hw_id": self.hw_id})
        elif isinstance(error, MalformedFrameError):
            self._log("malformed frame", faults=str(error))
        observability.count("PhoneHungUp", code=str(end.code))
        await self.close(end.code, end.reason)

    async def _leave(self) -> None:
        """Leave nothing behind: no request, no visit, no word that the phone is here."""
        self.standing = Standing.NEW
        self.tunnel.close()
        if self._visiting is not None:
            # not cancelled: what the phone has done is kept, also if it restarted right after
            self._is_woken = False
            await self._visiting
        if self._noting is None:
            return
        # it may have been noted although that failed, or took too long
        await asyncio.gather(self._noting, return_exceptions=True)
        try:
            await asyncio.to_thread(sysclients.disconnect, self.hw_id, self.connection, self._now())
        except StoreUnavailableError as error:
            self._log("not noted as away", why=error.what)

    @property
    def _identity(self) -> Identify:
        """What the phone last said of itself."""
        assert self._said is not None  # noqa: S101 - nobody gets here without
        return self._said

    def _log_tunnel(self, what: str, said: bytes | TunnelFrame) -> None:
        """Write a frame of the tunnel down, without its data, for whoever follows one phone."""
        logger = observability.logger()
        if logger.log_level <= logging.DEBUG:
            frame = frames.parse(said) if isinstance(said, bytes) else said
            logger.debug(what, extra={"hw_id": self.hw_id, "said": repr(frame)})

    def _log(self, what: str, **more: object) -> None:
        observability.logger().info(what, extra={"hw_id": self.hw_id, **more})


def _refusal_of(error: DialtoneError) -> str:
    """Say to a gateway why its phone is not registered: one answer for every code that is none."""
    match error:
        case LimitReachedError() | StoreUnavailableError():
            return f"try again in {error.retry_after_seconds} seconds"
        case InvalidRequestError():
            return str(error)
        case _:
            return "the code cannot be redeemed"


_ENDS: tuple[tuple[type[Exception], int, str], ...] = (
    (TimeoutError, POLICY, "did not say in time who it is"),
    (MalformedFrameError, PROTOCOL_ERROR, "a malformed frame"),
    (UnexpectedFrameError, PROTOCOL_ERROR, "a tunnel frame that nobody can have asked for"),
    (NotSignedInError, POLICY, "released"),
    (LimitReachedError, LATER, "try again later"),
    (StoreUnavailableError, LATER, "try again later"),
)
"""How a connection ends with what has happened; with anything else it is a defect of ours."""


def _end_of(error: Exception) -> HangUpError:
    if isinstance(error, HangUpError):
        return error
    for kind, code, reason in _ENDS:
        if isinstance(error, kind):
            return HangUpError(code, reason)
    return HangUpError(DEFECT, "something went wrong on our side")


def _brought(frame: AdminFrame) -> list[str]:
    """Name the secrets in what a phone says, which are not told."""
    if not isinstance(frame, Identify):
        return []
    told = {"provisioningCode": frame.provisioning_code, "digest": frame.digest}
    return [name for name, secret in told.items() if secret]


def _facts(said: Identify) -> Facts:
    """Tell what a phone says of itself."""
    addresses = (each.ipv4 or each.ipv6 for each in said.eth_ifs)
    return Facts(
        product=said.product,
        version=said.version,
        prot=said.fw_build,
        boot=said.bc_build,
        local_ip=next(filter(None, addresses), ""),
        name=said.name,
        device_type=said.platform.type,
    )
