"""nginx with a constant response: what HTTP over the kernel's sockets costs on this machine, and no less."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.harness.subject import Subject, free_port, running

#: Of about the length of a response of ours.
_RESPONSE = '{"id":"000000000000-1","probability":0.0731234567891234,"decision":"accept","model":"credit@1"}'
_CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{response}'; }} }}
}}
"""


def has_nginx() -> bool:
    """Whether nginx is installed (Debian: nginx-light)."""
    return shutil.which("nginx") is not None


@contextmanager
def constant_response(folder: Path, core: int | None) -> Iterator[Subject]:
    """nginx that answers every request with the same bytes; its files lie in `folder`."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, port=port, response=_RESPONSE), encoding="ascii")
    command = ["nginx", "-p", str(folder), "-c", str(file)]
    with running("nginx", command, f"http://127.0.0.1:{port}", core=core) as subject:
        yield subject
