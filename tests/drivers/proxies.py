"""Proxies of other people before a process of this machine, configured as a stranger would: little is said to them."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from footfall.local.embedded import spawn_child
from tests.foreign_clients import needed
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until

COMPRESSED = "text/event-stream application/x-ndjson application/json text/csv"
NGINX = """
{user} worker_processes 1; pid {scratch}/pid; error_log {scratch}/error.log; daemon off;
events {{ }}
http {{
    access_log off; gzip on; gzip_proxied any; gzip_types {compressed};
    client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy; fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{http2} http2;
        location / {{
            proxy_pass http://{side}; proxy_read_timeout {idle}s; proxy_send_timeout {idle}s;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""
HAPROXY = """
global
    maxconn 500
defaults
    mode http
    option forwardfor
    timeout connect 5s
    timeout client {idle}s
    timeout server {idle}s
frontend front
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{http2} proto h2
    compression algo gzip
    compression type {compressed}
    default_backend side
backend side
    option httpchk
    server one {side} check inter 500ms
"""
APACHE = """
ServerRoot {scratch}
DefaultRuntimeDir {scratch}
ServerName localhost
PidFile {scratch}/pid
ErrorLog {scratch}/error.log
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule filter_module {modules}/mod_filter.so
LoadModule deflate_module {modules}/mod_deflate.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule http2_module {modules}/mod_http2.so
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{http2}
Protocols h2c http/1.1
Timeout {idle}
SetOutputFilter DEFLATE
ProxyPass / http://{side}/
"""
APACHE_MODULES = Path("/usr/lib/apache2/modules")  # Debian's
SHIPPED = {"nginx": NGINX, "haproxy": HAPROXY, "apache2": APACHE}
AS_ROOT = {"nginx": "user root;", "haproxy": "", "apache2": "User www-data\nGroup www-data"}


class Proxied:
    """Where a proxy listens: `url` for HTTP/1.1, `http2` for HTTP/2 without TLS."""

    def __init__(self, port: int, http2: int) -> None:
        self.url, self.http2 = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{http2}"


@contextmanager
def proxy_before(name: str, side: str, scratch: Path, idle: int = 60) -> Iterator[Proxied]:
    """Yields where `nginx`, `haproxy` or `apache2` listens. `idle`: its time limits, seconds."""
    needed(name)
    program, found = shutil.which(name) or f"/usr/sbin/{name}", Proxied(free_port(), free_port())
    configuration = scratch / "proxy.conf"
    configuration.write_text(
        SHIPPED[name].format(
            user=AS_ROOT[name] if os.geteuid() == 0 else "",
            scratch=scratch,
            modules=APACHE_MODULES,
            compressed=COMPRESSED,
            side=httpx.URL(side).netloc.decode(),
            port=httpx.URL(found.url).port,
            http2=httpx.URL(found.http2).port,
            idle=idle,
        )
    )
    command = {
        "nginx": [program, "-c", str(configuration), "-p", str(scratch)],
        "haproxy": [program, "-f", str(configuration)],
        "apache2": [program, "-f", str(configuration), "-DFOREGROUND"],
    }[name]
    log = scratch / "log"
    popen = spawn_child(command, death_signal=signal.SIGTERM, log_path=log)
    try:
        wait_until(lambda: popen.poll() is None and answers(found.url), 30, f"{name}: {log}")
        yield found
    finally:
        popen.terminate()
        popen.wait(PATIENCE)


def answers(url: str) -> bool:
    """Whether what is behind the proxy answers."""
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False
