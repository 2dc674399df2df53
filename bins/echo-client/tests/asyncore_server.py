"""The echo server of asyncore's documentation.

Listens on a free port, prints its number first, and runs until it is killed.
"""

import asyncore
import socket


class EchoHandler(asyncore.dispatcher_with_send):

    def handle_read(self):
        data = self.recv(1024)
        if data:
            self.send(data)


class EchoServer(asyncore.dispatcher):

    def __init__(self, host, port):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind((host, port))
        self.listen(5)
        print(self.socket.getsockname()[1])

    def handle_accept(self):
        conn, addr = self.accept()
        print('Incoming connection from %s' % repr(addr))
        self.handler = EchoHandler(conn)


server = EchoServer('127.0.0.1', 0)
asyncore.loop()
