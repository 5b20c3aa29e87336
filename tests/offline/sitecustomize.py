"""Put this folder on PYTHONPATH and Python processes cannot reach any network but the machine itself.

Python imports ``sitecustomize`` before anything else, in notebook kernels too. Jupyter's own sockets are
opened by libzmq and stay on the machine; they do not pass here.
"""

import ipaddress
import socket

MESSAGE = "the network is blocked in this test: lectures must run without one"


def _refuse_outside(address):
    host = address[0] if isinstance(address, tuple) else None  # a path names a local socket
    if host in (None, "", "localhost"):
        return
    try:
        local = ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        local = False
    if not local:
        raise OSError(f"{MESSAGE} (to {host})")


def _guard(cls, name):
    original = getattr(cls, name)

    def guarded(self, address, *rest):
        _refuse_outside(address)
        return original(self, address, *rest)

    setattr(cls, name, guarded)


_getaddrinfo = socket.getaddrinfo


def _resolve(host, *rest, **options):
    _refuse_outside((host.decode() if isinstance(host, bytes) else host,))
    return _getaddrinfo(host, *rest, **options)


_guard(socket.socket, "connect")
_guard(socket.socket, "connect_ex")
socket.getaddrinfo = _resolve
