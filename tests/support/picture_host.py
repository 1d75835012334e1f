"""A host of pictures on loopback: each path has its answer, and some never end."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class PictureHost:
    """Bytes by path; `/status/404` answers that status, `/redirect/x` leads to `/x`."""

    pictures: dict[str, bytes]
    port: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    @property
    def settings(self) -> dict[str, Any]:
        """What lets a gateway fetch from this host and no other private one."""
        return {
            "allowed_networks": f"127.0.0.1/32:{self.port}",
            "allowed_ports": f"80,443,{self.port}",
        }


@contextlib.contextmanager
def picture_host(pictures: dict[str, bytes]) -> Iterator[PictureHost]:
    """A running host."""
    host = PictureHost(pictures)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sort, _, rest = self.path.lstrip("/").partition("/")
            if sort == "silent":
                host.stopping.wait(30)
            elif sort == "status":
                self.send_error(int(rest))
            elif sort == "redirect":
                self.send_response(302)
                self.send_header("Location", f"/{rest}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif sort in host.pictures:
                self.send_response(200)
                self.send_header("Content-Length", str(len(host.pictures[sort])))
                self.end_headers()
                self.wfile.write(host.pictures[sort])
            else:
                self.send_error(404)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield host
    finally:
        host.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
