"""PBXes: a domain's PBX, as its administrators see, set and test it.

It must not hand anything over (roles/handovers.py), nor know how a PBX is spoken to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib import settings
from chalicelib.core import addresses, user_objects
from chalicelib.core.errors import (
    ConflictError,
    Fault,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    PbxUnavailableError,
)
from chalicelib.core.rate_limits import LimitName
from chalicelib.core.user_objects import FindBy, Step
from chalicelib.roles.accesses import Connect, access_of, purpose_of
from chalicelib.roles.administration import administered, existing
from chalicelib.storage import audit, domains, handovers, limits, replications, vault
from chalicelib.storage.connection import Refused, Transaction

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking
    from chalicelib.storage.domains import Domain
    from chalicelib.storage.handovers import Handover, Standing
    from chalicelib.storage.replications import Replication

_PBX = "PBX"
CHECK_SECONDS = 20
SHOWN = 100
"""How many of the phones that wait are shown."""

MAX_COUNTED = 1_000
"""Where counting them stops."""


@dataclass(frozen=True)
class Overview:
    """A domain's PBX and how we stand with it.

    Args:
        standing: the trouble with it, None if there is none.
        waiting_count: how many phones it must still hear of, up to MAX_COUNTED.
        waiting: some of them, those first that it did not take.
        replication: what came of reading its users, None before the first time was asked for.
    """

    domain: "Domain"
    standing: "Standing | None"
    waiting_count: int
    waiting: "Sequence[Handover]"
    replication: "Replication | None"


@dataclass(frozen=True)
class Check:
    """What a test of the connection found.

    Args:
        trouble: why the PBX cannot be spoken to, None if it can.
        steps: step → whether it went well, None if it was not reached or cannot be told.
        is_known: whether the PBX has a user object for whoever tested.
    """

    trouble: user_objects.Trouble | None
    steps: Mapping[Step, bool | None]
    is_known: bool = False


def show(asking: "Asking", domain: str) -> Overview:
    """Show a domain's PBX and the phones that it must still hear of.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain, or it has no PBX.
    """
    known = _with_pbx(asking, domain)
    waiting = handovers.list_waiting(domain, MAX_COUNTED)
    return Overview(
        known,
        handovers.find_standing(domain),
        len(waiting),
        waiting[:SHOWN],
        replications.find(domain),
    )


def put(asking: "Asking", domain: str, wanted: Mapping[str, Any]) -> Overview:
    """Give a domain a PBX, or change how it is spoken to; it hears of all the domain's phones.

    Its users are read at once, too.

    Args:
        wanted: `address`, `app_object`, and what else is given of `password` (in clear) and
            `imports_users`, which else stay as they are, `find_by` and `flags`.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain.
        InvalidRequestError: the address is none, or not safe, or there is no password.
        ConflictError: somebody else changed it at this moment.
        LimitReachedError: too many of them.
    """
    known = administered(asking, domain)
    faults = _faults(known, wanted)
    if faults:
        raise InvalidRequestError(*faults)
    _demand_users_admin(asking, known, wanted)
    _charge(asking, domain)
    changes: dict[str, Any] = {
        "pbx_url": wanted["address"],
        "pbx_app": wanted["app_object"],
        "pbx_find_by": wanted.get("find_by", FindBy.SIP),
        "pbx_flags": list(wanted.get("flags", ())),
    }
    if "imports_users" in wanted:
        changes["pbx_imports_users"] = wanted["imports_users"]
    if wanted.get("password"):
        changes["sealed_pbx_password"] = vault.seal(wanted["password"], purpose_of(domain))
    transaction = Transaction()
    domains.change(transaction, domain, changes, known)
    domains.list_pbx(transaction, domain)
    handovers.add_redrive(transaction, domain, asking.now)
    replications.add_hurry(transaction, domain, asking.now)
    told = ", ".join(sorted(wanted))
    audit.add(transaction, asking.entry("PBX set", domain, domain=domain, detail=told))
    _commit(transaction)
    return show(asking, domain)


def delete(asking: "Asking", domain: str) -> None:
    """Take a domain's PBX away: its lists are kept here alone, and nothing changes at the PBX.

    Its phones show nothing of a PBX any more, soon after.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain.
    """
    administered(asking, domain)
    transaction = Transaction()
    names = (
        *("pbx_url", "pbx_app", "sealed_pbx_password", "pbx_find_by", "pbx_flags"),
        "pbx_imports_users",
    )
    domains.change(transaction, domain, dict.fromkeys(names, ""))
    domains.unlist_pbx(transaction, domain)
    handovers.add_redrive(transaction, domain, asking.now)
    replications.add_forget(transaction, domain)
    audit.add(transaction, asking.entry("PBX removed", domain, domain=domain))
    _commit(transaction)
    handovers.clear_standing(domain)


def redrive(asking: "Asking", domain: str) -> None:
    """Let a domain's PBX hear of all its phones once more, done or not, and at once.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain, or it has no PBX.
        LimitReachedError: too many of them.
    """
    _with_pbx(asking, domain)
    _charge(asking, domain)
    transaction = Transaction()
    handovers.add_redrive(transaction, domain, asking.now)
    audit.add(transaction, asking.entry("PBX told again", domain, domain=domain))
    transaction.commit()


def replicate(asking: "Asking", domain: str) -> None:
    """Let a domain's PBX be asked for its users at once.

    Raises:
        NotAllowedError: this person administers neither the domain's devices nor its users.
        NotFoundError: there is no such domain, or it has no PBX.
        LimitReachedError: too many of them.
    """
    if not asking.is_users_admin_of(domain):
        asking.demand_admin_of(domain)
    _demand_pbx(existing(domain))
    _charge(asking, domain)
    transaction = Transaction()
    replications.add_hurry(transaction, domain, asking.now)
    audit.add(transaction, asking.entry("users requested", domain, domain=domain))
    transaction.commit()


def check(asking: "Asking", domain: str, connect: Connect) -> Check:
    """Try to speak to a domain's PBX, and tell how far that goes.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain, or it has no PBX.
        LimitReachedError: too many of them.
    """
    known = _with_pbx(asking, domain)
    _charge(asking, domain)
    try:
        with connect(access_of(known), CHECK_SECONDS) as pbx:
            # any name will do: that it is answered shows that we may ask
            found = pbx.find(FindBy.SIP, asking.person.sip)
            apis = pbx.apis
    except PbxUnavailableError as error:
        trouble = user_objects.Trouble(error.trouble)
        return Check(trouble, user_objects.steps_until(trouble, known.pbx_url))
    return Check(None, user_objects.steps_of(known.pbx_url, apis), found is not None)


def _charge(asking: "Asking", domain: str) -> None:
    """Count what makes us connect to a PBX: an address can be anybody's."""
    limits.reserve(settings.current().limits[LimitName.PBX_REQUESTS], domain, asking.now)


def _faults(known: "Domain", wanted: Mapping[str, Any]) -> list[Fault]:
    schemes = ("wss", "ws") if settings.current().pbx_plain else ("wss",)
    faults = list(addresses.url_faults("address", wanted["address"], schemes))
    is_elsewhere = known.pbx_url not in {"", wanted["address"]}
    if not wanted.get("password") and (is_elsewhere or not known.sealed_pbx_password):
        # a password that was told for one PBX is not sent to another
        faults.append(Fault("password", "is missing"))
    return faults


def _demand_users_admin(asking: "Asking", known: "Domain", wanted: Mapping[str, Any]) -> None:
    """Refuse to let a PBX add users that whoever asks may not add."""
    imports = wanted.get("imports_users", known.pbx_imports_users)
    is_as_before = known.pbx_imports_users and known.pbx_url == wanted["address"]
    is_allowed = asking.is_platform_admin or asking.is_users_admin_of(known.domain)
    if imports and not is_as_before and not is_allowed:
        raise NotAllowedError("not a users-admin")


def _commit(transaction: Transaction) -> None:
    try:
        transaction.commit()
    except Refused as refused:
        if refused.items.get("domain") is None:
            raise NotFoundError("domain") from None
        raise ConflictError(f"somebody else changed this {_PBX} at this moment") from None


def _with_pbx(asking: "Asking", domain: str) -> "Domain":
    return _demand_pbx(administered(asking, domain))


def _demand_pbx(found: "Domain") -> "Domain":
    if not found.pbx_url:
        raise NotFoundError(_PBX)
    return found
