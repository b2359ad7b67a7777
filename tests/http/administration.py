"""What administrators do, and the phones that live by it, as the HTTP tests tell them."""

from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from chalicelib.core import scripts
from local.phone import Fetch
from local.update_client import UpdateClient
from tests.http.service import Caller

DOMAIN = "acme.example"
CATEGORY = "acme IP Phone ü/50%"
PHONE = "009033000001"
OTHER_PHONE = "009033000002"
TOKEN = "Grüße & 100% #1 vom Amt"
FIRMWARE = {
    "IP232": {
        "prot": {"build": "134250", "url": "https://firmware.example/134250/ip232.bin"},
        "boot": {"build": "131286", "url": "https://firmware.example/131286/boot232.bin"},
    }
}
PHONE_JOB = {
    "category": CATEGORY,
    "type": "phone",
    "parameters": {"pbx": "pbx.acme.example", "password": "hunter-two-hundred"},
}


def path(*segments: str) -> str:
    """Write a path below a domain, every segment encoded."""
    return "/".join(["/domains", *(quote(segment, safe="") for segment in segments)])


def admin_of(caller: Caller, domain: str = DOMAIN) -> str:
    """Sign the devices-admin of a domain in."""
    return caller.sign_in("admin", domain=domain)


def make_domain(caller: Caller) -> None:
    """Make a domain with a category of each kind."""
    made = caller.call("POST", "/domains", user="platform", body={"domain": DOMAIN})
    assert made.status == 201
    for name, provisioning in ((CATEGORY, True), ("Gateways", False)):
        body = {"provisioning": provisioning, "device_types": ["PHONE"]}
        made = caller.call(
            "PUT", path(DOMAIN, "categories", name), token=admin_of(caller), body=body
        )
        assert made.status == 200


def set_token(caller: Caller, **more: object) -> dict[str, Any]:
    """Turn automatic provisioning on."""
    body = {"category": CATEGORY, "token": TOKEN, **more}
    answer = caller.call("PUT", path(DOMAIN, "token"), token=admin_of(caller), body=body)
    assert answer.status == 200
    return dict(answer.json)


def make_job(caller: Caller, **body: object) -> dict[str, Any]:
    """Make a configuration job, or a software job if no type is told."""
    kind = "config" if "type" in body else "software"
    answer = caller.call("POST", path(DOMAIN, "jobs", kind), token=admin_of(caller), body=body)
    assert answer.status == 201, answer.text
    return dict(answer.json)


def phone(hw_id: str = PHONE) -> UpdateClient:
    """Unpack an update client."""
    mac = "-".join(hw_id[at : at + 2] for at in range(0, 12, 2))
    return UpdateClient(mac, "IP232", "10.0.0.7", "https://dialtone.example/api/init")


def fetch_through(caller: Caller, source: str = "192.0.2.1") -> Fetch:
    """Let phones reach the service through a caller."""

    def fetch(url: str) -> tuple[int, str]:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = parts.path.removeprefix("/api")
        answer = caller.call("GET", path, query=query, source=source)
        return answer.status, answer.text

    return fetch


def visit(caller: Caller, line: str, hw_id: str = PHONE) -> str:
    """Let an update client run a line that points it somewhere, and call there once.

    Returns:
        The script that it gets.
    """
    client = phone(hw_id)
    client.execute(f"{line}\r\n{scripts.WRITE.text}\r\n{scripts.ACTIVATE.text}", hour=12)
    _, script = fetch_through(caller)(client.url())
    return script


def line_in(script: str) -> str:
    """Find the line of a script by which the phone comes back."""
    (line,) = [text for text in script.splitlines() if text.startswith("config add UP1 /url ")]
    return line


def register(caller: Caller, hw_id: str = PHONE) -> str:
    """Let a phone come in by its domain's token; tell the line by which it comes back."""
    sheet = caller.call(
        "GET", path(DOMAIN, "token"), token=admin_of(caller), query={"category": CATEGORY}
    )
    return line_in(visit(caller, sheet.json["update_client_line"], hw_id))
