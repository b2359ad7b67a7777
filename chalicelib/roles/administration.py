"""Administration: a domain, for whoever may administer it; the same for every role that does.

It must not change anything.
"""

from typing import TYPE_CHECKING

from chalicelib.core.errors import NotFoundError
from chalicelib.storage import domains

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking
    from chalicelib.storage.domains import Domain


def administered(asking: "Asking", domain: str) -> "Domain":
    """Find a domain whose devices this person administers.

    Raises:
        NotAllowedError: this person does not, whether or not it exists.
        NotFoundError: there is no such domain.
    """
    asking.demand_admin_of(domain)
    return existing(domain)


def existing(domain: str) -> "Domain":
    """Find a domain.

    Raises:
        NotFoundError: there is none.
    """
    found = domains.find(domain)
    if found is None:
        raise NotFoundError("domain")
    return found
