"""nginx as an Ingress controller has it: in front of the pods themselves, not of their Service.

What it does when a pod does not take a connection is what k8s/overlays/production/ingress.yaml says
to ingress-nginx: a POST moves on to another pod, once, and only where nothing was sent.
"""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.processes import Address, free_port
from tests.support.proxies import program
from tests.support.waiting import wait_until

NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_max_body_size 65m;
    client_body_buffer_size 1m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream gateway {{
        {servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_connect_timeout 2s;
            proxy_next_upstream error timeout;
            proxy_next_upstream_tries 2;
        }}
    }}
}}
"""


@contextlib.contextmanager
def ingress(pods: Sequence[Address], directory: Path) -> Iterator[Address]:
    """nginx in front of these pods; where it listens on this machine."""
    path = program("nginx")
    assert path, "nginx is not installed"
    directory.chmod(0o755)
    port = free_port()
    servers = " ".join(f"server {host}:{number};" for host, number in pods)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, servers=servers, port=port))
    command = [path, "-p", str(directory), "-e", "error.log", "-c", str(configuration)]
    process = subprocess.Popen(command)
    try:
        wait_until((directory / "nginx.pid").exists, 10.0, "nginx's start")
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(10)
