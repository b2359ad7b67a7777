"""The administrators' commands for a domain's PBX: show it with what waits, test it, tell it again.

It must not set a PBX: its password would stand in a shell's history.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local import admin_screen
from local.admin_calls import REFUSED

if TYPE_CHECKING:
    from local.admin import Command

_FLAGS = ("reverse_proxy", "tls_only", "no_mobility")
_WENT = {True: "good", False: "failed", None: "not reached, or unknown"}


def show(command: "Command") -> int:
    """Show a domain's PBX, the trouble with it, and the phones that wait for it."""
    found = command.calls.get(*_path(command))
    settings = [
        ("address", found["address"]),
        ("app object", found["app_object"]),
        ("password", "set" if found["has_password"] else "not set"),
        ("find users by", found["find_by"]),
        ("flags", ", ".join(name for name in _FLAGS if found[name]) or "none"),
        ("imports users", "yes" if found["imports_users"] else "no"),
        ("trouble", _trouble(found["trouble"])),
        ("phones that wait", str(found["waiting_count"])),
    ]
    command.screen.table(("setting", "value"), settings)
    if found["waiting"]:
        rows = [
            (one["hw_id"], one["user"], one["attempts"], one["reason"] or "")
            for one in found["waiting"]
        ]
        command.screen.table(("hw_id", "user", "attempts", "reason"), rows)
    return 0


def check(command: "Command") -> int:
    """Test the connection to a domain's PBX, and tell how each step went."""
    found = command.calls.post(*_path(command), "check", body={})
    rows = [(step["step"], _WENT[step["is_good"]]) for step in found["steps"]]
    command.screen.table(("step", "result"), rows)
    if found["is_good"]:
        return 0
    command.screen.say(f"The PBX cannot be spoken to: {found['trouble']}")
    return REFUSED


def redrive(command: "Command") -> int:
    """Let a domain's PBX hear of all its phones once more."""
    command.calls.order(*_path(command), "redrive")
    command.screen.say("All phones are handed over once more; `pbx show` tells what waits.")
    return 0


def _path(command: "Command") -> tuple[str, str, str]:
    return "domains", command.given.domain, "pbx"


def _trouble(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "none"
    since, again = (admin_screen.moment(told[name]) for name in ("since", "retry_at"))
    return f"{told['reason']}, since {since}, attempts {told['attempts']}, again at {again}"
