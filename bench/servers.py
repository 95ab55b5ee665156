"""A private nginx; RabbitMQ comes from the integration tests' rig."""

import shutil
import subprocess
import sys
from pathlib import Path

from rig.processes import free_ports
from rig.rabbit import KEEPER
from rig.waiting import wait_for

CONFIG = """\
daemon off;
worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {root}/nginx-tmp-1;
  proxy_temp_path {root}/nginx-tmp-2;
  fastcgi_temp_path {root}/nginx-tmp-3;
  uwsgi_temp_path {root}/nginx-tmp-4;
  scgi_temp_path {root}/nginx-tmp-5;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port};
    root {folder};
    # Profiles that no measurement reads need no file each.
    location / {{ try_files $uri /any.json =404; }}
  }}
}}
"""


class Nginx:
    def __init__(self, root, folder, watched_pid):
        root = Path(root)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = root / "nginx.conf"
        user = "user root;\n"  # of its workers, when we are root ourselves
        config.write_text(user + CONFIG.format(root=root, port=port, folder=folder))
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
        command = [nginx, "-e", root / "nginx-start.log", "-c", config, "-p", root]
        with open(root / "nginx-output", "wb") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, KEEPER, str(watched_pid), *map(str, command)],
                stdout=output,
                stderr=output,
            )
        wait_for(self._answers, "nginx answers", deadline=10)

    def _answers(self):
        return subprocess.run(["curl", "-s", "-o", "/dev/null", self.url]).returncode == 0

    def close(self):
        self._keeper.terminate()
        self._keeper.wait()
