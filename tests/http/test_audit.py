"""The audit trail: every act is in it once, with who, when and from where, and never a secret."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.core.codes import read_entry
from chalicelib.core.errors import Refusal
from chalicelib.roles import analogue_phones
from chalicelib.storage import devices, vault
from local import demo
from tests import world
from tests.docs.test_documented import documented_actions
from tests.http.service import Answer, Caller
from tests.http.test_installations import ELSEWHERE
from tests.http.test_phones import IDENTIFY
from tests.http.test_secrets import every_spelling, spellings
from tests.wires import Wires

PLACE = "198.51.100.77"
"""Where every act comes from, and nothing that leads up to it."""

OTHER = "other.example"
PHONE, OTHER_PHONE = "009033000001", "009033000002"
TOKEN = "a token of the domain's own"
PASSWORD = "s3same=open#"
FIRMWARE = {
    "IP232": {
        "prot": {"build": "134250", "url": "https://firmware.example/134250/ip232.bin"},
        "boot": {"build": "131286", "url": "https://firmware.example/131286/boot232.bin"},
    }
}
ANY_ID = "…"
"""In place of the id of a code that nobody is told."""

BELOW = f"/domains/{world.DOMAIN}"


@dataclass(frozen=True)
class Told:
    """What the trail says of an act, beside when and from where."""

    action: str
    actor: str
    subject: str
    detail: str = ""
    owner: str = ""
    rollout_id: str = ""


@dataclass
class Stage:
    """Where acts happen: the service, and every secret that it has told or been told."""

    caller: Caller
    wires: Wires
    place: str = world.HOME
    secrets: list[str] = field(default_factory=lambda: [TOKEN, PASSWORD])
    drawn: list[str] = field(default_factory=list)

    def call(
        self,
        method: str,
        where: str,
        user: str = "",
        body: object = None,
        **more: Any,  # noqa: ANN401 - Caller.call's own
    ) -> Answer:
        """Make a call that succeeds."""
        token = more.pop("token", "") or (self.caller.sign_in(user) if user else "")
        self.secrets += [token] if token else []
        answer = self.caller.call(method, where, token=token, body=body, source=self.place, **more)
        assert answer.status < 300, answer.text
        return answer

    def visit(self, hw_id: str = PHONE, **query: str) -> str:
        """Let an update client come."""
        mac = "-".join(hw_id[at : at + 2] for at in range(0, 12, 2))
        return self.call("GET", "/devices/update", query={"mac": mac, **query}).text

    @contextmanager
    def act(self) -> Iterator[None]:
        """Do what is tried, from its own place."""
        self.place = PLACE
        try:
            yield
        finally:
            self.place = world.HOME

    def code(self, user: str = "user1") -> dict[str, str]:
        """Get a code of a person's own."""
        return dict(self.call("POST", "/me/codes", user, {"category": "Office"}).json)

    def redeemed(self, user: str = "user1", hw_id: str = PHONE) -> dict[str, str]:
        """Register a phone by a person's own code."""
        code = self.code(user)
        assert "device_token" in self.visit(hw_id, code=code["code"])
        return code

    def rollout(self, *users: str) -> str:
        """Roll phones out to users."""
        body = {"name": "Autumn", "category": "Office", "users": users}
        return str(self.call("POST", "/rollouts", "admin", body).json["rollout_id"])

    def entry(self, rollout_id: str) -> tuple[str, str]:
        """Tell the code of a rollout's only entry: its id and its digits."""
        (item,) = self.call("GET", f"/rollouts/{rollout_id}", "admin").json["items"]
        return str(item["code_id"]), self.drawn[-1]

    def set_token(self) -> None:
        """Turn automatic provisioning on."""
        self.call("PUT", f"{BELOW}/token", "admin", {"category": "Office", "token": TOKEN})

    def claim(self, token: str) -> dict[str, object]:
        """Identify as a phone that has a domain's token."""
        told: dict[str, object] = {
            **IDENTIFY,
            "id": PHONE,
            "domain": world.DOMAIN,
            "category": "Office",
        }
        return {**told, "token": token}

    def trail(self, domain: str) -> list[dict[str, str]]:
        """Read a domain's trail of this month, oldest first."""
        query, found = {"limit": "100"}, []
        while True:
            where = f"/domains/{domain}/audit"
            page = self.caller.call("GET", where, user="platform", query=query).json
            found += page["items"]
            if page["next"] is None:
                return found[::-1]
            query["cursor"] = page["next"]


Act = Callable[[Stage], list[Told]]
ACTS: list[Act] = []


def act(done: Act) -> Act:
    """Try it below."""
    ACTS.append(done)
    return done


@act
def a_person_gets_a_code(stage: Stage) -> list[Told]:
    """With Profile."""
    with stage.act():
        code = stage.code()
    return [Told("code issued", "user1", code["code_id"], owner="user1")]


@act
def a_person_repeats_that_with_their_key(stage: Stage) -> list[Told]:
    """One code, and so one entry."""
    key = {"Idempotency-Key": "a key of mine"}
    with stage.act():
        for _ in range(2):
            answer = stage.call("POST", "/me/codes", "user1", {"category": "Office"}, headers=key)
    return [Told("code issued", "user1", answer.json["code_id"], owner="user1")]


@act
def a_users_instance_gets_a_code(stage: Stage) -> list[Told]:
    """Over AppWebsocket, for a user."""
    wire = stage.wires.connect(PLACE)
    assert wire.log_in(world.DOMAIN, "dialtone")["ok"] is True
    wire.ask("GetProvisioningCode", category="Office", sip="user3")
    (code,) = stage.call("GET", "/me/codes", "user3").json["items"]
    return [Told("code issued", f"users ({world.DOMAIN})", code["code_id"], owner="user3")]


@act
def a_person_revokes_their_code(stage: Stage) -> list[Told]:
    """Once, though they ask twice."""
    code_id = stage.code()["code_id"]
    with stage.act():
        for _ in range(2):
            stage.call("DELETE", f"/me/codes/{code_id}", "user1")
    return [Told("code revoked", "user1", code_id, owner="user1")]


@act
def a_phone_redeems_a_code(stage: Stage) -> list[Told]:
    """And repeats it, which changes nothing."""
    code = stage.code()
    with stage.act():
        for _ in range(2):
            stage.visit(code=code["code"])
    return [Told("code redeemed", PHONE, code["code_id"], owner="user1")]


@act
def a_phone_redeems_a_code_of_a_rollout(stage: Stage) -> list[Told]:
    """Tell of which, for whom, and who had the phone before."""
    stage.redeemed("user2")
    rollout_id = stage.rollout("user1")
    code_id, digits = stage.entry(rollout_id)
    with stage.act():
        stage.visit(code=digits)
    return [Told("code redeemed", PHONE, code_id, "from user2", "user1", rollout_id)]


@act
def a_code_is_refused(stage: Stage) -> list[Told]:
    """Try a good code on the phone of somebody else."""
    stage.redeemed("user2")
    code = stage.code("user1")
    why = Refusal.DEVICE_OF_ANOTHER_USER
    with stage.act():
        stage.visit(code=code["code"])
    return [Told("code refused", PHONE, code["code_id"], why, "user1")]


@act
def a_code_of_a_rollout_is_refused(stage: Stage) -> list[Told]:
    """By the central service, after another phone redeemed it."""
    rollout_id = stage.rollout("user1")
    code_id, digits = stage.entry(rollout_id)
    stage.visit(code=digits)
    with stage.act():
        stage.call("GET", "/init", query={"mac": "00-90-33-00-00-02", "code": digits})
    why = Refusal.ALREADY_USED
    return [Told("code refused", OTHER_PHONE, code_id, why, "user1", rollout_id)]


@act
def a_code_is_repeated_from_elsewhere(stage: Stage) -> list[Told]:
    """Again and again: it is not charged, and so it is written down once in a while."""
    code = stage.redeemed()
    with stage.act():
        for _ in range(15):
            assert "prompt" in stage.visit(code=code["code"])
    why = Refusal.REPEATED_ELSEWHERE
    return [Told("code refused", PHONE, code["code_id"], why, "user1")]


@act
def a_rollout_is_made(stage: Stage) -> list[Told]:
    """With its first users."""
    with stage.act():
        made = stage.rollout("user1", "user2")
    return [
        Told("rollout made", "admin", made),
        Told("codes issued", "admin", made, "user1, user2"),
    ]


@act
def codes_are_issued(stage: Stage) -> list[Told]:
    """For more users; who has an entry keeps it."""
    made = stage.rollout("user1")
    with stage.act():
        stage.call("POST", f"/rollouts/{made}/entries", "admin", {"users": ["user1", "user2"]})
    return [Told("codes issued", "admin", made, "user2")]


@act
def codes_are_viewed(stage: Stage) -> list[Told]:
    """As slips to print."""
    made = stage.rollout("user1", "user2")
    with stage.act():
        stage.call("GET", f"/rollouts/{made}/slips", "admin")
    return [Told("codes viewed", "admin", made, "user1, user2")]


@act
def codes_are_exported(stage: Stage) -> list[Told]:
    """As a file."""
    made = stage.rollout("user1", "user2")
    with stage.act():
        stage.call("GET", f"/rollouts/{made}/codes.csv", "admin")
    return [Told("codes exported", "admin", made, "2 entries")]


def _changed(stage: Stage, how: str, action: str) -> list[Told]:
    made = stage.rollout("user1", "user2")
    with stage.act():
        stage.call("POST", f"/rollouts/{made}/{how}", "admin", {"users": ["user2"]})
    return [Told(action, "admin", made, "user2")]


@act
def codes_are_extended(stage: Stage) -> list[Told]:
    """Of one user."""
    return _changed(stage, "extend", "codes extended")


@act
def codes_are_reissued(stage: Stage) -> list[Told]:
    """Of one user."""
    return _changed(stage, "reissue", "codes reissued")


@act
def codes_are_revoked(stage: Stage) -> list[Told]:
    """Of one user."""
    return _changed(stage, "revoke", "codes revoked")


@act
def a_person_gives_their_phone_up(stage: Stage) -> list[Told]:
    """With Profile."""
    stage.redeemed()
    with stage.act():
        stage.call("DELETE", f"/me/phones/{PHONE}", "user1")
    return [Told("device released", "user1", PHONE, owner="user1")]


@act
def an_administrator_releases_a_phone(stage: Stage) -> list[Told]:
    """Whose it was is told."""
    stage.redeemed()
    with stage.act():
        stage.call("POST", f"{BELOW}/devices/{PHONE}/release", "admin")
    return [Told("device released", "admin", PHONE, owner="user1")]


@act
def an_administrator_of_the_platform_does(stage: Stage) -> list[Told]:
    """They are told from somebody of the same sip in the domain."""
    stage.redeemed()
    with stage.act():
        stage.call("POST", f"{BELOW}/devices/{PHONE}/release", "platform")
    return [Told("device released", f"platform ({demo.INSTANCE_DOMAIN})", PHONE, owner="user1")]


@act
def a_phone_is_removed(stage: Stage) -> list[Told]:
    """Altogether."""
    stage.redeemed()
    with stage.act():
        stage.call("DELETE", f"{BELOW}/devices/{PHONE}", "admin")
    return [Told("device removed", "admin", PHONE, owner="user1")]


def _typed_at_a_gateway(stage: Stage) -> None:
    """Register an analogue phone of user2 at the gateway of user1."""
    stage.redeemed()
    code = stage.code("user2")
    _type_at_the_gateway(stage, code["code"])


def _type_at_the_gateway(stage: Stage, digits: str) -> None:
    gateway, entry = devices.find(PHONE), read_entry(digits)
    assert gateway is not None
    assert entry is not None
    analogue_phones.register(gateway, "TEL1", entry, stage.place, datetime.now(UTC))


@act
def a_code_is_redeemed_at_a_gateway(stage: Stage) -> list[Told]:
    """By the analogue phone, which is named by its interface."""
    stage.redeemed()
    code = stage.code("user2")
    with stage.act():
        _type_at_the_gateway(stage, code["code"])
    return [Told("code redeemed", f"{PHONE}-TEL1", code["code_id"], owner="user2")]


@act
def a_gateway_is_released(stage: Stage) -> list[Told]:
    """And the analogue phone at it, whose user hears why."""
    _typed_at_a_gateway(stage)
    with stage.act():
        stage.call("POST", f"{BELOW}/devices/{PHONE}/release", "admin")
    return [
        Told("device released", "admin", f"{PHONE}-TEL1", "with its gateway", owner="user2"),
        Told("device released", "admin", PHONE, owner="user1"),
    ]


@act
def a_users_instance_removes_an_analogue_phone(stage: Stage) -> list[Told]:
    """Over AppWebsocket; whose phone it was is told."""
    _typed_at_a_gateway(stage)
    with stage.act():
        wire = stage.wires.connect(PLACE)
        assert wire.log_in(world.DOMAIN, "dialtone")["ok"] is True
        wire.ask("RemoveDevicePhone", hwId=PHONE, id="TEL1")
    actor = f"users ({world.DOMAIN})"
    return [Told("device removed", actor, f"{PHONE}-TEL1", owner="user2")]


@act
def a_phone_is_replaced(stage: Stage) -> list[Told]:
    """By one that is expected, and gets a code."""
    stage.redeemed()
    with stage.act():
        where = f"{BELOW}/devices/{PHONE}/replace"
        stage.call("POST", where, "admin", {"hw_id": OTHER_PHONE})
    codes = stage.call("GET", "/me/codes", "user1").json["items"]
    return [
        Told("device replaced", "admin", PHONE, f"by {OTHER_PHONE}", "user1"),
        Told("code issued", "admin", codes[0]["code_id"], owner="user1"),
    ]


@act
def a_phone_is_changed(stage: Stage) -> list[Told]:
    """Move it, once; the same again is no change."""
    stage.redeemed()
    with stage.act():
        for _ in range(2):
            where = f"{BELOW}/devices/{PHONE}"
            stage.call("PATCH", where, "admin", {"category": "Reception"})
    return [Told("device changed", "admin", PHONE, "moved to Reception", "user1")]


@act
def a_phone_is_admitted(stage: Stage) -> list[Told]:
    """By its domain's token."""
    stage.set_token()
    with stage.act():
        stage.call("POST", "/devices/register", body=stage.claim(TOKEN))
    return [Told("device admitted", PHONE, PHONE)]


@act
def a_phone_is_not_admitted(stage: Stage) -> list[Told]:
    """However often it tries the same wrong token."""
    stage.set_token()
    claim = stage.claim("a token that is wrong")
    stage.secrets.append("a token that is wrong")
    with stage.act():
        for _ in range(3):
            answer = stage.caller.call("POST", "/devices/register", body=claim, source=PLACE)
            assert answer.status == 404
    return [Told("admission refused", PHONE, PHONE, Refusal.WRONG_TOKEN)]


@act
def a_domain_is_made(stage: Stage) -> list[Told]:
    """With a password, which is named and not told."""
    with stage.act():
        body = {"domain": "new.example", "websocket_password": PASSWORD}
        stage.call("POST", "/domains", "platform", body)
    actor = f"platform ({demo.INSTANCE_DOMAIN})"
    return [Told("domain made", actor, "new.example", "websocket_password")]


@act
def a_password_is_set(stage: Stage) -> list[Told]:
    """Beside another setting."""
    with stage.act():
        body = {"websocket_password": PASSWORD, "may_add_phones": False}
        stage.call("PATCH", BELOW, "admin", body)
    return [Told("domain changed", "admin", world.DOMAIN, "may_add_phones, websocket_password")]


@act
def a_domain_gets_a_pbx(stage: Stage) -> list[Told]:
    """Which settings, and no password; then it hears of all phones again, and is taken away."""
    body = {"address": "wss://pbx.example", "app_object": "dialtone", "password": PASSWORD}
    with stage.act():
        stage.call("PUT", f"{BELOW}/pbx", "admin", body)
        stage.call("POST", f"{BELOW}/pbx/redrive", "admin")
        stage.call("POST", f"{BELOW}/pbx/replicate", "admin")
        stage.call("DELETE", f"{BELOW}/pbx", "admin")
    told = "address, app_object, find_by, flags, password"
    return [
        Told("PBX set", "admin", world.DOMAIN, told),
        Told("PBX told again", "admin", world.DOMAIN),
        Told("users requested", "admin", world.DOMAIN),
        Told("PBX removed", "admin", world.DOMAIN),
    ]


@act
def a_domain_is_deleted(stage: Stage) -> list[Told]:
    """Its trail stays."""
    stage.call("POST", "/domains", "platform", {"domain": "new.example"})
    with stage.act():
        stage.call("DELETE", "/domains/new.example", "platform")
    return [Told("domain deleted", f"platform ({demo.INSTANCE_DOMAIN})", "new.example")]


@act
def a_category_is_made_changed_and_deleted(stage: Stage) -> list[Told]:
    """Write an entry for each."""
    with stage.act():
        where = f"{BELOW}/categories/New"
        for _ in range(2):
            stage.call("PUT", where, "admin", {"provisioning": True, "device_types": ["PHONE"]})
        stage.call("DELETE", where, "admin")
    acts = ("category made", "category changed", "category deleted")
    return [Told(action, "admin", "New") for action in acts]


@act
def a_token_is_set_shown_rotated_and_removed(stage: Stage) -> list[Told]:
    """Write an entry for each."""
    with stage.act():
        stage.set_token()
        stage.call("GET", f"{BELOW}/token", "admin", query={"category": "Office"})
        stage.call("PUT", f"{BELOW}/token", "admin", {"category": "Office"})
        stage.call("DELETE", f"{BELOW}/token", "admin")
    acts = ("token set", "token shown", "token rotated", "token removed")
    return [Told(action, "admin", world.DOMAIN) for action in acts]


@act
def an_installation_is_made_asks_for_a_code_and_is_deleted(stage: Stage) -> list[Told]:
    """In the trail of the domain of who made it."""
    with stage.act():
        made = stage.call("POST", "/installations", "platform", {"name": "Elsewhere"}).json
        stage.call("POST", "/provisioning/codes", token=made["key"], body=ELSEWHERE)
        stage.call("DELETE", f"/installations/{made['installation_id']}", "platform")
    return [
        Told("installation made", "platform", made["installation_id"], "Elsewhere"),
        Told("code issued", f"Elsewhere ({made['installation_id']})", ANY_ID),
        Told("installation deleted", "platform", made["installation_id"]),
    ]


@act
def users_are_imported(stage: Stage) -> list[Told]:
    """How many are new or changed, and never by a dry run."""
    users = [{"sip": "zoe", "name": "Zoe"}, {"sip": "zeno", "name": "Zeno"}]
    with stage.act():
        for query in ({"dry_run": "true"}, {}):
            stage.call("POST", "/users", "admin", {"users": users}, query=query)
    return [Told("users imported", "admin", "2 users")]


@act
def a_person_signs_in_for_the_first_time(stage: Stage) -> list[Told]:
    """And becomes a user, once."""
    token = stage.caller.sign_in("user1", sip="zoe")
    with stage.act():
        for _ in range(2):
            stage.call("GET", "/me", token=token)
    return [Told("user added", "zoe", "zoe")]


@act
def jobs_are_made_and_deleted(stage: Stage) -> list[Told]:
    """With their type, and nothing that they hold."""
    parameters = {"password": PASSWORD}
    job = {"category": "Office", "type": "admin-password", "parameters": parameters}
    with stage.act():
        stage.call("PUT", f"{BELOW}/firmware", "admin", FIRMWARE)
        where = f"{BELOW}/jobs/software"
        software = stage.call("POST", where, "admin", {"category": "Office"}).json["job_id"]
        made = stage.call("POST", f"{BELOW}/jobs/config", "admin", job).json["job_id"]
        stage.call("DELETE", f"{BELOW}/jobs/{made}", "admin")
    return [
        Told("firmware set", "admin", world.DOMAIN),
        Told("job made", "admin", software, "software"),
        Told("job made", "admin", made, "admin-password"),
        Told("job deleted", "admin", made, "admin-password"),
    ]


@pytest.fixture
def stage(caller: Caller, wires: Wires, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Note every secret that is drawn."""
    made = Stage(caller, wires)

    def note(name: str) -> None:
        draw: Callable[[], str] = getattr(vault, name)

        def noted() -> str:
            made.drawn.append(draw())
            return made.drawn[-1]

        monkeypatch.setattr(vault, name, noted)

    for name in ("new_code", "new_token"):
        note(name)
    return made


DOMAINS = (world.DOMAIN, OTHER, demo.INSTANCE_DOMAIN, "new.example")


@pytest.mark.parametrize("done", ACTS, ids=lambda done: done.__name__)
def test_every_act_is_in_the_audit_trail_once(done: Act, stage: Stage) -> None:
    """With who, when, from where, what it happened to and whose that is; nothing is a secret."""
    began = datetime.now(UTC)
    expected = done(stage)
    every = [entry for domain in DOMAINS for entry in stage.trail(domain)]
    told = [entry for entry in every if entry["source"] == PLACE]
    for entry in told:
        assert began <= datetime.fromisoformat(entry.pop("at")) <= datetime.now(UTC)
        del entry["source"]
        if ANY_ID in {one.subject for one in expected if one.action == entry["action"]}:
            assert len(entry["subject"]) == 26
            entry["subject"] = ANY_ID
    made = [Told(**entry) for entry in told]
    assert sorted(made, key=astuple) == sorted(expected, key=astuple)
    written = str(every)
    for secret in stage.secrets + stage.drawn:
        for spelling in {*spellings(secret), *every_spelling(secret)}:
            assert spelling not in written


TRIED_ELSEWHERE = {"device left"}
"""It takes a day: test_a_domain_hears_that_it_lost_a_phone in tests/roles/test_promises.py."""


def test_every_action_is_tried_here() -> None:
    """Whatever the trail can say."""
    parsed = ast.parse(Path(__file__).read_text())
    written = {node.value for node in ast.walk(parsed) if isinstance(node, ast.Constant)}
    assert documented_actions() <= written | TRIED_ELSEWHERE
