"""An echo server on asyncore, which Python has until 3.11: the vocabulary that
the reactor took up. On poll(2), since select(2) ends at 1,024 descriptors."""

import asyncore
import socket
import sys


class Connection(asyncore.dispatcher_with_send):
    def readable(self):
        return not self.out_buffer

    def handle_read(self):
        data = self.recv(64 * 1024)
        if data:
            self.send(data)

    def handle_error(self):
        self.close()


class Server(asyncore.dispatcher):
    def __init__(self, port):
        super().__init__()
        self.create_socket()
        self.set_reuse_addr()
        self.bind(("127.0.0.1", port))
        self.listen(4096)

    def handle_accept(self):
        # All that wait, not one for each turn of the loop.
        while (pair := self.accept()) is not None:
            pair[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(pair[0])


Server(int(sys.argv[1]))
print(f"Listening on 127.0.0.1:{sys.argv[1]}", flush=True)
asyncore.loop(use_poll=True)
