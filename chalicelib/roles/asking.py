"""Who asks for something, and what they may ask for: the same for every role that people use.

It must not know how a person signed in, nor read anything.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.core.errors import NotAllowedError
from chalicelib.storage import audit

if TYPE_CHECKING:
    from chalicelib.identity import Person

PLATFORM_ADMIN = "platform-admin"
DEVICES_ADMIN = "devices-admin"
USERS_ADMIN = "users-admin"
UPDATE_PATH = "/devices/update"


@dataclass(frozen=True)
class Asking:
    """Who asks for something, from where and when.

    Args:
        source: in the form of rate_limits.source_of.
        base_url: our own, without a final slash.
    """

    person: "Person"
    source: str
    base_url: str
    now: datetime

    @property
    def update_url(self) -> str:
        """Our URL for update clients, where phones go if their domain names no other."""
        return f"{self.base_url}{UPDATE_PATH}"

    @property
    def is_platform_admin(self) -> bool:
        """Tell whether this person administers every domain."""
        return PLATFORM_ADMIN in self.person.roles

    def demand_platform_admin(self) -> None:
        """Refuse everybody else.

        Raises:
            NotAllowedError: this person does not administer the platform.
        """
        if not self.is_platform_admin:
            raise NotAllowedError("not a platform-admin")

    def demand_admin(self) -> None:
        """Refuse whoever administers no devices at all.

        Raises:
            NotAllowedError: this person is neither a devices-admin nor a platform-admin.
        """
        if not self.is_platform_admin and DEVICES_ADMIN not in self.person.roles:
            raise NotAllowedError("not a devices-admin")

    def demand_admin_of(self, domain: str) -> None:
        """Refuse whoever does not administer the devices of a domain, whether or not it exists.

        Raises:
            NotAllowedError: this person does not.
        """
        self.demand_admin()
        if not self.is_platform_admin and self.person.domain != domain:
            raise NotAllowedError("not a devices-admin of this domain")

    def is_users_admin_of(self, domain: str) -> bool:
        """Tell whether this person administers the users of a domain."""
        return USERS_ADMIN in self.person.roles and self.person.domain == domain

    def demand_users_admin(self) -> None:
        """Refuse whoever does not administer the users of their own domain.

        Raises:
            NotAllowedError: this person does not.
        """
        if not self.is_users_admin_of(self.person.domain):
            raise NotAllowedError("not a users-admin")

    def entry(
        self, action: str, subject: str, *, domain: str = "", detail: str = ""
    ) -> audit.Entry:
        """Write down what this person did.

        Args:
            domain: whose audit trail it belongs to, this person's own by default; in another's they
                are named with their domain, for it may have somebody of the same sip.
        """
        return audit.Entry(
            domain=domain or self.person.domain,
            at=self.now,
            action=action,
            actor=self._actor_in(domain),
            subject=subject,
            source=self.source,
            detail=detail,
        )

    def _actor_in(self, domain: str) -> str:
        person = self.person
        return person.sip if domain in {"", person.domain} else f"{person.sip} ({person.domain})"
