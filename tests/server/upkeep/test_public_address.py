"""Which addresses webhooks may call."""

import pytest

from server.upkeep.public_address import is_public

PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"),
    *("64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1"),
]
INSIDE = [
    "64:ff9b:1:7f00:0:100:808:808",  # the address may stand elsewhere than at the end
    "2001:470::5efe:7f00:1",
    "2001:470::200:5efe:a00:1",
    "192.88.99.1",
    "3fff::1",
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
    *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254"),
    *("ff02::1", "ff0e::1", "2001:db8::1", "100::1", "4000::1", "5f00::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1"),
    *("::ffff:0:127.0.0.1", "::ffff:0:a00:1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b:1::127.0.0.1", "64:ff9b:1:ffff::10.0.0.1", "2002:7f00:1::", "2002:a00:1::1"),
    *("2001::f5ff:fffe", "2001:0:4136:e378:8000:63bf:80ff:fffe"),  # Teredo of 10.0.0.1, 127.0.0.1
    *("fe80::1%eth0", "localhost", "", "8.8.8.8/32", "0x7f000001"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_may_be_called(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", INSIDE)
def test_whatever_leads_inside_may_not(address: str) -> None:
    assert not is_public(address)
