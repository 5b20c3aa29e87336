"""What the kernel says about this process's connections: bytes on the wire, headers of messages included."""

from __future__ import annotations

import math
import os
import socket
import struct

#: Where ``struct tcp_info`` holds ``tcpi_bytes_sent`` (Linux 4.19 and later), and its format.
_BYTES_SENT = ("Q", 200)


def kernel_bytes() -> float:
    """Bytes that Linux has sent through the TCP connections that this process has open; NaN where it does not say.

    Retransmitted bytes count again; the headers of IP and TCP do not. Differences between two calls count what was sent
    meanwhile, as long as no connection was closed.

    >>> kernel_bytes() >= 0 or math.isnan(kernel_bytes())
    True
    """
    total = 0
    try:
        for number in os.listdir("/proc/self/fd"):
            try:
                connection = socket.socket(fileno=os.dup(int(number)))
            except OSError:  # not a socket
                continue
            with connection:
                if connection.type == socket.SOCK_STREAM and connection.family in (socket.AF_INET, socket.AF_INET6):
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from(_BYTES_SENT[0], info, _BYTES_SENT[1])[0]
    except (OSError, AttributeError, struct.error):
        return math.nan
    return float(total)
