"""A RabbitMQ node of our own: own ports, own folder, own epmd; and a virtual host for each test."""

import base64
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pika

from .processes import descendants, free_ports
from .waiting import wait_for

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
KEEPER = Path(__file__).with_name("keeper.py")
START_SECONDS = 90
USER, PASSWORD = "packuilon", "rabbit-pässword;'$(1)"
ADMIN, ADMIN_PASSWORD = "admin", "admin"

CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
listeners.ssl.1 = 127.0.0.1:{amqps}
ssl_options.cacertfile = {root}/ca.pem
ssl_options.certfile = {root}/server.pem
ssl_options.keyfile = {root}/server.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
# Counting costs time and lags behind; listing works without.
management_agent.disable_metrics_collector = true
default_user = {admin}
default_pass = {admin_password}
disk_free_limit.absolute = 10MB
vm_memory_high_watermark.absolute = 1GB
"""


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def make_certificates(root):
    """ca.pem, and server.pem with server.key for localhost and 127.0.0.1."""
    for name, subject in (("ca", "/CN=packuilon test CA"), ("server", "/CN=localhost")):
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", f"{name}.key", "-subj", subject,
            *(["-x509", "-days", "2", "-out", "ca.pem"] if name == "ca" else ["-out", "server.csr"]),
            cwd=root,
        )  # fmt: skip
    (root / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem", cwd=root,
    )  # fmt: skip


class RabbitNode:
    def __init__(self, root, ports, keeper_pid):
        self.root, self.ports, self.keeper_pid = Path(root), ports, keeper_pid
        self.host, self.port, self.tls_port = "127.0.0.1", ports["amqp"], ports["amqps"]
        self.ca = self.root / "ca.pem"

    @classmethod
    def start(cls, root, watched_pid, settings="", advanced="[]."):
        """A new node that lives no longer than process `watched_pid`; with more lines of
        configuration, and Erlang terms for what has no line."""
        root = Path(root)
        root.mkdir(parents=True)
        make_certificates(root)
        names = ("amqp", "amqps", "http", "epmd", "dist")
        node = cls(root, dict(zip(names, free_ports(len(names)))), None)
        (root / "rabbitmq.conf").write_text(
            CONFIG.format(**node.ports, root=root, admin=ADMIN, admin_password=ADMIN_PASSWORD)
            + settings
        )
        (root / "advanced.config").write_text(advanced)
        (root / "enabled_plugins").write_text("[rabbitmq_management].\n")
        node.spawn(watched_pid)
        node.request("PUT", f"users/{USER}", {"password": PASSWORD, "tags": ""})
        return node

    def spawn(self, watched_pid):
        """Starts the server, for the first time or again with the data that it has."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.root),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"packuilon-{self.ports['amqp']}@localhost",
            "RABBITMQ_DIST_PORT": str(self.ports["dist"]),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.root / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.root / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.root / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.root / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.root / "log"),
            "RABBITMQ_PID_FILE": str(self.root / "pid"),
            # Waiting schedulers sleep instead of spinning: the machine is the tests'.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        # An epmd that a node starts for itself would be a daemon out of reach.
        script = f'epmd -port {self.ports["epmd"]} -address 127.0.0.1 & exec {SERVER}'
        with open(self.root / "output", "ab") as output:
            keeper = subprocess.Popen(
                [sys.executable, KEEPER, str(watched_pid), "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self.keeper_pid = keeper.pid
        self._keeper = keeper  # so that it is reaped
        wait_for(
            lambda: self.is_up() or keeper.poll() is not None, "RabbitMQ is up", START_SECONDS
        )
        if keeper.poll() is not None:
            raise RuntimeError(f"RabbitMQ did not start:\n{(self.root / 'output').read_text()}")

    # ---- stopping; for a test's own node, the shared one is everybody's ----------------------

    def beam_pid(self):
        family = descendants()
        for pid, line in family.items():
            if "beam" in line and str(self.root) in Path(f"/proc/{pid}/environ").read_text():
                return pid
        raise RuntimeError("the node does not run")

    def stop(self):
        """An orderly stop; spawn() brings it back."""
        os.kill(self.beam_pid(), signal.SIGTERM)
        self._keeper.wait(60)

    def kill(self):
        """A crash."""
        try:
            os.kill(self.keeper_pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        if hasattr(self, "_keeper"):
            self._keeper.wait(60)

    # ---- over the management interface ------------------------------------------------------

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=30)
        login = base64.b64encode(f"{ADMIN}:{ADMIN_PASSWORD}".encode()).decode()
        try:
            connection.request(
                method,
                f"/api/{path}",
                json.dumps(body) if body is not None else None,
                {"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {data!r}")
        return json.loads(data) if data else None

    def is_up(self):
        try:
            self.request("GET", "overview")
            with pika.BlockingConnection(self.parameters("/", ADMIN, ADMIN_PASSWORD)):
                return True
        except (OSError, http.client.HTTPException, RuntimeError, pika.exceptions.AMQPError):
            return False

    def parameters(self, vhost, user=USER, password=PASSWORD):
        return pika.ConnectionParameters(
            self.host, self.port, vhost, pika.PlainCredentials(user, password)
        )

    def add_user(self, name, password):
        self.request("PUT", f"users/{name}", {"password": password, "tags": ""})

    def set_permissions(self, vhost, user, configure=".*", write=".*", read=".*"):
        self.request(
            "PUT",
            f"permissions/{quote(vhost, safe='')}/{user}",
            {"configure": configure, "write": write, "read": read},
        )

    def add_vhost(self):
        name = f"test-{secrets.token_hex(6)}"
        self.request("PUT", f"vhosts/{name}")
        self.set_permissions(name, USER)
        self.set_permissions(name, ADMIN)
        return Vhost(self, name)


class Vhost:
    """A virtual host, and what a test does there over AMQP (as upstream's Python programs do)."""

    def __init__(self, node, name):
        self.node, self.name = node, name
        self._connection = None

    @property
    def channel(self):
        try:
            if self._connection:
                self._connection.process_data_events(0)  # notices that it is gone
        except pika.exceptions.AMQPError:
            self._connection = None
        if not self._connection or not self._connection.is_open:
            self._connection = pika.BlockingConnection(self.node.parameters(self.name))
        return self._connection.channel()

    def declare(self, queue, **arguments):
        with self.channel as channel:
            channel.queue_declare(queue, durable=True, **arguments)

    def publish(self, queue, body, **properties):
        """As upstream's cdb2rabbit does, and confirmed."""
        if isinstance(body, str):
            body = body.encode()
        with self.channel as channel:
            channel.queue_declare(queue, durable=True)
            channel.confirm_delivery()
            channel.basic_publish(
                "", queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True
            )

    def count(self, queue):
        """Messages ready, or None when there is no such queue."""
        channel = self.channel
        try:
            count = channel.queue_declare(queue, passive=True).method.message_count
        except pika.exceptions.ChannelClosedByBroker:
            return None
        channel.close()
        return count

    def get(self, queue):
        """Takes the first message: (body, properties), or None."""
        with self.channel as channel:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
        return (body, properties) if method else None

    def connections(self):
        return [c for c in self.node.request("GET", "connections") if c["vhost"] == self.name]

    def close_connections(self, but_ours=True):
        """The broker throws everybody out. Returns how many were."""
        ours = None
        if but_ours and self._connection and self._connection.is_open:
            address = self._connection._impl._transport._sock.getsockname()
            ours = f"{address[0]}:{address[1]}"
        closed = 0
        for connection in self.connections():
            if not ours or not connection["name"].startswith(ours):
                self.node.request("DELETE", f"connections/{quote(connection['name'])}")
                closed += 1
        return closed

    def delete(self):
        if self._connection and self._connection.is_open:
            self._connection.close()
        self.node.request("DELETE", f"vhosts/{self.name}")
