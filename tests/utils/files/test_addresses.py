"""What is on the public internet, in every spelling."""

from __future__ import annotations

import socket

import pytest

from utils.files import addresses
from utils.files.addresses import PublicFirst, is_public


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "2002:808:808::1"])
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255"),
        *("224.0.0.1", "239.1.1.1", "240.0.0.1", "ff02::1", "ff0e::1", "fe80::1%eth0", "fc00::1", "fec0::1", "::1", "::", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1"),
        *("2002:7f00:1::1", "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2001:0:7f00:1::1"),
        *("x", "", "1.2.3"),
    ],
)
def test_private(address: str) -> None:
    assert not is_public(address)


def test_the_address_that_is_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public for the first question and private for the second (DNS rebinding)."""
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    connected = []
    monkeypatch.setattr(addresses, "resolve", lambda host, port: next(answers))
    monkeypatch.setattr(socket, "create_connection", lambda place, timeout: connected.append(place))
    hosts = PublicFirst(public=False)
    hosts.connect(("rebinding.example", 80), 1)
    with pytest.raises(PermissionError, match="not on the public internet"):
        hosts.connect(("rebinding.example", 80), 1)
    assert connected == [("8.8.8.8", 80)]


def test_a_private_host_that_the_user_names_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda host, port: ["10.0.0.1", "8.8.8.8"])
    monkeypatch.setattr(socket, "create_connection", lambda place, timeout: place)
    assert PublicFirst(public=False).connect(("nas", 80), 1) == ("10.0.0.1", 80)
    with pytest.raises(PermissionError):
        PublicFirst(public=True).connect(("nas", 80), 1)
