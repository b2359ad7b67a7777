"""Configuration types: each a name, its parameters, the lines it produces and their source.

A job of a type is made from valid parameters alone, and whatever comes from them is one word or one
printable line, so that no parameter can begin a line of its own. It must not know which devices get
a job (core/jobs.py), nor how secrets are kept.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.core import addresses, scripts
from chalicelib.core.errors import Fault
from chalicelib.core.scripts import Line

MASK = "***"
MAX_EXPERT_LINES = 500
MAX_LINE_LENGTH = 2_000
MAX_POLL_MINUTES = 24 * 60
MAX_VARIABLES = 100
MAX_PASSWORD_LENGTH = 15
"""Longer administrator passwords are cut by phones. Source: docs/update-client.md, password."""

PROTOCOLS = ("H323", "H323/TLS", "SIP", "SIP/TCP", "SIP/TLS")

_ONE_LINE = f"one printable line of 1 to {MAX_LINE_LENGTH} characters"

Parameters = Mapping[str, Any]
Check = Callable[[str, Any], tuple[Fault, ...]]

_VARIABLE = re.compile(r"[0-9A-Za-z_./-]{1,100}")
_TIME_ZONE = re.compile(r"[0-9A-Za-z,./:<>+-]{1,100}")
_RESERVED = "UPDATE/"
"""The update client's own variables: the code, and the serial that confirms jobs."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a type, as a form shows it.

    Args:
        name: in the job's JSON.
        about: what it is for, one line.
        kind: what a form asks for: `text`, `number`, `choice`, `lines` or `names`.
        check: says everything that is wrong with a value (field, value).
        is_secret: sealed at rest, and `***` when it is read back.
        choices: of a `choice`.
    """

    name: str
    about: str
    kind: str
    check: Check
    is_required: bool = False
    is_secret: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConfigurationType:
    """A kind of configuration job.

    Args:
        name: as in the job.
        about: what it does, one line.
        lines: the script lines that valid parameters produce for the phone of a hw_id.
    """

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    lines: Callable[[Parameters, str], tuple[Line, ...]]

    def faults(self, parameters: Parameters) -> tuple[Fault, ...]:
        """Say everything that is wrong with parameters, by field."""
        known = {parameter.name: parameter for parameter in self.parameters}
        unknown = [name for name in parameters if name not in known]
        missing = [
            parameter.name
            for parameter in self.parameters
            if parameter.is_required and parameter.name not in parameters
        ]
        return (
            *(Fault(name, f"not one of {', '.join(known)}") for name in unknown),
            *(fault for name in missing for fault in known[name].check(name, None)),
            *(
                fault
                for name, value in parameters.items()
                if name in known
                for fault in known[name].check(name, value)
            ),
            *(() if parameters or missing else (Fault("", f"at least one of {', '.join(known)}"),)),
        )

    def split(self, parameters: Parameters) -> tuple[Parameters, Parameters]:
        """Part the secrets from parameters: what may be read, masks included, and the secrets."""
        names = {parameter.name for parameter in self.parameters if parameter.is_secret}
        secrets = {name: parameters[name] for name in parameters if name in names}
        return {**parameters, **dict.fromkeys(secrets, MASK)}, secrets


def _fails(message: str, is_good: Callable[[Any], bool]) -> Check:
    return lambda field, value: () if is_good(value) else (Fault(field, message),)


def _text(longest: int) -> Check:
    return _fails(
        f"printable text of 1 to {longest} characters",
        lambda value: isinstance(value, str) and 0 < len(value) <= longest and value.isprintable(),
    )


def _number(highest: int) -> Check:
    return _fails(
        f"a whole number from 1 to {highest}",
        lambda value: (
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= highest
        ),
    )


def _matching(pattern: re.Pattern[str], message: str) -> Check:
    return _fails(
        message, lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None
    )


def _choice(choices: tuple[str, ...]) -> Check:
    return _fails(f"one of {', '.join(choices)}", lambda value: value in choices)


_HOST = _fails("a host name or an address, with or without a port", addresses.is_host)


def _web_address(field: str, value: object) -> tuple[Fault, ...]:
    return addresses.url_faults(field, value, addresses.WEB)


def _is_line(value: object) -> bool:
    return (
        isinstance(value, str)
        and value.isprintable()
        and not value.isspace()
        and 0 < len(value) <= MAX_LINE_LENGTH
    )


def _raw_lines(field: str, value: object) -> tuple[Fault, ...]:
    if not isinstance(value, list | tuple) or not value or len(value) > MAX_EXPERT_LINES:
        return (Fault(field, f"a list of 1 to {MAX_EXPERT_LINES} lines"),)
    return tuple(
        Fault(f"{field}.{index}", _ONE_LINE)
        for index, line in enumerate(value)
        if not _is_line(line)
    )


def _named_values(field: str, value: object) -> tuple[Fault, ...]:
    if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_VARIABLES:
        return (Fault(field, f"an object of 1 to {MAX_VARIABLES} names and values"),)
    return tuple(
        fault for name, text in value.items() for fault in _variable_faults(field, name, text)
    )


def _variable_faults(field: str, name: str, text: object) -> tuple[Fault, ...]:
    if not _VARIABLE.fullmatch(name):
        return (Fault(field, "a name is 1 to 100 letters, digits and _ . / -"),)
    if name.upper().startswith(_RESERVED):
        return (Fault(f"{field}.{name}", f"{_RESERVED}… are the update client's own"),)
    return () if _is_line(text) else (Fault(f"{field}.{name}", _ONE_LINE),)


def _update_client(parameters: Parameters, _: str) -> tuple[Line, ...]:
    # its URL is a line of the phone's own, for it carries the phone's token (scripts.for_device)
    return (scripts.poll_interval(int(parameters["poll_minutes"])),)


def _ntp(parameters: Parameters, _: str) -> tuple[Line, ...]:
    names = {
        "server": "/addr",
        "alternate_server": "/addr2",
        "interval_minutes": "/interval",
        "time_zone": "/tz",
    }
    return (scripts.options("NTP0", "time", _given(names, parameters)),)


def _variables(parameters: Parameters, _: str) -> tuple[Line, ...]:
    both = {**parameters.get("variables", {}), **parameters.get("secret_variables", {})}
    return tuple(scripts.variable(name, value) for name, value in both.items())


def _phone(parameters: Parameters, hw_id: str) -> tuple[Line, ...]:
    names = {
        "protocol": "/prot",
        "pbx": "/gk-addr",
        "alternate_pbx": "/gk-addr2",
        "gatekeeper_id": "/gk-id",
        "password": "/pwd",
    }
    given = {"/name": hw_id, **_given(names, parameters)}
    return (scripts.options("PHONE", "registration", given),)


def _admin_password(parameters: Parameters, _: str) -> tuple[Line, ...]:
    user = parameters.get("user", "admin")
    return (scripts.options("CMD0", "password", {"/user": f"{user},{parameters['password']}"}),)


def _expert(parameters: Parameters, _: str) -> tuple[Line, ...]:
    texts = [*parameters.get("lines", ()), *parameters.get("secret_lines", ())]
    return tuple(Line(text, "raw lines") for text in texts)


def _given(names: Mapping[str, str], parameters: Parameters) -> dict[str, str]:
    return {option: str(parameters[name]) for name, option in names.items() if name in parameters}


_NAME = _matching(re.compile(r"[0-9A-Za-z._-]{1,15}"), "1 to 15 letters, digits and . _ -")

CONFIGURATION_TYPES: Mapping[str, ConfigurationType] = {
    known.name: known
    for known in (
        ConfigurationType(
            "update-client",
            "where and how often the phone asks",
            (
                Parameter(
                    "poll_minutes",
                    "minutes between two polls",
                    "number",
                    _number(MAX_POLL_MINUTES),
                    is_required=True,
                ),
                Parameter(
                    "url",
                    "another address of this service; the phone's own token is added",
                    "text",
                    _web_address,
                ),
            ),
            _update_client,
        ),
        ConfigurationType(
            "ntp",
            "the time server and the time zone",
            (
                Parameter("server", "host name or address", "text", _HOST, is_required=True),
                Parameter("alternate_server", "host name or address", "text", _HOST),
                Parameter(
                    "interval_minutes",
                    "minutes between two requests",
                    "number",
                    _number(MAX_POLL_MINUTES),
                ),
                Parameter(
                    "time_zone",
                    "as POSIX writes it: CET-1CEST-2,M3.5.0/2,M10.5.0/3",
                    "text",
                    _matching(_TIME_ZONE, "a time zone as POSIX writes it"),
                ),
            ),
            _ntp,
        ),
        ConfigurationType(
            "variables",
            "variables that the phone keeps",
            (
                Parameter("variables", "name → value", "names", _named_values),
                Parameter(
                    "secret_variables", "name → value", "names", _named_values, is_secret=True
                ),
            ),
            _variables,
        ),
        ConfigurationType(
            "phone",
            "the registration at the PBX, under the phone's hardware id",
            (
                Parameter("pbx", "host name or address", "text", _HOST, is_required=True),
                Parameter("alternate_pbx", "host name or address", "text", _HOST),
                Parameter(
                    "protocol", "of the signalling", "choice", _choice(PROTOCOLS), choices=PROTOCOLS
                ),
                Parameter("gatekeeper_id", "the PBX's system name", "text", _text(100)),
                Parameter("password", "of the registration", "text", _text(100), is_secret=True),
            ),
            _phone,
        ),
        ConfigurationType(
            "admin-password",
            "the password of the phone's own administration",
            (
                Parameter(
                    "password",
                    "of the administrator",
                    "text",
                    _text(MAX_PASSWORD_LENGTH),
                    is_required=True,
                    is_secret=True,
                ),
                Parameter("user", "the administrator's name, admin by default", "text", _NAME),
            ),
            _admin_password,
        ),
        ConfigurationType(
            "expert",
            "raw lines of an update script, run after everything else",
            (
                Parameter("lines", "one command a line", "lines", _raw_lines),
                Parameter(
                    "secret_lines", "run after the others", "lines", _raw_lines, is_secret=True
                ),
            ),
            _expert,
        ),
    )
}
"""Every type, in the order in which a script applies them: raw lines have the last word."""


def faults_of(job_type: str, parameters: Parameters) -> tuple[Fault, ...]:
    """Say everything that is wrong with a configuration job."""
    known = CONFIGURATION_TYPES.get(job_type)
    if known is None:
        return (Fault("type", f"one of {', '.join(CONFIGURATION_TYPES)}"),)
    return known.faults(parameters)
