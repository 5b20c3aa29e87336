"""One host of bench_wire.py: it plays its part of a plan over TCP, and says when it was done.

Reads one JSON object per line: first {"rank", "addresses"}, then {"bytes", "cuts", "steps", "zero", "startup",
"in_turn", "at"} for every all-reduce. A step is one round of this host: [receiver, parts] or null, [sender, parts,
adds] or null. It begins at the time ``at`` of the clock that all processes of a machine share, and answers {"done",
"total"}.

``in_turn`` a message occupies its sender and its receiver: the receiver says that it is ready, the sender spends
``startup`` seconds and then sends, and it goes on when the receiver has got all of it. Otherwise nobody waits for
anything but the messages themselves.
"""

import contextlib
import json
import os
import socket
import sys
import time

import numpy as np

PORT, BUFFER = 5000, 8_000_000


def tuned(wire):
    """Small messages leave at once, and a whole message fits into the kernel: ``sendall`` does not wait."""
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
        wire.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return wire


def connect(rank, addresses):
    """A connection to every other host: the higher number calls."""
    listener = tuned(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((addresses[rank], PORT))
    listener.listen(len(addresses))
    wires = {}
    for other in range(rank):
        while True:
            wire = tuned(socket.socket())
            try:
                wire.connect((addresses[other], PORT))
                break
            except OSError:  # it does not listen yet
                wire.close()
                time.sleep(0.05)
        wire.sendall(bytes([rank]))
        wires[other] = wire
    while len(wires) < len(addresses) - 1:
        wire, _ = listener.accept()
        wires[wire.recv(1)[0]] = tuned(wire)
    return wires


def receive(wire, buffer):
    """Fill the buffer."""
    view, got = memoryview(buffer).cast("B"), 0
    while got < len(view):
        got += wire.recv_into(view[got:])


def play(wires, x, cuts, steps, startup, in_turn):
    """Carry out the rounds on x, in place."""
    pieces, word = np.split(x, cuts), bytearray(1)
    for sends, receives in steps:
        if receives and in_turn:
            wires[receives[0]].sendall(word)  # ready
        if sends:
            receiver, parts = sends
            if in_turn:
                receive(wires[receiver], word)
            time.sleep(startup)
            wires[receiver].sendall(np.concatenate([pieces[part] for part in parts]).tobytes())
        if receives:
            sender, parts, adds = receives
            buffer = np.empty(sum(pieces[part].size for part in parts), x.dtype)
            receive(wires[sender], buffer)
            if in_turn:
                wires[sender].sendall(word)  # got it
            at = 0
            for part in parts:
                piece, arrived = pieces[part], buffer[at : at + pieces[part].size]
                piece[:] = piece + arrived if adds else arrived
                at += piece.size
        if sends and in_turn:
            receive(wires[sends[0]], word)


def main():
    """Answer until standard input ends."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # what else runs on the machine disturbs less
    first = json.loads(sys.stdin.readline())
    wires = connect(first["rank"], first["addresses"])
    print(json.dumps("connected"), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        x = np.full(task["bytes"] // 4, 0.0 if task["zero"] else first["rank"] + 1.0, np.float32)
        time.sleep(max(0.0, task["at"] - time.monotonic()))
        play(wires, x, task["cuts"], task["steps"], task["startup"], task["in_turn"])
        done = time.monotonic()
        print(json.dumps({"done": done, "total": [float(x.min()), float(x.max())]}), flush=True)


if __name__ == "__main__":
    main()
