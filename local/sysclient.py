"""The sysclient of a phone: what it says to Devices and what it keeps, whatever connection it has.

Devices adds the phone to a domain and gives it a password; with a digest of that it returns after
each cut and each restart. Where the vendor is silent, docs/sysclient.md says what is done here. It
must not touch a socket nor wait (local/sysclient_connection.py), and what it tells a person is
masked.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.core import sysclient_login
from chalicelib.observability import MASK, redact
from gateway import frames
from gateway.frames import (
    AdminFrame,
    AdminPassword,
    Challenge,
    Configuration,
    EthIf,
    Frame,
    Identify,
    Platform,
    ProvisionResult,
    SysclientPassword,
    TunnelFrame,
)
from gateway.tunnel import UnexpectedFrameError
from local.phone_pages import PhonePages
from local.update_client import CODE, Step, UpdateClient

LOGGED_COUNT = 50

Say = Callable[[str], None]


def say_nothing(_: str) -> None:
    """Take a line for which nobody is there."""


@dataclass
class Sysclient:
    """What the sysclient of one phone keeps, over connections and restarts.

    Args:
        client: the phone's update client, with its variables and configuration.
        is_other: it is of another vendor: it wants configuration items.
        say: takes each line for a person to read.
        password: with which it proves that it is in a domain; empty before it is in one.
        admin_password: what Devices set; empty if it set none.
        items: the configuration items of the last connection that brought some.
        log: the last commands of Devices, masked.
        jobs_done: how many configurations were activated, and restarts made for what was loaded.
        conversation: the one on the open connection, None while there is none.
    """

    client: UpdateClient
    is_other: bool = False
    say: Say = say_nothing
    password: str = field(default="", repr=False)
    admin_password: str = field(default="", repr=False)
    items: list[Mapping[str, Any]] = field(default_factory=list, repr=False)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOGGED_COUNT))
    jobs_done: int = 0
    conversation: "Conversation | None" = None

    @property
    def hw_id(self) -> str:
        """Its hardware id: 12 lower-case hex digits."""
        return self.client.mac.replace("-", "")

    @property
    def is_registered(self) -> bool:
        """Tell whether the open connection is one of a phone in a domain.

        Devices does not say that a digest was right; it closes if it was not (inferred).
        """
        return self.conversation is not None and self.conversation.is_registered

    @property
    def is_unassigned(self) -> bool:
        """Tell whether it is connected, and Devices has put it into no domain."""
        return self.conversation is not None and not self.conversation.is_registered

    def identify(self) -> Identify:
        """Say who it is, with what was typed as long as it is there."""
        running = self.client.running
        return Identify(
            id=self.hw_id,
            product=self.client.product,
            version=f"13r1 [{running['prot'][:2]}.{running['prot'][2:]}/{running['boot']}/1300]",
            platform=Platform("PHONE"),
            fw_build=running["prot"],
            bc_build=running["boot"],
            provisioning_code=self.client.provisioning_code,
            other=self.is_other,
            eth_ifs=(EthIf("ETH0", self.client.local_ip),),
        )

    def ran(self, step: Step) -> None:
        """Hear of a command that Devices has had it run."""
        shown = redact(f"{' '.join(step.line.split())}   [{step.effect}]")
        self.log.append(shown)
        self.say(f"    {shown}")
        self.jobs_done += step.line.split() == ["config", "activate"]

    def restart(self) -> None:
        """Restart: what was not written is gone, and what was loaded runs."""
        self.jobs_done += self.client.needs_reset
        self.client.restart()


class Conversation:
    """What is said on one connection.

    Args:
        sysclient: whose.
    """

    def __init__(self, sysclient: Sysclient) -> None:
        self._sysclient = sysclient
        self._url = sysclient.client.sysclient_url
        self._identify = sysclient.identify()
        self._pages = PhonePages(sysclient.client, sysclient.log, sysclient.ran, sysclient.say)
        self._has_items = False
        self.is_registered = False

    @property
    def is_busy(self) -> bool:
        """Tell whether a session of the tunnel is open."""
        return self._pages.open_count > 0

    @property
    def wants_to_end(self) -> bool:
        """Tell whether the phone wants to restart, or to be connected elsewhere."""
        client = self._sysclient.client
        return client.wants_reset or client.sysclient_url != self._url

    def begin(self) -> Frame:
        """Say the first thing."""
        with_code = f", with the code {MASK}" if self._identify.provisioning_code else ""
        self._sysclient.say(
            f"→ identify {self._identify.id} {self._identify.product}, firmware "
            f"{self._identify.fw_build}, boot code {self._identify.bc_build}{with_code}"
        )
        return self._identify

    def take(self, received: bytes) -> list[Frame]:
        """Take a binary message of Devices → what the phone says to it, in order.

        Raises:
            MalformedFrameError: it is no frame.
            UnexpectedFrameError: only a phone says such things.
        """
        frame = frames.parse(received)
        if isinstance(frame, TunnelFrame):
            return [*self._pages.take(frame)]
        return self._obey(frame)

    def _obey(self, frame: AdminFrame) -> list[Frame]:
        say = self._sysclient.say
        match frame:
            case SysclientPassword():
                self._keep(frame)
            case Challenge():
                say("← challenge")
                say("→ identify, with the digest")
                return [self._proof(frame)]
            case AdminPassword():
                self._set_admin_password(frame)
            case Configuration():
                self._keep_item(frame)
            case ProvisionResult():  # of an analogue phone, and a phone has none
                say("← a provision result that was not asked for")
            case _:
                raise UnexpectedFrameError
        return []

    def _keep(self, frame: SysclientPassword) -> None:
        """Keep the password; the code has done its work (that it is deleted: inferred)."""
        self._sysclient.password = frame.password
        self.is_registered = True
        self._sysclient.say(f"← sysclient password {MASK}   [kept]")
        if self._sysclient.client.variables.pop(CODE, None) is not None:
            self._sysclient.say(f"    {CODE} is forgotten")

    def _proof(self, frame: Challenge) -> Identify:
        """Identify again; without a password the digest is over an empty one (inferred)."""
        said = replace(self._identify, provisioning_code=self._sysclient.client.provisioning_code)
        digest = sysclient_login.digest(
            said.id, said.product, said.version, frame.challenge, self._sysclient.password
        )
        self.is_registered = bool(self._sysclient.password)
        return replace(said, digest=digest)

    def _set_admin_password(self, frame: AdminPassword) -> None:
        """Decrypt it; one that cannot be is left as it was (inferred)."""
        try:
            told = sysclient_login.decrypt(frame.pwd, frame.seed, self._sysclient.password)
        except ValueError:
            self._sysclient.say("← an administrator's password under another sysclient password")
            return
        self._sysclient.admin_password = told
        self._sysclient.say(f"← administrator's password {MASK}   [set]")

    def _keep_item(self, frame: Configuration) -> None:
        """Keep an item if it asked for such; each connection brings all of them anew (inferred)."""
        if not self._sysclient.is_other:
            self._sysclient.say("← a configuration item   [not for this phone]")
            return
        if not self._has_items:
            self._sysclient.items.clear()
            self._has_items = True
        self._sysclient.items.append(frame.item)
        self._sysclient.say(f"← a configuration item   [kept{', the last' if frame.last else ''}]")
