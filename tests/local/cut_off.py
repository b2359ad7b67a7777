"""Runs a module with every way out of this machine cut: `python -m tests.local.cut_off MODULE`.

What turns to another machine, by name or by address, gets an error and leaves a line that begins
with MARKER; so does a child process, which nobody would watch.
"""

import runpy
import sys
from ipaddress import ip_address
from typing import Any

MARKER = "WAY OUT:"
_ADDRESS_IS_SECOND = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_NAME_IS_FIRST = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_CHILDREN = frozenset({"subprocess.Popen", "os.system", "os.posix_spawn", "os.fork"})


def way_out(event: str, arguments: tuple[Any, ...]) -> str:
    """Tell where an audit event leads if that is out of this machine, else nothing."""
    if event in _CHILDREN:
        return event
    if event in _ADDRESS_IS_SECOND:
        host = arguments[1]
    elif event in _NAME_IS_FIRST:
        host = arguments[0]
    else:
        return ""
    if isinstance(host, tuple):
        host = host[0]
    # no host is the wildcard of a listener; a text of a UNIX socket is a path
    if not host or (event in _ADDRESS_IS_SECOND and not isinstance(arguments[1], tuple)):
        return ""
    name = host.decode() if isinstance(host, bytes) else str(host)
    return "" if _is_here(name) else name


def _is_here(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def cut(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a way out; the audit hook.

    Raises:
        ConnectionRefusedError: as if nobody were there.
    """
    where = way_out(event, arguments)
    if where:
        sys.stdout.write(f"{MARKER} {event} {where}\n")
        sys.stdout.flush()
        raise ConnectionRefusedError(where)


if __name__ == "__main__":
    sys.addaudithook(cut)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
