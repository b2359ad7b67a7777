from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import edge
from chalicelib.core.rate_limits import source_of

SECRET = "s" * 43
HASHES = (sha256(SECRET.encode()).hexdigest(),)
TOLD = {edge.VIEWER_ADDRESS: "198.51.100.7:46532", edge.VIEWER_SCHEME: "http"}
PORTS = st.integers(1, 65_535)


def test_what_the_edge_tells_is_believed() -> None:
    """Who calls and how, beside its secret."""
    came = edge.arrival({edge.SECRET: SECRET, **TOLD}, "192.0.2.1", "https", HASHES)
    assert came == edge.Arrival(came_by_edge=True, address="198.51.100.7", scheme="http")


@pytest.mark.parametrize(
    "shown", [{}, {edge.SECRET: ""}, {edge.SECRET: "guessed"}, {edge.SECRET: "ß"}]
)
@pytest.mark.parametrize("hashes", [(), HASHES, (sha256(b"").hexdigest(),)])
def test_nobody_else_is_believed(shown: dict[str, str], hashes: tuple[str, ...]) -> None:
    """Without a secret, with a wrong one, and where there is no edge or only a broken setting."""
    came = edge.arrival({**shown, **TOLD}, "192.0.2.1", "https", hashes)
    assert came == edge.Arrival(came_by_edge=False, address="192.0.2.1", scheme="https")


def test_without_an_edge_no_secret_counts() -> None:
    """Not even one that was good somewhere."""
    came = edge.arrival({edge.SECRET: SECRET, **TOLD}, "192.0.2.1", "https", ())
    assert not came.came_by_edge
    assert came.address == "192.0.2.1"


def test_an_edge_that_tells_nothing_leaves_what_is_known() -> None:
    """As for files, which it keeps by itself and asks for without saying for whom."""
    came = edge.arrival({edge.SECRET: SECRET}, "192.0.2.1", "https", HASHES)
    assert came == edge.Arrival(came_by_edge=True, address="192.0.2.1", scheme="https")


def test_both_secrets_count_while_they_change() -> None:
    """The new one and the old one, in any order."""
    other = sha256(b"o" * 43).hexdigest()
    for hashes in ((*HASHES, other), (other, *HASHES)):
        assert edge.is_secret(SECRET, hashes)
        assert edge.is_secret("o" * 43, hashes)
        assert not edge.is_secret("x" * 43, hashes)


@given(st.ip_addresses(v=4), PORTS)
def test_the_port_of_an_address_goes(address: IPv4Address, port: int) -> None:
    """Whatever it is, the source is the address."""
    assert source_of(edge.without_port(f"{address}:{port}")) == str(address)


@given(st.ip_addresses(v=6), PORTS)
def test_the_port_of_a_long_address_goes(address: IPv6Address, port: int) -> None:
    """Short or whole, with brackets or, as CloudFront writes it, without."""
    source = source_of(str(address))
    for written in (str(address), address.exploded):
        assert source_of(edge.without_port(f"{written}:{port}")) == source
        assert source_of(edge.without_port(f"[{written}]:{port}")) == source


@given(st.text())
def test_nonsense_is_an_unknown_source(told: str) -> None:
    """Or an address that stands in it; never an error."""
    came = edge.arrival({edge.SECRET: SECRET, edge.VIEWER_ADDRESS: told}, "", "https", HASHES)
    assert source_of(came.address)
