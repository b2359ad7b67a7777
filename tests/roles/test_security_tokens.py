"""Security tokens as administrators set, rotate and show them."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidTag

from chalicelib.core.errors import ConflictError, InvalidRequestError, NotFoundError
from chalicelib.roles import domains, security_tokens
from chalicelib.roles.security_tokens import TokenSheet
from chalicelib.storage import domains as domain_table
from chalicelib.storage import vault
from tests import world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
TOKEN = "a token long enough to keep"


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def put(plain: str | None, seconds: int | None = None) -> TokenSheet:
    """Set the domain's security token."""
    return security_tokens.put(world.admin(), world.DOMAIN, "Office", plain, seconds)


def test_a_token_is_shown_with_all_that_rolls_it_out() -> None:
    """The sysclient's URL and the update client's, each with its line and its whole script."""
    sheet = put(TOKEN)
    query = "?domain=example.com&token=a%20token%20long%20enough%20to%20keep&category=Office"
    assert sheet.url == f"wss://dialtone.example/example.com/devices/sysclients{query}"
    assert sheet.update_client_url == f"{world.UPDATE_URL}{query}"
    assert sheet.config_line in sheet.sysclient_script
    assert sheet.update_client_line in sheet.update_client_script
    assert sheet.config_line.startswith("config change SYSCLIENT wss%3A%2F%2Fdialtone.example")
    assert "token%3Da%2520token" in sheet.update_client_line
    assert (sheet.is_weak, sheet.old_until) == (False, None)
    assert "browser" in sheet.warning
    assert security_tokens.show(world.admin(), world.DOMAIN, "Office") == sheet
    other = security_tokens.show(world.admin(), world.DOMAIN, "Reception")
    assert other.url.endswith("&category=Reception")
    assert TOKEN not in repr(sheet)
    assert "token%20" not in repr(sheet)


@pytest.mark.parametrize(
    ("devices_url", "sysclient", "update_client"),
    [
        ("https://d.example/up", "wss://dialtone.example/", "https://d.example/up?domain"),
        ("wss://d.example/sys", "wss://d.example/sys?domain", world.UPDATE_URL),
    ],
)
def test_a_token_leads_where_the_domain_says(
    devices_url: str, sysclient: str, update_client: str
) -> None:
    """An address of the domain's own replaces the one of its kind."""
    domains.change(world.admin(), world.DOMAIN, {"devices_url": devices_url})
    sheet = put(TOKEN)
    assert sheet.url.startswith(sysclient)
    assert sheet.update_client_url.startswith(update_client)


def test_a_server_in_clear_is_reached_in_clear() -> None:
    """On one machine the sysclient's URL is ws, with the port."""
    asking = replace(world.admin(), base_url="http://127.0.0.1:8000/api")
    sheet = security_tokens.put(asking, world.DOMAIN, "Office", TOKEN, None)
    assert sheet.url.startswith("ws://127.0.0.1:8000/example.com/devices/sysclients?")


def test_a_token_is_drawn_when_none_is_given_and_checked_when_one_is() -> None:
    """256 bits, never the same; too short, too long and unprintable ones are refused."""
    first, second = put(None), put(None)
    assert first.url != second.url
    assert not first.is_weak
    for plain in ("short", "", "x" * 201, "a token\nof two lines"):
        with pytest.raises(InvalidRequestError):
            put(plain)
    assert security_tokens.show(world.admin(), world.DOMAIN, "Office").url == second.url
    assert put("1234567890").is_weak
    for category in ("Gateways", "Nonsense"):
        with pytest.raises(NotFoundError):
            security_tokens.put(world.admin(), world.DOMAIN, category, TOKEN, None)
        with pytest.raises(NotFoundError):
            security_tokens.show(world.admin(), world.DOMAIN, category)
    with pytest.raises(NotFoundError):
        security_tokens.show(world.platform(), "other.example", "Sales")


def test_a_rotation_says_until_when_the_old_token_counts() -> None:
    """As long as was said, else as the setting says; afterwards it says nothing."""
    put(TOKEN)
    assert put("the next token, long").old_until == NOW + timedelta(days=1)
    assert put("the third token, long", seconds=60).old_until == NOW + timedelta(minutes=1)
    before = world.admin(NOW + timedelta(seconds=59))
    assert security_tokens.show(before, world.DOMAIN, "Office").old_until is not None
    after = world.admin(NOW + timedelta(seconds=60))
    assert security_tokens.show(after, world.DOMAIN, "Office").old_until is None
    assert put("the fourth token, long", seconds=0).old_until is None


def test_two_who_set_a_token_at_once_do_not_overwrite_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first at all, and the next."""
    real = domain_table.find_token
    for number in range(2):
        seen = real(world.DOMAIN)
        winner = put(f"the winner's token {number}")
        with monkeypatch.context() as patch:
            patch.setattr(domain_table, "find_token", lambda _, seen=seen: seen)
            with pytest.raises(ConflictError):
                put("the loser's token, long")
        assert security_tokens.show(world.admin(), world.DOMAIN, "Office").url == winner.url


def test_a_token_is_sealed_for_its_domain(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """Neither the new one nor the one before is in any item, and neither opens elsewhere."""
    put(TOKEN)
    put("the next token, long")
    kept = domain_table.find_token(world.DOMAIN)
    assert kept is not None
    seen = world.dump(client, table_names) + repr(kept)
    for sealed, plain in (
        (kept.sealed_old_token, TOKEN),
        (kept.sealed_token, "the next token, long"),
    ):
        assert plain not in seen
        assert vault.unseal(sealed, "security token example.com") == plain
        with pytest.raises(InvalidTag):
            vault.unseal(sealed, "security token other.example")
    security_tokens.delete(world.admin(), world.DOMAIN)
    security_tokens.delete(world.admin(), world.DOMAIN)
    with pytest.raises(NotFoundError):
        security_tokens.show(world.admin(), world.DOMAIN, "Office")
