"""Update scripts: the lines that a phone's update client runs, one command a line.

Every line here names its source in docs/update-client.md; a line whose exact form or use is not
documented by the vendor is marked as inferred, in the script itself too. Whatever comes from
outside is URL-encoded, so that no parameter can end its line and begin another.

It must not decide which jobs a device gets (core/jobs.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from chalicelib.core.addresses import is_websocket

PLACEHOLDERS = "sn=#m&type=#t&hwid=#h&ip=#i"
"""What a phone fills in at each call. Source: docs/update-client.md, placeholders."""

_URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%-._~"


@dataclass(frozen=True)
class Line:
    """One line of a script.

    Args:
        text: the command.
        source: where its form comes from, a row of docs/update-client.md.
        is_inferred: the vendor documents the parts, not this use.
    """

    text: str
    source: str
    is_inferred: bool = False


def option(value: str) -> str:
    """Encode the value of a configuration option. Source: docs/update-client.md, options."""
    return quote(value, safe="")


def argument(url: str) -> str:
    """Encode a URL that stands as it is in a command, so that it stays one word on one line."""
    return quote(url, safe=_URL_CHARACTERS)


SHOW_CODE_FORM = Line("vars create UPDATE/PROVISIONING-CODE h prompt", "show the code form")
FORGET_CODE = Line("vars del UPDATE/PROVISIONING-CODE", "vars", is_inferred=True)
WRITE = Line("config write", "write, activate")
ACTIVATE = Line("config activate", "write, activate")
CLEAN_UP = (
    Line("config rem UP1 /provision", "clean-up"),
    Line("config rem UP1 /provisioning", "clean-up"),
)
IGNORE_DHCP = Line("config add UP1 /no-dhcp", "clean-up")


def update_client(url: str) -> Line:
    """Point the update client at a URL."""
    return Line(f"config add UP1 /url {option(url)}", "options")


def sysclient(url: str) -> Line:
    """Point the sysclient at a websocket URL.

    The place of the URL before the flag is inferred from all other configuration lines.
    """
    return Line(f"config change SYSCLIENT {option(url)} /sysadmin", "sysclient", is_inferred=True)


def poll_interval(minutes: int) -> Line:
    """Set how often the update client asks, in minutes."""
    return Line(f"config add UP1 /poll {minutes}", "options")


def options(module: str, source: str, values: Mapping[str, str]) -> Line:
    """Set options of a module whose names are inferred (docs/update-client.md)."""
    written = " ".join(f"{name} {option(value)}" for name, value in values.items())
    return Line(f"config add {module} {written}", source, is_inferred=True)


def variable(name: str, value: str) -> Line:
    """Keep a variable over restarts; its value is the rest of the line."""
    return Line(f"vars create {name} p {value}", "vars", is_inferred=True)


def load(module_command: str, url: str, build: str) -> Line:
    """Flash firmware (`prot`) or boot code (`boot`), then restart when idle if that is needed."""
    return Line(f"mod cmd UP0 {module_command} {argument(url)} iresetn {option(build)}", "loading")


def guard(serial: str) -> Line:
    """Run the lines below only once: the phone keeps the serial as CHECK when it has finished."""
    return Line(f"mod cmd UP1 check ser {option(serial)}", "check", is_inferred=True)


def identified(url: str, **parameters: str) -> str:
    """Add what identifies the phone to a URL, behind a query of its own.

    Args:
        url: the Devices URL of update clients, or our /init.
        parameters: more members of the query, added in any case.

    Returns:
        The URL with the phone's own placeholders: it fills in `#m`, `#t`, `#h`, `#i` at each call.
    """
    base, _, query = url.partition("#")[0].partition("?")
    members = [query, PLACEHOLDERS, urlencode(parameters)]
    return f"{base}?{'&'.join(filter(None, members))}"


def code_form(secure_url: str | None) -> str:
    """Show the code form.

    Args:
        secure_url: our https /init when this request came in clear, so that no code travels so.
    """
    move = (update_client(identified(secure_url)), WRITE, ACTIVATE) if secure_url else ()
    return render("type the provisioning code", (*move, SHOW_CODE_FORM))


def to_devices(devices_url: str) -> str:
    """Send the phone on to its Devices; what it typed stays, for Devices needs it."""
    is_for_sysclient = is_websocket(devices_url)
    pointer = sysclient(devices_url) if is_for_sysclient else update_client(identified(devices_url))
    return render("on to Devices", (pointer, *CLEAN_UP, IGNORE_DHCP, WRITE, ACTIVATE))


def for_device(
    firmware: Iterable[Line],
    configuration: Iterable[Line],
    serial: str,
    *,
    token_url: str | None = None,
) -> str:
    """Bring a device its jobs: firmware, then configuration, then (once) its own token.

    Args:
        firmware: lines of the software job that still apply.
        configuration: lines of the configuration jobs, empty when all are confirmed.
        serial: names exactly this configuration for this registration.
        token_url: the device's own URL with its token, when it registers or shall ask elsewhere.
    """
    lines = list(firmware)
    guarded = list(configuration)
    if token_url:
        guarded += [update_client(token_url), FORGET_CODE]
    if guarded:
        lines += [guard(serial), *guarded, WRITE, ACTIVATE]
    return render("jobs" if lines else "nothing to do", lines)


def show_code_form() -> str:
    """Write the script that shows the code form again, and the line for a phone's browser."""
    browser = Line(f"# in the phone's browser: http://PHONE/!{SHOW_CODE_FORM.text}", "")
    return render("show the code form", (browser, SHOW_CODE_FORM))


def v12_clean_up() -> str:
    """Write the four lines that a V12 update server must send to a V13 phone.

    Source: the concept article, provisioning V13 devices with a V12 update server.
    """
    return render("clean-up for a V12 update server", (*reversed(CLEAN_UP), WRITE, ACTIVATE))


def comment(text: str) -> str:
    """Answer with nothing to run; the phone keeps what it has and comes back."""
    return render(text, ())


def render(title: str, lines: Iterable[Line]) -> str:
    """Write a script.

    Args:
        title: a fixed text of ours.

    Returns:
        Lines ended by CR LF, inferred ones announced as such.
    """
    written = [f"# dialtone: {title}"]
    for line in lines:
        if line.is_inferred:
            written.append(f"# inferred ({line.source}):")
        written.append(line.text)
    return "".join(f"{text}\r\n" for text in written)
