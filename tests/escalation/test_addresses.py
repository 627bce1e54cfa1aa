"""Which addresses and URLs an endpoint may have."""

from __future__ import annotations

import pytest

from realtime.escalation.addresses import may_be_called, url_problem

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "93.184.215.14",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
]

#: Refused, unless private addresses are allowed.
PRIVATE = [
    "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.1.1", "100.64.0.1",
    "0.1.2.3", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "192.31.196.1",
    "240.0.0.1", "255.255.255.255", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1",
    "64:ff9b::808:808", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1", "2001::1", "2001:20::1",
    "2001:db8::1", "3fff::1", "5f00::1", "::7f00:1", "::808:808", "100::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
]  # fmt: skip

#: Addresses that are always refused: some give credentials to every caller, the others are of no single host.
NEVER = [
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::", "::a9fe:a9fe", "0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.1.2.3",
    "ff02::1", "ff0e::1",
    "", "localhost", "127.1", "0x7f000001", "2130706433", "127.0.0.1 ", "1.2.3.4/32",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    assert may_be_called(address, allow_private=False)
    assert may_be_called(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_other_addresses_may_be_called_only_where_private_ones_are_allowed(address: str) -> None:
    assert not may_be_called(address, allow_private=False)
    assert may_be_called(address, allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_services_with_credentials_and_addresses_of_no_one_host_are_never_called(address: str) -> None:
    assert not may_be_called(address, allow_private=False)
    assert not may_be_called(address, allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/a?b=c", "https://HOOKS.example:8443", "https://bücher.example/", "https://a_b.example",
        "https://8.8.8.8/", "https://[2606:4700:4700::1111]:444/x", "https://hooks.example./",
    ],
)  # fmt: skip
def test_urls_of_webhooks_that_may_be_kept(url: str) -> None:
    assert url_problem(url, allow_private=False) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://hooks.example/", "must begin with https://"),
        ("ftp://hooks.example/", "must begin with https://"),
        ("hooks.example", "must begin with https://"),
        ("https://user:password@hooks.example/", "no user name"),
        ("https://hooks.example:0/", "host or port"),
        ("https://hooks.example:65536/", "host or port"),
        ("https:///path", "host or port"),
        ("https://a b.example/", "host or port"),
        ("https://[::1%25lo]/", "host or port"),
        ("https://a\tb/", "no URL"),
        ("https://0177.0.0.1/", "no URL"),
        ("https://hooks.example/" + "x" * 2_000, "at most 2000 characters"),
        ("https://127.0.0.1/", "private address"),
        ("https://[::ffff:10.0.0.1]/", "private address"),
        ("https://169.254.169.254/latest/meta-data", "private address"),
    ],
)
def test_urls_of_webhooks_that_are_refused_with_the_reason(url: str, problem: str) -> None:
    found = url_problem(url, allow_private=False)
    assert found is not None
    assert problem in found
    assert "password@" not in found


def test_receivers_in_a_private_network_need_no_certificate() -> None:
    assert url_problem("http://127.0.0.1:8080/", allow_private=True) is None
    assert url_problem("http://receiver.internal/", allow_private=True) is None
    assert url_problem("http://169.254.169.254/", allow_private=True) is not None
