"""A web server that gives a folder's files from memory, so that it costs little of the machine.

`python -m benchmarks.picture_server FOLDER` prints its port once it listens.
"""

import asyncio
import sys
from pathlib import Path


class Pictures(asyncio.Protocol):
    """One connection: GET after GET, kept open."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole head."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            body = self._files.get(head.split()[1].decode().strip("/"), b"")
            status = "200 OK" if body else "404 Not Found"
            self._transport.write(
                f"HTTP/1.1 {status}\r\nContent-Type: image/jpeg\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            if b"connection: close" in head.lower():
                self._transport.close()


async def serve(folder: Path) -> None:
    """Serve until the process ends."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Pictures(files), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
