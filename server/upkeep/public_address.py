"""Which IP addresses are of the public internet: what may be called on behalf of users.

An allow-list: global unicast, and of addresses that carry an IPv4 address (there are many ways from
one protocol to the other) the one that they carry.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291; the rest is reserved or not global
CARRIERS = {  # network → how many bits stand right of the IPv4 address in it
    IPv6Network("::/96"): 0,  # IPv4-compatible (RFC 4291)
    IPv6Network("::ffff:0:0/96"): 0,  # IPv4-mapped (RFC 4291)
    IPv6Network("::ffff:0:0:0/96"): 0,  # IPv4-translated (RFC 2765)
    IPv6Network("64:ff9b::/96"): 0,  # NAT64 (RFC 6052)
    IPv6Network("2002::/16"): 80,  # 6to4 (RFC 3056)
}
TEREDO = IPv6Network("2001::/32")  # RFC 4380: the client's address, inverted, at the end
ISATAP = 0x5EFE  # RFC 5214: in the interface's identifier, before the IPv4 address
NEVER = (
    IPv4Network("192.88.99.0/24"),  # relays of 6to4 (RFC 7526)
    IPv6Network(
        "64:ff9b:1::/48"
    ),  # NAT64 of a site (RFC 8215): where the address is in it is its own affair
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)


def is_public(address: str) -> bool:
    """Whether an address may be called; what is no address may not."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return _is_open(ip)
    carried = _carried(ip)
    if carried is not None:
        return _is_open(carried) and _is_never(ip) is False
    return ip in GLOBAL_UNICAST and ip.is_global and not _is_never(ip)


def _is_open(ip: IPv4Address) -> bool:
    return ip.is_global and not ip.is_multicast and not _is_never(ip)


def _is_never(ip: IPv4Address | IPv6Address) -> bool:
    return any(ip in network for network in NEVER)


def _carried(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if ip in TEREDO:
        return IPv4Address(~int(ip) & 0xFFFFFFFF)
    for network, right in CARRIERS.items():
        if ip in network:
            return IPv4Address(int(ip) >> right & 0xFFFFFFFF)
    if int(ip) >> 32 & 0xFCFFFFFF == ISATAP:  # two bits of it tell whether it is unique
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return None
