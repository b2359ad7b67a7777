"""Logins over AppWebsocket: what proves a password, what ends a connection, what is limited."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import identity, settings
from chalicelib.core import app_login
from chalicelib.core.app_login import Login
from chalicelib.core.errors import (
    LimitReachedError,
    NotAllowedError,
    NotSignedInError,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles import domains, logins
from chalicelib.storage import connections, notifications
from chalicelib.storage import domains as domain_table
from chalicelib.storage.connection import Transaction
from chalicelib.storage.connections import Connection, Role
from local import demo
from local.identity import AUDIENCE, Issuer
from tests import faults, world
from tests.conftest import NOW, use

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

DOMAIN = world.DOMAIN
PASSWORD = "dialtone"
ISSUER_URL = "http://127.0.0.1/issuer"


@pytest.fixture(autouse=True)
def issuer(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """Write the demo data, and let an issuer's documents be served without a network."""
    made = Issuer(ISSUER_URL, demo.PEOPLE)
    used = replace(
        settings.current(),
        instance_domain=demo.INSTANCE_DOMAIN,
        issuer=ISSUER_URL,
        audience=AUDIENCE,
    )
    use(used, monkeypatch)
    documents = {f"{ISSUER_URL}{path}": body for path, body in made.documents().items()}
    monkeypatch.setattr(identity, "_get_json", documents.__getitem__)
    assert table_names
    world.seed()
    return made


def found(connection_id: str) -> Connection:
    """Read a connection."""
    known = connections.find(connection_id)
    assert known is not None
    return known


def opened(connection_id: str = "one", source: str = world.HOME, now: datetime = NOW) -> Connection:
    """Open a connection."""
    logins.open_connection(connection_id, source, now)
    return found(connection_id)


def proof(
    known: Connection, domain: str = DOMAIN, password: str = PASSWORD, info: str | None = None
) -> Login:
    """Ask for a challenge, and compute a login with it."""
    challenge = logins.challenge(known)
    login = Login("users", domain, "pbx", "guid", "dn", info=info)
    return replace(login, digest=app_login.digest(login, challenge, password))


def log_in(known: Connection, *arguments: Any, now: datetime = NOW, **named: Any) -> Connection:  # noqa: ANN401 - of proof
    """Log in over a connection."""
    return logins.log_in(known, proof(known, *arguments, **named), now)


def outcome(act: Callable[[], object]) -> type[object]:
    """Tell what came of it."""
    try:
        return type(act())
    except (NotSignedInError, NotAllowedError, LimitReachedError) as error:
        return type(error)


@pytest.mark.parametrize("info", [None, "{}", '{ "b":1,\t"a":[1.0,"\\u00e4"]}'])
def test_the_password_of_a_domain_logs_in(info: str | None) -> None:
    """With info, which is hashed as it was spelt, and without."""
    before = opened()
    after = log_in(before, info=info)
    assert after == found("one")
    assert (after.role, after.domain, after.sip) == (Role.USERS_INSTANCE, DOMAIN, "pbx")
    assert (after.app, after.logged_in_at, after.ends_at) == ("users", NOW, None)
    assert after.challenge == ""
    assert connections.overdue(NOW + timedelta(days=1)) == []
    audience = connections.listening(connections.users_instances(DOMAIN), NOW)
    assert [known.connection_id for known in audience] == ["one"]
    assert connections.domains_listening() == [DOMAIN]


def test_an_empty_domain_is_that_of_the_instance() -> None:
    """The digest covers it as it was sent, empty."""
    assert log_in(opened(), "", "platform").domain == demo.INSTANCE_DOMAIN
    assert outcome(lambda: log_in(opened("two"), "", PASSWORD)) is NotSignedInError


def test_without_an_instance_domain_a_domain_must_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody administers all domains then."""
    use(replace(settings.current(), instance_domain=""), monkeypatch)
    assert outcome(lambda: log_in(opened(), "", "")) is NotSignedInError
    assert log_in(opened("two")).domain == DOMAIN


@pytest.mark.parametrize(
    ("domain", "password"),
    [
        (DOMAIN, "wrong"),
        (DOMAIN, ""),
        (DOMAIN, "-"),
        (demo.INSTANCE_DOMAIN, PASSWORD),
        ("unknown.example", PASSWORD),
        ("unknown.example", "-"),
        ("other.example", ""),
        ("other.example", "-"),
    ],
)
def test_whatever_proves_no_password_is_refused_alike(domain: str, password: str) -> None:
    """A wrong password, an unknown domain and one without a password."""
    with pytest.raises(NotSignedInError, match="wrong digest"):
        log_in(opened(), domain, password)
    assert found("one").role is Role.NOBODY


def test_a_digest_of_other_members_or_layout_is_refused() -> None:
    """Every member counts, also whether info is there."""
    for change in ({"app": "x"}, {"sip": "x"}, {"guid": "x"}, {"dn": "x"}, {"info": "{}"}):
        known = opened()
        login = replace(proof(known), **change)
        assert outcome(lambda: logins.log_in(known, login, NOW)) is NotSignedInError  # noqa: B023 - at once
    assert outcome(lambda: logins.log_in(known, Login("users", DOMAIN), NOW)) is NotSignedInError


def test_a_login_without_a_challenge_is_refused() -> None:
    """Nothing can be computed before, and nothing is charged for it."""
    for _ in range(12):
        login = Login("users", DOMAIN)
        login = replace(login, digest=app_login.digest(login, "", PASSWORD))
        assert outcome(lambda: logins.log_in(opened(), login, NOW)) is NotSignedInError  # noqa: B023 - at once


def test_a_challenge_is_good_for_one_login() -> None:
    """A wrong login uses it up, and a new challenge makes the one before void."""
    known = opened()
    login = proof(known)
    wrong = replace(login, digest="0" * 64)
    assert outcome(lambda: logins.log_in(known, wrong, NOW)) is NotSignedInError
    assert outcome(lambda: logins.log_in(known, login, NOW)) is NotSignedInError
    early, late = proof(known), proof(known)
    assert outcome(lambda: logins.log_in(known, early, NOW)) is NotSignedInError
    assert outcome(lambda: logins.log_in(known, late, NOW)) is NotSignedInError
    assert log_in(known).domain == DOMAIN


def test_sixteen_logins_with_one_challenge_are_one() -> None:
    """At the same time, over the same connection."""
    known = opened()
    login = proof(known)
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(
            pool.map(lambda _: outcome(lambda: logins.log_in(known, login, NOW)), range(16))
        )
    assert outcomes.count(Connection) == 1
    assert outcomes.count(NotSignedInError) == 15


def test_a_connection_logs_in_once() -> None:
    """It gets no second challenge, and none that it still had helps."""
    before = opened()
    login = proof(before)
    challenge = found("one").challenge
    after = logins.log_in(before, login, NOW)
    with pytest.raises(NotAllowedError):
        logins.challenge(after)
    again = replace(login, digest=app_login.digest(login, challenge, PASSWORD))
    assert outcome(lambda: logins.log_in(after, again, NOW)) is NotSignedInError
    assert outcome(lambda: logins.log_in(before, again, NOW)) is NotSignedInError


def test_a_connection_that_is_closed_meanwhile_does_not_log_in() -> None:
    """It is listed nowhere afterwards."""
    before = opened()
    login = proof(before)
    logins.close_connection("one")
    assert outcome(lambda: logins.log_in(before, login, NOW)) is NotSignedInError
    with pytest.raises(NotAllowedError):
        logins.challenge(before)
    assert connections.domains_listening() == []


def test_a_connection_that_closes_at_the_last_moment_does_not_log_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The login's own write notices that it has gone."""
    before = opened()
    login = proof(before)
    real = connections.log_in

    def late(write: Transaction, old: Connection, new: Connection) -> None:
        logins.close_connection("one")
        real(write, old, new)

    monkeypatch.setattr(connections, "log_in", late)
    with pytest.raises(NotSignedInError, match="gone"):
        logins.log_in(before, login, NOW)
    assert connections.domains_listening() == []


def test_ten_wrong_logins_of_a_source_are_enough() -> None:
    """Another source still gets in, and so does this one when a minute has passed."""
    for number in range(10):
        known = opened(f"wrong {number}")
        assert outcome(lambda: log_in(known, password="wrong")) is NotSignedInError  # noqa: B023 - at once
    with pytest.raises(LimitReachedError) as limited:
        log_in(opened())
    assert limited.value.limit == LimitName.LOGINS
    assert 0 < limited.value.retry_after_seconds <= 60
    assert log_in(opened("elsewhere", "198.51.100.1")).domain == DOMAIN
    later = NOW + timedelta(minutes=1)
    assert log_in(opened("later", now=later), now=later).domain == DOMAIN


def test_a_login_that_succeeds_costs_nothing() -> None:
    """Many instances may come from one place."""
    for number in range(12):
        log_in(opened(f"well {number}"))


def test_a_login_that_meets_our_own_trouble_costs_nothing(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its source nor its domain, whether the store or the issuer is away."""
    known = settings.current()
    limits = {**known.limits}
    for name in (LimitName.LOGINS, LimitName.DOMAIN_LOGINS):
        limits[name] = replace(limits[name], burst=2)
    use(replace(known, limits=limits), monkeypatch)
    identity.forget()

    def away(_: str) -> Any:  # noqa: ANN401 - as what it stands for
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(domain_table, "find", away)
        patch.setattr(identity, "_get_json", away)
        for number in range(3):
            with pytest.raises(StoreUnavailableError):
                log_in(opened(f"instance {number}"))
            with pytest.raises(StoreUnavailableError):
                logins.sign_in(opened(f"person {number}"), issuer.token("user1", NOW), NOW)
    for number in range(2):
        assert outcome(lambda: log_in(opened(f"wrong {number}"), password="wrong")) is (  # noqa: B023 - at once
            NotSignedInError
        )
    assert outcome(lambda: log_in(opened())) is LimitReachedError


def test_a_domain_with_nothing_left_costs_a_source_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It still logs in to others."""
    known = settings.current()
    limit = replace(known.limits[LimitName.DOMAIN_LOGINS], burst=1)
    use(replace(known, limits={**known.limits, LimitName.DOMAIN_LOGINS: limit}), monkeypatch)
    elsewhere = opened("wrong", "198.51.100.1")
    assert outcome(lambda: log_in(elsewhere, password="wrong")) is NotSignedInError
    for number in range(11):
        with pytest.raises(LimitReachedError) as limited:
            log_in(opened(f"refused {number}"))
        assert limited.value.limit == LimitName.DOMAIN_LOGINS
    assert log_in(opened("other"), "", "platform").domain == demo.INSTANCE_DOMAIN


def test_wrong_logins_of_a_domain_are_limited_wherever_they_come_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With nothing left the domain is closed for all sources, and other domains are not."""
    known_limits = settings.current().limits
    limit = replace(known_limits[LimitName.DOMAIN_LOGINS], burst=4)
    limits = {**known_limits, LimitName.DOMAIN_LOGINS: limit}
    use(replace(settings.current(), limits=limits), monkeypatch)
    for number in range(limit.burst):
        known = opened(f"wrong {number}", f"198.51.100.{number}")
        assert outcome(lambda: log_in(known, password="wrong")) is NotSignedInError  # noqa: B023 - at once
    with pytest.raises(LimitReachedError) as limited:
        log_in(opened())
    assert limited.value.limit == LimitName.DOMAIN_LOGINS
    assert log_in(opened("other"), "", "platform").domain == demo.INSTANCE_DOMAIN


def test_a_login_wakes_its_domain_and_those_that_it_asked_codes_of(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """What is pending for it is looked up at once."""
    transaction = Transaction()
    notifications.add_abroad(transaction, DOMAIN, "other.example", NOW)
    transaction.commit()
    log_in(opened())
    assert woken(client, table_names) == [DOMAIN, "other.example"]


def test_a_login_lasts_though_the_domains_it_asked_codes_of_cannot_be_woken(
    monkeypatch: pytest.MonkeyPatch, client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """The schedule wakes them; the client must not take its login for failed."""
    transaction = Transaction()
    notifications.add_abroad(transaction, DOMAIN, "other.example", NOW)
    transaction.commit()
    with faults.failing(monkeypatch, "PutItem", faults.timeout()):
        assert log_in(opened()).role is Role.USERS_INSTANCE
    assert woken(client, table_names) == [DOMAIN]


def test_a_login_does_not_wait_for_many_domains(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """The schedule goes through all of them: in a function of ten seconds it would not end."""
    for number in range(2 * logins.MAX_WOKEN):
        transaction = Transaction()
        notifications.add_abroad(transaction, DOMAIN, f"other{number}.example", NOW)
        transaction.commit()
    log_in(opened())
    assert len(woken(client, table_names)) == 1 + logins.MAX_WOKEN


def woken(client: "DynamoDBClient", table_names: dict[str, str]) -> list[str]:
    """List the domains that were woken."""
    items = client.scan(TableName=table_names["notifications"])["Items"]
    return sorted(
        item["domain"]["S"] for item in items if item["kind"]["S"] == notifications.Kind.WAKE.value
    )


def test_attending_to_a_connection() -> None:
    """It has a minute to log in; one that is unknown or over is nobody."""
    known = opened()
    assert logins.attend("one", NOW + timedelta(seconds=59)) == known
    for connection_id, seconds in (("one", 60), ("one", 3600), ("unknown", 0)):
        with pytest.raises(NotSignedInError):
            logins.attend(connection_id, NOW + timedelta(seconds=seconds))
    log_in(known)
    assert logins.attend("one", NOW + timedelta(hours=2)).domain == DOMAIN


def test_a_flood_of_messages_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one connection alone."""
    known = settings.current()
    limit = replace(known.limits[LimitName.MESSAGES], burst=3)
    use(replace(known, limits={**known.limits, LimitName.MESSAGES: limit}), monkeypatch)
    opened()
    opened("two")
    for _ in range(3):
        logins.attend("one", NOW)
    with pytest.raises(LimitReachedError) as limited:
        logins.attend("one", NOW)
    assert limited.value.retry_after_seconds == 1
    assert logins.attend("two", NOW).connection_id == "two"


def test_closing_forgets_a_connection_wherever_it_is_listed() -> None:
    """And closing one that is unknown is nothing."""
    log_in(opened())
    logins.close_connection("one")
    logins.close_connection("one")
    assert connections.find("one") is None
    assert connections.listening(connections.users_instances(DOMAIN), NOW) == []
    assert connections.domains_listening() == []


def test_a_person_signs_in_until_the_token_ends(issuer: Issuer) -> None:
    """They hear of their own, and are overdue when their token ends."""
    known, person = logins.sign_in(opened(), issuer.token("user1", NOW), NOW)
    assert (known.role, known.domain, known.sip, known.app) == (Role.PERSON, DOMAIN, "user1", "")
    assert list(known.audiences) == [connections.user(DOMAIN, "user1")]
    assert person.signed_in_until == known.ends_at == NOW + timedelta(hours=1)
    assert logins.attend("one", NOW + timedelta(seconds=3599)) == known
    with pytest.raises(NotSignedInError):
        logins.attend("one", NOW + timedelta(seconds=3600))
    audience = connections.user(DOMAIN, "user1")
    assert connections.listening(audience, NOW + timedelta(seconds=3599)) == [known]
    assert connections.listening(audience, NOW + timedelta(seconds=3600)) == []
    assert connections.overdue(NOW + timedelta(seconds=3599)) == []
    assert connections.overdue(NOW + timedelta(seconds=3600)) == [known]


def test_a_token_may_end_when_the_time_to_log_in_does(issuer: Issuer) -> None:
    """To the millisecond."""
    ends = int((NOW + timedelta(seconds=60)).timestamp())
    known, _ = logins.sign_in(opened(), issuer.token("user1", NOW, exp=ends), NOW)
    assert connections.overdue(NOW + timedelta(seconds=60)) == [known]


def test_those_who_roll_out_hear_of_their_domain(issuer: Issuer) -> None:
    """With the role for it; a person wakes no domain."""
    known, _ = logins.sign_in(opened(), issuer.token("admin", NOW), NOW)
    wanted = [connections.user(DOMAIN, "admin"), connections.admins(DOMAIN)]
    assert list(known.audiences) == wanted
    assert connections.domains_listening() == []


def test_a_person_signs_in_once_and_with_a_token_that_holds(issuer: Issuer) -> None:
    """Expired, forged, of nobody: refused, and ten such are enough for a source."""
    known = opened()
    expired = issuer.token("user1", NOW - timedelta(hours=2))
    nobody = issuer.token("user1", NOW, sip=None)
    assert outcome(lambda: logins.sign_in(known, expired, NOW)) is NotSignedInError
    assert outcome(lambda: logins.sign_in(known, "forged", NOW)) is NotSignedInError
    assert outcome(lambda: logins.sign_in(known, nobody, NOW)) is NotAllowedError
    good = issuer.token("user1", NOW)
    after, _ = logins.sign_in(known, good, NOW)
    assert outcome(lambda: logins.sign_in(after, good, NOW)) is NotSignedInError
    assert outcome(lambda: logins.sign_in(known, good, NOW)) is NotSignedInError
    for _ in range(7):
        assert outcome(lambda: logins.sign_in(opened("two"), "forged", NOW)) is NotSignedInError
    assert outcome(lambda: logins.sign_in(opened("two"), good, NOW)) is LimitReachedError


def test_a_new_password_counts_from_the_next_login_on() -> None:
    """The old one is refused."""
    domains.change(world.admin(), DOMAIN, {"websocket_password": "a new password"})
    assert outcome(lambda: log_in(opened())) is NotSignedInError
    assert log_in(opened(), DOMAIN, "a new password").domain == DOMAIN
