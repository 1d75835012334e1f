"""HAProxy and nginx in front of a gateway, on loopback, with a small configuration of ours.

Both keep connections to the gateway open and use them again for other callers: what one request
leaves behind there would meet the next caller's. Both refuse the path `/smuggled` with 403, so that
a request for it reaches the gateway only inside another one.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import Address, free_port, listens, wait_until

HAPROXY = """
global
    maxconn 200
defaults
    mode http
    timeout connect 2s
    timeout client 1s
    timeout server 5s
    timeout http-request 1s
    timeout http-keep-alive 200ms
frontend callers
    bind 127.0.0.1:{port}
    http-request deny if {{ path /smuggled }}
    default_backend gateway
backend gateway
    http-reuse always
    server gateway {gateway}
"""

NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_header_timeout 1s;
    client_body_timeout 1s;
    keepalive_timeout 200ms;
    upstream gateway {{
        server {gateway};
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{port};
        location = /smuggled {{ return 403; }}
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_next_upstream off;
        }}
    }}
}}
"""


def program(name: str) -> str | None:
    """Where it is installed; Debian puts both where only root looks."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def proxy(name: str, gateway: Address, directory: Path) -> Iterator[Address]:
    """`haproxy` or `nginx` in front of the gateway; where it listens."""
    path = program(name)
    assert path is not None
    address = ("127.0.0.1", free_port())
    text = {"haproxy": HAPROXY, "nginx": NGINX}[name]
    configuration = directory / "proxy.conf"
    configuration.write_text(
        text.format(port=address[1], gateway=f"{gateway[0]}:{gateway[1]}", directory=directory)
    )
    arguments = {"haproxy": ["-db", "-f"], "nginx": ["-p", str(directory), "-e", "error.log", "-c"]}
    with (directory / "output").open("w") as output:
        process = subprocess.Popen(
            [path, *arguments[name], str(configuration)], stdout=output, stderr=output
        )
    try:
        wait_until(
            lambda: process.poll() is not None or listens(address), f"{name} listens", seconds=10
        )
        assert process.poll() is None, (directory / "output").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(10)
