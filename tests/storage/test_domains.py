from typing import TYPE_CHECKING

import pytest

from chalicelib.storage import domains
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.domains import Category, Domain

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]


def create(name: str, number: int) -> Domain:
    """Create a domain; returns it as it is found."""
    transaction = Transaction()
    domains.create(transaction, Domain(name, number, granted_domains=["b.example"]))
    transaction.commit()
    found = domains.find(name)
    assert found is not None
    return found


def delete(domain: Domain) -> None:
    """Delete a domain."""
    transaction = Transaction()
    domains.delete(transaction, domain)
    transaction.commit()


def test_a_domain_is_found_by_its_number() -> None:
    """No number is another's, nor the beginning of one."""
    create("a.example", 1)
    create("b.example", 12)
    assert [domains.name_of(number) for number in (1, 12, 2, 0, -1)] == [
        *("a.example", "b.example"),
        *("", "", ""),
    ]


def test_domains_are_read_many_at_once() -> None:
    """Those that there are, each once."""
    first, second = create("a.example", 1), create("b.example", 2)
    found = domains.find_all(["b.example", "missing.example", "a.example", "b.example", ""])
    assert sorted(found, key=lambda known: known.number) == [first, second]
    assert domains.find_all([]) == []


def test_categories_are_listed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a domain has."""
    monkeypatch.setattr(domains, "_PAGE", 2)
    names = [f"Floor {number}" for number in range(5)]
    transaction = Transaction()
    for name in names:
        domains.put_category(transaction, Category("a.example", name, 1), None)
    transaction.commit()
    assert [category.name for category in domains.categories("a.example")] == names


def test_a_password_is_not_shown() -> None:
    """Not even sealed."""
    assert "sealed secret" not in repr(Domain("a", sealed_websocket_password="sealed secret"))


def test_nothing_is_left_of_a_domain_that_goes(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """Neither under its name nor under its number; a second time is refused."""
    made, other = create("a.example", 1), create("b.example", 2)
    transaction = Transaction()
    domains.put_firmware(transaction, "a.example", {"IP232": {}})
    transaction.commit()
    delete(made)
    assert (domains.find("a.example"), domains.name_of(1)) == (None, "")
    assert "a.example" not in str(client.scan(TableName=table_names["domains"])["Items"])
    with pytest.raises(Refused):
        delete(made)
    assert (domains.find("b.example"), domains.name_of(2)) == (other, "b.example")
