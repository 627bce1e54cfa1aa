"""Which addresses an endpoint may have: the part of an SSRF defence that needs no network.

`is_global` of the standard library is not enough. It says yes to `::127.0.0.1`, to NAT64 and 6to4 addresses that hold
any IPv4 address, to multicast, and to the metadata services that some clouds put at public addresses.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

import httpx

Address = IPv4Address | IPv6Address

#: Services that give a cloud machine its credentials. They are never called, also where private addresses may be.
_METADATA: Final[frozenset[Address]] = frozenset(
    map(
        ip_address,
        (
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure, a public address
            "169.254.169.254",  # AWS, Azure, Google, OpenStack and others
            "169.254.170.2",  # AWS, tasks in containers
            "169.254.170.23",  # AWS, pods
            "192.0.0.192",  # Oracle
            "fd00:ec2::23",
            "fd00:ec2::254",
            "fd20:ce::254",  # Google
        ),
    )
)
#: Networks that `is_global` of some Python from 3.11 on calls global.
_NOT_PUBLIC_4: Final = tuple(
    map(
        IPv4Network,
        (
            "192.0.0.0/24",  # protocol assignments
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # relays of 6to4
            "192.175.48.0/24",  # AS112
            "224.0.0.0/3",  # multicast and reserved
        ),
    )
)
#: Every public address of IPv6 is in here.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which holds an IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
#: The networks whose last 32 bits are an IPv4 address: IPv4-compatible, NAT64, and NAT64 of a site.
_HOLD_IPV4: Final = (ip_network("::/96"), ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_MOST_URL_CHARACTERS: Final = 2_000


def may_be_called(text: str, *, allow_private: bool) -> bool:
    """Whether a request may go to this address; ``text`` is IPv4 or IPv6, as a resolver writes it.

    With ``allow_private`` only metadata services, multicast and the address of no host are left out.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if _is_metadata(address) or address.is_multicast or address.is_unspecified:
        return False
    return allow_private or _is_public(address)


def _is_metadata(address: Address) -> bool:
    # A zone, as in fe80::1%eth0, would make equal addresses unequal.
    found: set[Address] = {ip_address(int(address)) if address.version == 4 else IPv6Address(int(address))}
    if isinstance(address, IPv6Address):
        if any(address in network for network in _HOLD_IPV4):
            found.add(IPv4Address(int(address) & 0xFFFF_FFFF))
        if address.sixtofour is not None:
            found.add(address.sixtofour)
    return not _METADATA.isdisjoint(found)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    return (
        address.is_global
        and address in _GLOBAL_UNICAST
        and not any(address in network for network in _NOT_PUBLIC_6)
    )


class Target(NamedTuple):
    """The parts of an endpoint's URL that a request needs."""

    url: httpx.URL
    #: As in the URL: a name in lower case, or an address without brackets.
    host: str
    port: int

    @property
    def name(self) -> str | None:
        """The name that TLS asks for; None when the host is an address."""
        try:
            ip_address(self.host)
        except ValueError:
            return self.host
        return None

    def at(self, address: str) -> httpx.URL:
        """The same URL with ``address`` in place of the host, so that nothing resolves the name again."""
        return self.url.copy_with(host=address, fragment=None)


def read_target(text: str, *, allow_private: bool) -> Target:
    """The parts of a webhook's URL; raises ValueError with a clause such as "must begin with https://".

    With ``allow_private`` the scheme may be http, because receivers in a private network seldom have certificates.
    """
    if len(text) > _MOST_URL_CHARACTERS:
        raise ValueError(f"must have at most {_MOST_URL_CHARACTERS} characters")
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError):
        raise ValueError("is no URL") from None
    if url.scheme not in (("https", "http") if allow_private else ("https",)):
        raise ValueError("must begin with https://")
    if url.userinfo:
        raise ValueError("must hold no user name and no password; the signature says who calls")
    port = url.port if url.port is not None else {"https": 443, "http": 80}[url.scheme]
    if not _is_host(host) or not 1 <= port <= 65_535:
        raise ValueError("has no usable host or port")
    return Target(url, host, port)


def _is_host(host: str) -> bool:
    if _HOST.fullmatch(host.removesuffix(".")):
        return True
    try:
        return "%" not in host and bool(ip_address(host))
    except ValueError:
        return False


def url_problem(text: str, *, allow_private: bool) -> str | None:
    """Why a webhook cannot have this URL, as a clause such as "must begin with https://"; None when it can.

    A name is not resolved here: it may resolve to another address at every call, so each call checks it.
    """
    try:
        target = read_target(text, allow_private=allow_private)
    except ValueError as error:
        return str(error)
    if target.name is None and not may_be_called(target.host, allow_private=allow_private):
        return "must not lead to a private address"
    return None
