"""A simulated phone: takes itself from its box to a dial tone, and says what it does.

`make phone CODE="1234 5678 9012"`. It boots without a code, shows the form, has the code typed,
and polls and runs update scripts until nothing is left to do. With LINE= it first runs a line that
an administrator sends it, as for automatic provisioning. With SYSCLIENT=1 it goes on as a sysclient
once a script has pointed it to a websocket; with PROVISIONING_URL= an administrator has done that.
Codes, tokens and passwords are masked in what it prints.
"""

import argparse
import asyncio
import http.client
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from chalicelib.core import scripts
from chalicelib.core.addresses import is_url
from chalicelib.observability import MASK, redact
from local import fleet
from local.sysclient import Say, Sysclient, say_nothing
from local.sysclient_connection import SysclientConnection
from local.update_client import Step, UpdateClient

DEFAULT_URL = "http://127.0.0.1:8000/init"
DEFAULT_PRODUCT = "IP232"
MAX_POLLS = 10
MAX_REDIRECTS = 5
TIMEOUT_SECONDS = 10
QUIET_SECONDS = 3.0
PATIENCE_SECONDS = 10.0
_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
Fetch = Callable[[str], tuple[int, str]]


@dataclass
class Outcome:
    """Where a phone ended.

    Args:
        is_registered: it has a token of its own and a poll brought nothing more to do.
        is_refused: it showed the form again after the code was typed.
        is_reached: the service answered at all.
        is_unassigned: it is connected to Devices, which puts it into no domain.
    """

    client: UpdateClient
    is_registered: bool = False
    is_refused: bool = False
    is_reached: bool = False
    is_unassigned: bool = False
    polls: int = 0

    @property
    def verdict(self) -> str:
        """Say it in one line."""
        if self.is_registered:
            return "registered: yes, up to date"
        if self.is_refused:
            return "registered: no, the code was refused"
        if self.is_unassigned:
            return "registered: no, connected and in no domain"
        if not self.is_reached:
            return "registered: no, the service did not answer"
        if self.client.shows_code_form:
            return "registered: no, waiting for a code"
        return "registered: not yet"


def run_phone(  # noqa: PLR0913 - what a test wants to choose
    client: UpdateClient,
    fetch: Fetch,
    code: str | None,
    *,
    say: Say = say_nothing,
    max_polls: int = MAX_POLLS,
    pause_seconds: float = 0.0,
    has_sysclient: bool = False,
) -> Outcome:
    """Poll and obey until the phone is up to date, refused, or waiting for a code.

    Args:
        fetch: gets a URL → HTTP status and body; OSError if there is no answer.
        code: what the person types when the form shows, None for nobody there.
        say: takes each line for a person to read.
        has_sysclient: it ends, too, once a script has pointed it to a websocket.
    """
    outcome = Outcome(client)
    is_typed = False
    for _ in range(max_polls):
        if outcome.polls:
            time.sleep(pause_seconds)
        steps = _poll(client, fetch, outcome, say)
        if steps is None:
            continue
        if has_sysclient and client.sysclient_url:
            return outcome
        if client.shows_code_form:
            if is_typed:
                outcome.is_refused = True
                return outcome
            if code is None:
                return outcome
            say(f"  the display asks for the code; somebody types {MASK} and OK")
            client.type_code(code)
            is_typed = True
            continue
        is_own = "device_token=" in client.active_url
        if is_own and all(not step.effect for step in steps):
            outcome.is_registered = True
            return outcome
    return outcome


def _poll(client: UpdateClient, fetch: Fetch, outcome: Outcome, say: Say) -> list[Step] | None:
    url = client.url()
    say(f"→ GET {redact(url)}")
    outcome.polls += 1
    try:
        status, script = fetch(url)
    except OSError as error:
        say(f"← no answer: {redact(str(error))}")
        return None
    say(f"← {status}")
    if status != _OK:
        return None
    outcome.is_reached = True
    steps = client.execute(script, datetime.now().hour)  # noqa: DTZ005 - the phone's local hour
    for step in steps:
        say(f"    {redact(step.line)}" + (f"   [{redact(step.effect)}]" if step.effect else ""))
    return steps


def fetch_from(source: str | None) -> Fetch:
    """Make the transport: plain HTTP GET, redirects followed.

    Args:
        source: a loopback address to call from, so that the phone is a source of its own.

    Returns:
        A Fetch; whatever is no HTTP answer is an OSError.
    """

    def fetch(url: str) -> tuple[int, str]:
        try:
            return follow(url)
        except (http.client.HTTPException, ValueError, OverflowError) as error:
            raise ConnectionError(str(error)) from error

    def follow(url: str) -> tuple[int, str]:
        for _ in range(MAX_REDIRECTS):
            parts = urlsplit(url)
            kind = (
                http.client.HTTPSConnection
                if parts.scheme == "https"
                else http.client.HTTPConnection
            )
            connection = kind(
                parts.netloc,
                timeout=TIMEOUT_SECONDS,
                source_address=(source, 0) if source else None,
            )
            try:
                connection.request("GET", f"{parts.path or '/'}?{parts.query}")
                answer = connection.getresponse()
                body = answer.read().decode("utf-8", "replace")
            finally:
                connection.close()
            if answer.status not in _REDIRECTS:
                return answer.status, body
            url = urljoin(url, answer.getheader("Location", ""))
        return answer.status, body

    return fetch


async def run_sysclient(
    connection: SysclientConnection, outcome: Outcome, given: argparse.Namespace
) -> None:
    """Stay connected until nothing more comes, with `--stay` after that, too.

    Args:
        outcome: gets where it ended.
        given: `quiet` and `patience` in seconds, and `stay`.
    """
    running = asyncio.create_task(connection.run())
    try:
        outcome.is_registered = await connection.settle(given.quiet, given.patience)
        outcome.is_reached = connection.opened_count > 0
        outcome.is_unassigned = connection.sysclient.is_unassigned
        if given.stay:
            print(summary(outcome))
            print("stays connected; Ctrl+C ends it", flush=True)
            await running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def new_mac() -> str:
    """Draw a MAC of the vendor's range."""
    serial = secrets.token_hex(3)
    return "-".join(("00", "90", "33", serial[:2], serial[2:4], serial[4:]))


def summary(outcome: Outcome) -> str:
    """Write where a phone ended: firmware, configuration, verdict."""
    client = outcome.client
    lines = [
        "",
        f"phone      {client.mac} ({client.product})",
        f"firmware   {client.running['prot']}, boot code {client.running['boot']}",
        f"last check {client.variables.get('UPDATE/CHECK', 'none')}",
        "configuration",
    ]
    for module, options in sorted(client.active.items()):
        written = " ".join(_masked(name, value) for name, value in options.items())
        lines.append(f"  {module} {written}")
    lines += [f"not understood: {redact(line)}" for line in client.faults]
    return "\n".join([*lines, outcome.verdict])


def _masked(name: str, value: str) -> str:
    """Write an option in force; a password is decoded there, and can look like anything."""
    if name == "/pwd":
        return f"{name} {MASK}"
    if name == "/user":
        return f"{name} {value.partition(',')[0]},{MASK}"
    return f"{name} {redact(value)}".strip()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make phone", description=__doc__)
    parser.add_argument("--url", help=f"the central service ({DEFAULT_URL}); of a fleet: Devices")
    parser.add_argument("--code", help="what somebody types: 12 digits")
    parser.add_argument("--line", help="what an administrator has it run first")
    parser.add_argument("--source", help="a loopback address to call from")
    parser.add_argument("--mac", help="00-90-33-xx-xx-xx; of a fleet: the first one")
    parser.add_argument("--type", default=DEFAULT_PRODUCT, help="IP232")
    parser.add_argument("--polls", type=int, default=MAX_POLLS)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between polls")
    as_sysclient = parser.add_argument_group("as a sysclient")
    as_sysclient.add_argument(
        "--sysclient", action="store_true", help="connect to the websocket that a script names"
    )
    as_sysclient.add_argument(
        "--provisioning-url", help="ws://…?domain=&token=&category=, set by an administrator"
    )
    as_sysclient.add_argument(
        "--other", action="store_true", help="a device of another vendor, which gets items"
    )
    as_sysclient.add_argument("--stay", action="store_true", help="stay connected until Ctrl+C")
    as_sysclient.add_argument(
        "--quiet", type=float, default=QUIET_SECONDS, help="end so many seconds after the last news"
    )
    as_sysclient.add_argument(
        "--patience", type=float, default=PATIENCE_SECONDS, help="the same before it is registered"
    )
    many = parser.add_argument_group("many of them")
    many.add_argument("--fleet", type=int, help="how many phones, of consecutive MACs")
    many.add_argument("--rate", type=float, default=fleet.RATE, help="how many start in a second")
    many.add_argument("--passwords", type=Path, help="a file that keeps theirs for the next time")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one phone, or a fleet.

    Returns:
        0 registered or waiting for a code as it should, 1 refused, 2 not reached or not finished.
    """
    given = _arguments().parse_args(arguments)
    if given.fleet:
        return fleet.main(given)
    if given.provisioning_url and not is_url(given.provisioning_url, ("ws", "wss")):
        print("--provisioning-url must be a websocket's: ws://HOST/DOMAIN/devices/sysclients?…")
        return 2
    local_ip = given.source or socket.gethostbyname("localhost")
    mac = given.mac or new_mac()
    client = UpdateClient(mac.lower(), given.type, local_ip, given.url or DEFAULT_URL)
    print(f"phone {client.mac} ({client.product}) boots")
    line = scripts.sysclient(given.provisioning_url).text if given.provisioning_url else given.line
    if line:
        for step in client.execute(f"{line}\nconfig write\nconfig activate", 0):
            print(f"    {redact(step.line)}   [{redact(step.effect)}]")
    outcome = Outcome(client)
    is_sysclient = given.sysclient or bool(given.provisioning_url)
    if not (is_sysclient and client.sysclient_url):
        outcome = run_phone(
            client,
            fetch_from(given.source),
            given.code,
            say=print,
            max_polls=given.polls,
            pause_seconds=given.pause,
            has_sysclient=is_sysclient,
        )
    if is_sysclient and client.sysclient_url:
        sysclient = Sysclient(client, is_other=given.other, say=print)
        connection = SysclientConnection(sysclient, given.source)
        with suppress(KeyboardInterrupt):
            asyncio.run(run_sysclient(connection, outcome, given))
    print(summary(outcome))
    is_waiting = client.shows_code_form and given.code is None
    if outcome.is_registered or (is_waiting and not line):
        return 0
    return 1 if outcome.is_refused or outcome.is_unassigned or is_waiting else 2


if __name__ == "__main__":
    sys.exit(main())
