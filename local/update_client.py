"""The update client of a phone: runs update scripts, keeps variables and configuration.

Every behaviour has its row in docs/update-client.md, which says what the vendor documents and what
is inferred. It must not do any I/O: local/phone.py polls, local/phone_pages.py takes single
commands, and time comes in as an argument.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from chalicelib.core.addresses import is_url

CODE = "UPDATE/PROVISIONING-CODE"
PROMPT = "prompt"
FACTORY_BUILD = "130100"
_FINALS_THAT_RESET = frozenset({"ireset", "reset"})
_FINALS_THAT_RESET_IF_NEEDED = frozenset({"iresetn", "resetn"})
_FINALS_AT_ONCE = frozenset({"reset", "resetn"})
"""The others wait until the phone is idle."""

_END_OF_LINE = re.compile(r"\r?\n")

Options = dict[str, str]


@dataclass(frozen=True)
class Step:
    """One line of a script, and what it did."""

    line: str
    effect: str


@dataclass
class UpdateClient:
    """A phone's update client from the factory.

    Args:
        mac: `00-90-33-3d-12-34`, lower case.
        product: `IP232`.
        local_ip: the phone's own address.
        factory_url: where it polls until it is told otherwise.
    """

    mac: str
    product: str
    local_ip: str
    factory_url: str
    variables: dict[str, str] = field(default_factory=dict)
    pending: dict[str, Options] = field(default_factory=dict)
    written: dict[str, Options] = field(default_factory=dict)
    active: dict[str, Options] = field(default_factory=dict)
    running: dict[str, str] = field(
        default_factory=lambda: {"prot": FACTORY_BUILD, "boot": FACTORY_BUILD}
    )
    faults: list[str] = field(default_factory=list)
    needs_reset: bool = False
    wants_reset: bool = False
    wants_reset_now: bool = False

    def __post_init__(self) -> None:
        """Point the factory's update client at its URL."""
        if "?" not in self.factory_url:
            self.factory_url += "?mac=#m&type=#t&hwid=#h&localip=#i"
        for configuration in (self.pending, self.written, self.active):
            configuration["UP1"] = {"/url": self.factory_url}

    @property
    def shows_code_form(self) -> bool:
        """Tell whether the display asks for the provisioning code."""
        return self.variables.get(CODE) == PROMPT

    @property
    def active_url(self) -> str:
        """The URL in force; the factory's when there is none (inferred: it is the firmware's)."""
        return self.active.get("UP1", {}).get("/url") or self.factory_url

    @property
    def sysclient_url(self) -> str:
        """Where the sysclient connects to, decoded once; empty unless a websocket URL is active."""
        url = self.active.get("SYSCLIENT", {}).get("", "")
        return url if is_url(url, ("ws", "wss")) else ""

    @property
    def provisioning_code(self) -> str:
        """What was typed into the form; empty before that."""
        return "" if self.shows_code_form else self.variables.get(CODE, "")

    def type_code(self, code: str) -> None:
        """Type a code into the form; `#` confirms and is not part of it."""
        self.variables[CODE] = code.removesuffix("#")

    def url(self) -> str:
        """Fill in the active URL, and append what every poll tells."""
        own = {
            "#m": self.mac,
            "#t": self.product,
            "#h": f"{self.product}-30-00-af",
            "#i": self.local_ip,
        }
        url = re.sub("#[mthi]", lambda found: quote(own[found[0]], safe=""), self.active_url)
        told = {
            "ver": f"13r1 {self.product}[{self.running['prot']}], Bootcode[{self.running['boot']}]",
            "PROT": self.running["prot"],
            "BOOT": self.running["boot"],
            "CHECK": self.variables.get("UPDATE/CHECK", ""),
        }
        if CODE in self.variables:
            told["PROVISIONING-CODE"] = self.variables[CODE]
        appended = "&".join(f"{name}={quote(value, safe='')}" for name, value in told.items())
        return f"{url}{'&' if '?' in url else '?'}{appended}"

    def execute(self, script: str, hour: int) -> list[Step]:
        """Run a script until its end or until a guard stops it.

        Args:
            script: lines ended by CR LF or LF.
            hour: the local hour, 0 to 23, for `times`.

        Returns:
            The lines that were reached and their effects, comments included.
        """
        steps: list[Step] = []
        at_the_end: list[Callable[[], None]] = []
        for line in _END_OF_LINE.split(script):
            words = line.split()
            if not words:
                continue
            effect, goes_on = self._run(words, hour, at_the_end)
            steps.append(Step(line, effect))
            if not goes_on:
                break
        else:
            for finish in at_the_end:
                finish()
        if self.wants_reset:
            self.restart()
        return steps

    def command(self, line: str, hour: int) -> Step:
        """Run a single command; if it wants a restart, that is left to whoever knows what is open.

        Args:
            line: decoded; one command, whatever ends of line are in it.
            hour: as for a script.
        """
        words = line.split()
        at_the_end: list[Callable[[], None]] = []
        match words:
            case []:
                effect = ""
            case [final] if final in _FINALS_THAT_RESET | _FINALS_THAT_RESET_IF_NEEDED:
                self._end_with(final)
                effect = "restarts" if self.wants_reset else "no restart is needed"
            case _:
                effect, _ = self._run(words, hour, at_the_end)
        for finish in at_the_end:
            finish()
        return Step(line, effect)

    def restart(self) -> None:
        """Restart: what was not written is gone."""
        self.wants_reset = self.wants_reset_now = self.needs_reset = False
        self.pending = _copy(self.written)
        self.active = _copy(self.written)

    def _run(
        self, words: list[str], hour: int, at_the_end: list[Callable[[], None]]
    ) -> tuple[str, bool]:
        match words:
            case [comment, *_] if comment.startswith("#"):
                return "", True
            case ["mod", "cmd", "UP1", "check", final, serial]:
                return self._check(final, serial, at_the_end)
            case ["mod", "cmd", "UP1", "times", *options]:
                is_now = self._is_allowed(options, hour)
                return ("now is the time" if is_now else "not now: stop"), is_now
            case ["mod", "cmd", "UP0", ("prot" | "boot") as kind, url, final, build]:
                return self._load(kind, url, final, unquote(build)), True
            case ["config", *command]:
                return self._configure(command), True
            case _:
                return self._keep(words), True

    def _check(
        self, final: str, serial: str, at_the_end: list[Callable[[], None]]
    ) -> tuple[str, bool]:
        if self.variables.get("UPDATE/CHECK") == serial:
            return "has been run: stop", False

        def finish() -> None:
            self.variables["UPDATE/CHECK"] = serial
            self._end_with(final)

        at_the_end.append(finish)
        return "new: go on", True

    def _is_allowed(self, options: list[str], hour: int) -> bool:
        given = dict(zip(options[::2], options[1::2], strict=False))
        is_factory_new = "UPDATE/CHECK" not in self.variables
        if "/allow" not in given or ("/initial" in given and is_factory_new):
            return True
        return str(hour) in given["/allow"].split(",")

    def _load(self, kind: str, url: str, final: str, build: str) -> str:
        if self.running[kind] == build:
            return f"{build} is running already"
        before, self.running[kind] = self.running[kind], build
        self.needs_reset = True
        self._end_with(final)
        return f"flashed {before} -> {build} (simulated, {url} was not loaded)"

    def _configure(self, command: list[str]) -> str:
        match command:
            case ["write"]:
                self.written = _copy(self.pending)
                return "kept over a restart"
            case ["activate"]:
                self.active = _copy(self.pending)
                return "in force"
            case ["change", module, *arguments]:
                self.pending[module] = _options(arguments)
                return f"{module} set anew"
            case ["add", module, *arguments]:
                self.pending.setdefault(module, {}).update(_options(arguments))
                return f"{module} changed"
            case ["rem", module, option]:
                had = self.pending.get(module, {}).pop(option, None) is not None
                return f"{option} removed" if had else f"{option} was not set"
        return self._not_understood(["config", *command])

    def _keep(self, words: list[str]) -> str:
        match words:
            case ["vars", "create", name, flags, *value]:
                self.variables[name] = " ".join(value)
                is_form = name == CODE and self.shows_code_form
                return "the display asks for the code" if is_form else f"kept ({flags})"
            case ["vars", "del", name]:
                return "forgotten" if self.variables.pop(name, None) is not None else "was not set"
            case ["mod", "cmd", "UP1", "setvar", name, *value]:
                self.variables[name] = " ".join(value)
                return "kept"
            case ["mod", "cmd", "UP1", "provision", minutes]:
                self.pending.setdefault("UP1", {})["/provision"] = minutes
                return f"polls fast for {minutes} minutes"
            case ["iresetn"]:
                self._end_with("iresetn")
                return "restarts when idle, if that is needed"
        return self._not_understood(words)

    def _not_understood(self, words: list[str]) -> str:
        self.faults.append(" ".join(words))
        return "not understood"

    def _end_with(self, final: str) -> None:
        """Do a final command: firmware that was flashed is what a restart is needed for."""
        is_if_needed = final in _FINALS_THAT_RESET_IF_NEEDED and self.needs_reset
        is_wanted = final in _FINALS_THAT_RESET or is_if_needed
        self.wants_reset |= is_wanted
        self.wants_reset_now |= is_wanted and final in _FINALS_AT_ONCE


def written_lines(configuration: dict[str, Options]) -> list[str]:
    """Write a configuration as the lines that would make it, values URL-encoded."""
    return [
        " ".join(["config change", module, *_words(options)])
        for module, options in configuration.items()
    ]


def _words(options: Options) -> list[str]:
    """Write options; a word before any option comes first, wherever it was kept."""
    first = quote(options.get("", ""), safe="")
    named = [
        word for name, value in options.items() if name for word in (name, quote(value, safe=""))
    ]
    return [word for word in (first, *named) if word]


def _options(arguments: list[str]) -> Options:
    """Read options and their values, URL-decoded; a word before any option stands under ``""``."""
    options: Options = {}
    name = ""
    for word in arguments:
        if word.startswith("/"):
            name = word
            options[name] = ""
        else:
            options[name] = f"{options.get(name, '')} {unquote(word)}".strip()
    return options


def _copy(configuration: dict[str, Options]) -> dict[str, Options]:
    return {module: dict(options) for module, options in configuration.items()}
