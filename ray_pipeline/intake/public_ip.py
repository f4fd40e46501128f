"""Which internet addresses may be dialled: public ones only, and the very ones that were checked."""

import ipaddress
import socket

from schemas.status import RowFailure, Status

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Ranges that count as public but lead elsewhere: tunnels into IPv4 (NAT64, 6to4, Teredo, mapped and compatible forms)
# and a cloud's host agent that answers on a public number (192.0.0.0/24 holds another).
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::ffff:0:0/96",
        "::/96",
        "fec0::/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
)


def is_public(address: IPAddress) -> bool:
    """True for a unicast address of the open internet; tunnels that could end inside are not."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address.version == network.version and address in network for network in _REFUSED)


def public_addresses(host: str, port: int, loopback_allowed: bool = False) -> list[str]:
    """Resolve once. The result is what must be dialled: resolving again could give another answer.

    Raises:
        RowFailure: fetch_denied when any answer is not public (a mixed answer is an attack or a mistake).
        OSError: the name does not resolve; may pass.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    for text in found:
        address = ipaddress.ip_address(text)
        if not (is_public(address) or (loopback_allowed and address.is_loopback)):
            raise RowFailure(Status.FETCH_DENIED, f"{host} resolves to {address}, expected public addresses only")
    return found
