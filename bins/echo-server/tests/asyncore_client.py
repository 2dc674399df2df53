"""The echo client of asyncore's documentation.

Connects to the port in its argument, and exits when the server closes the
connection.
"""

import asyncore
import socket
import sys


class EchoClient(asyncore.dispatcher):

    def __init__(self, host, port):
        asyncore.dispatcher.__init__(self)
        self.messages = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10']
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.connect((host, port))

    def handle_connect(self):
        pass

    def handle_close(self):
        self.close()

    def handle_read(self):
        print(self.recv(1024).decode())

    def writable(self):
        return (len(self.messages) > 0)

    def handle_write(self):
        if len(self.messages) > 0:
            self.send(self.messages.pop(0).encode())


client = EchoClient('127.0.0.1', int(sys.argv[1]))
asyncore.loop()
