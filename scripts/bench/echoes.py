"""Echoes messages of 64 bytes through a server, in lock-step, and stops it.

    echoes.py CONNECTIONS ROUNDS COMMAND...

Starts COMMAND, in which {port} stands for a free port, and opens the
connections. In each round it sends one message on every connection, then
receives every echo. The server shares one processor with this program and does
not preempt it, so that the messages of a round arrive as one batch of events.
"""

import os
import signal
import socket
import subprocess
import sys

LEN = 64
TIMEOUT = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def receive(peer):
    echo = b""
    while len(echo) < LEN:
        part = peer.recv(LEN - len(echo))
        if not part:
            sys.exit("echoes: the server closed a connection")
        echo += part
    return echo


def exchange(port, connections, rounds):
    peers = [socket.create_connection(("127.0.0.1", port), TIMEOUT) for _ in range(connections)]
    for peer in peers:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(rounds):
        message = b"%064d" % number
        for peer in peers:
            peer.sendall(message)
        for peer in peers:
            if receive(peer) != message:
                sys.exit("echoes: the echo differs from the message")


def run_in_batches():
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main():
    connections, rounds = map(int, sys.argv[1:3])
    command = [word.format(port=free_port()) for word in sys.argv[3:]]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    server = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=run_in_batches)
    try:
        line = server.stdout.readline().decode()
        if not line.startswith("Listening on "):
            sys.exit(f"echoes: no 'Listening on' line from {command}")
        exchange(int(line.rpartition(":")[2]), connections, rounds)
        server.send_signal(signal.SIGTERM)
        server.wait(TIMEOUT)
    finally:
        server.kill()
        server.wait()


main()
