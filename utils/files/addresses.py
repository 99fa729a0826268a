"""Which network addresses are on the public internet, and connections to them only."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(text: str) -> bool:
    """Whether an IP address is on the public internet; an IPv6 one that stands for an IPv4 address is judged by that."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        within: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if any(address in network for network in _NAT64) or int(address) >> 32 == 0:  # the last four bytes, also of the old ::a.b.c.d
            within.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(inner and not is_public(str(inner)) for inner in within):
            return False
        if address.is_site_local:  # fec0::/10, which Python calls global
            return False
        if address.ipv4_mapped:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name.

    Raises:
        OSError: it has none; also for a name that cannot be one.
    """
    try:
        return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    except UnicodeError as error:
        raise OSError(f"invalid host name {host!r}") from error


class PublicFirst:
    """Connects to hosts; once to one on the public internet, to no others afterwards.

    The addresses that are checked are those that are connected to, so that a name cannot change in between.

    Args:
        public: no others from the beginning.
    """

    def __init__(self, *, public: bool) -> None:
        self.public = public
        self.socket: socket.socket | None = None

    def connect(self, place: tuple[str, int], timeout: float, *_: object) -> socket.socket:
        """Open a connection, as `socket.create_connection` does.

        Raises:
            OSError: it cannot be opened.
            PermissionError: the host is in a private network, and that is not allowed.
        """
        host, port = place
        found = resolve(host, port)
        outside = all(map(is_public, found))
        if self.public and not outside:
            raise PermissionError(f"{host} is not on the public internet")
        self.public = outside
        failed: OSError | None = None
        for address in found:
            try:
                self.socket = socket.create_connection((address, port), timeout)
            except OSError as error:
                failed = error
            else:
                return self.socket
        raise failed or OSError(f"no address of {host}")

    def abort(self) -> None:
        """End what waits for the connection."""
        if self.socket is not None:
            with contextlib.suppress(OSError):  # closed already
                self.socket.shutdown(socket.SHUT_RDWR)
