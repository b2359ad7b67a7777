"""A simulated phone: takes itself from its box to a dial tone, and says what it does.

`make phone CODE="1234 5678 9012"`. It boots without a code, shows the form, has the code typed,
and polls and runs update scripts until nothing is left to do. With LINE= it first runs a line that
an administrator sends it, as for automatic provisioning. Codes, tokens and passwords are masked in
what it prints.
"""

import argparse
import http.client
import secrets
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urljoin, urlsplit

from chalicelib.observability import MASK, redact
from local.update_client import Step, UpdateClient

DEFAULT_URL = "http://127.0.0.1:8000/init"
DEFAULT_PRODUCT = "IP232"
MAX_POLLS = 10
MAX_REDIRECTS = 5
TIMEOUT_SECONDS = 10
_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
Fetch = Callable[[str], tuple[int, str]]
Say = Callable[[str], None]


@dataclass
class Outcome:
    """Where a phone ended.

    Args:
        is_registered: it has a token of its own and a poll brought nothing more to do.
        is_refused: it showed the form again after the code was typed.
        is_reached: the service answered at all.
    """

    client: UpdateClient
    is_registered: bool = False
    is_refused: bool = False
    is_reached: bool = False
    polls: int = 0

    @property
    def verdict(self) -> str:
        """Say it in one line."""
        if self.is_registered:
            return "registered: yes, up to date"
        if self.is_refused:
            return "registered: no, the code was refused"
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
    say: Say = lambda _: None,
    max_polls: int = MAX_POLLS,
    pause_seconds: float = 0.0,
) -> Outcome:
    """Poll and obey until the phone is up to date, refused, or waiting for a code.

    Args:
        fetch: gets a URL → HTTP status and body; OSError if there is no answer.
        code: what the person types when the form shows, None for nobody there.
        say: takes each line for a person to read.
    """
    outcome = Outcome(client)
    is_typed = False
    for _ in range(max_polls):
        if outcome.polls:
            time.sleep(pause_seconds)
        steps = _poll(client, fetch, outcome, say)
        if steps is None:
            continue
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


def main(arguments: list[str] | None = None) -> int:
    """Run one phone.

    Returns:
        0 registered or waiting for a code as it should, 1 refused, 2 not reached or not finished.
    """
    parser = argparse.ArgumentParser(prog="make phone", description=__doc__)
    parser.add_argument("--url", default=DEFAULT_URL, help="the central service")
    parser.add_argument("--code", help="what somebody types: 12 digits")
    parser.add_argument("--line", help="what an administrator has it run first")
    parser.add_argument("--source", help="a loopback address to call from")
    parser.add_argument("--mac", default=new_mac(), help="00-90-33-xx-xx-xx")
    parser.add_argument("--type", default=DEFAULT_PRODUCT, help="IP232")
    parser.add_argument("--polls", type=int, default=MAX_POLLS)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between polls")
    given = parser.parse_args(arguments)
    local_ip = given.source or socket.gethostbyname("localhost")
    client = UpdateClient(given.mac.lower(), given.type, local_ip, given.url)
    print(f"phone {client.mac} ({client.product}) boots")
    if given.line:
        for step in client.execute(f"{given.line}\nconfig write\nconfig activate", 0):
            print(f"    {redact(step.line)}   [{redact(step.effect)}]")
    outcome = run_phone(
        client,
        fetch_from(given.source),
        given.code,
        say=print,
        max_polls=given.polls,
        pause_seconds=given.pause,
    )
    print(summary(outcome))
    is_waiting = client.shows_code_form and given.code is None
    if outcome.is_registered or (is_waiting and not given.line):
        return 0
    return 1 if outcome.is_refused or is_waiting else 2


if __name__ == "__main__":
    sys.exit(main())
