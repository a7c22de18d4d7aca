"""Found by zeroconf (multicast DNS, RFC 6762 and 6763): our own service, and those of others."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.addresses import is_loopback
from edge_runtime.errors import MissingPackageError
from edge_runtime.wyoming.protocol import EXTRA

SERVICE = "_wyoming._tcp.local."
"""Where Home Assistant looks."""
LOOK_SECONDS = 3.0
"""In which whoever is there has answered."""
_ANSWER_MS = 1000  # for the address of a service whose name is known
_LABEL_BYTES = 63  # of a name in the domain name system
_LONGEST = 32  # services that are looked at


@dataclass(frozen=True, order=True)
class Found:
    """A Wyoming service, as it announces itself."""

    name: str
    """Its instance, such as the name of a machine."""
    host: str
    """Its address."""
    port: int
    """Its port."""


class Announcement:
    """Our service, for as long as it is announced; used in one event loop.

    Parameters
    ----------
    name : of the instance; where it is taken, a number is added.
    port : at which it listens.
    addresses : at which it listens; all of this machine's beyond loopback, unless given.
    interfaces : addresses of ours at which it is announced; all, unless given.

    Raises MissingPackageError without zeroconf.
    """

    def __init__(
        self, name: str, port: int, addresses: Sequence[str] = (), interfaces: Sequence[str] = ()
    ) -> None:
        _zeroconf()
        self._name, self._port = name, port
        self._addresses, self._interfaces = list(addresses), interfaces
        self._announced: list[str] = []
        self._responder: Any = None
        self._info: Any = None

    async def renew(self) -> None:
        """Announce it, unless it is with the addresses that there are now.

        OSError, or what zeroconf raises, where that cannot be now.
        """
        addresses = self._addresses or own_addresses()
        if self._announced and addresses == self._announced:
            return
        await self.withdraw()
        if not addresses:
            raise OSError("this machine has no address that others can reach")
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

        responder = AsyncZeroconf(**_at(self._interfaces))
        try:
            info = AsyncServiceInfo(
                SERVICE,
                f"{_label(self._name)}.{SERVICE}",
                parsed_addresses=addresses,
                port=self._port,
            )
            await (await responder.async_register_service(info, allow_name_change=True))
        except BaseException:
            await responder.async_close()
            raise
        self._responder, self._info, self._announced = responder, info, addresses

    async def withdraw(self) -> None:
        """Say that it is gone, where it was announced."""
        responder, self._responder = self._responder, None
        self._announced = []
        if responder is not None:
            await responder.async_unregister_service(self._info)
            await responder.async_close()


def own_addresses() -> list[str]:
    """IPv4 addresses of this machine beyond loopback. MissingPackageError without zeroconf."""
    _zeroconf()
    import ifaddr

    adapters = ifaddr.get_adapters()
    found = {str(ip.ip) for adapter in adapters for ip in adapter.ips if ip.is_IPv4}
    return sorted(ip for ip in found if not is_loopback(ip))


def find_services(seconds: float = LOOK_SECONDS, interfaces: Sequence[str] = ()) -> list[Found]:
    """Wyoming services of the network, by name; blocks for so many seconds, and a little more.

    Raises MissingPackageError without zeroconf, OSError where there is no network to ask.
    """
    zeroconf = _zeroconf()
    asking = zeroconf.Zeroconf(**_at(interfaces))
    names: set[str] = set()

    def heard(name: str, state_change: Any, **_: Any) -> None:
        if state_change is zeroconf.ServiceStateChange.Removed:
            names.discard(name)
        elif len(names) < _LONGEST:
            names.add(name)

    try:
        browser = zeroconf.ServiceBrowser(asking, SERVICE, handlers=[heard])
        time.sleep(seconds)
        browser.cancel()
        found = []
        for name in sorted(names):
            info = asking.get_service_info(SERVICE, name, _ANSWER_MS)
            addresses = info.parsed_addresses() if info is not None else []
            if addresses and info.port:
                found.append(Found(name.removesuffix(f".{SERVICE}"), addresses[0], info.port))
        return sorted(found)
    finally:
        asking.close()


def _zeroconf() -> Any:
    try:
        import zeroconf
    except ImportError:
        raise MissingPackageError("finding Wyoming services", "zeroconf", EXTRA) from None
    return zeroconf


def _at(interfaces: Sequence[str]) -> dict[str, Any]:
    return {"interfaces": list(interfaces)} if interfaces else {}


def _label(name: str) -> str:
    """A name as an instance may bear it: dots would end it, and it has an end."""
    plain = name.replace(".", "-").encode(errors="replace")
    cut = plain[:_LABEL_BYTES].decode(errors="ignore").strip()
    return cut or socket.gethostname().partition(".")[0]
