"""An echo server on asyncio: a BufferedProtocol, which costs less than streams,
and less than a Protocol, for which it reads into 256 KiB that it allocates for
each message. It sets TCP_NODELAY by itself."""

import asyncio
import sys

buffer = memoryview(bytearray(64 * 1024))


class Echo(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, hint):
        return buffer

    def buffer_updated(self, size):
        # A copy, since it may be kept, and the buffer is everybody's.
        self.transport.write(bytes(buffer[:size]))

    # What is unsent has grown, or gone: it is not read meanwhile.
    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def serve(port, protocol):
    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", port, backlog=4096
    )
    print(f"Listening on 127.0.0.1:{port}", flush=True)
    await server.serve_forever()


def main(run, protocol):
    run(serve(int(sys.argv[1]), protocol))


if __name__ == "__main__":
    main(asyncio.run, Echo)
