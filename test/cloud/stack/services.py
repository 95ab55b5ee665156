"""The daemons of the cloud: how each is started, and that it is up."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS = 180
STOP_SECONDS = 5
KILL_SECONDS = 30

# For programs without their package: nova-compute's would bring QEMU for every processor there is,
# nova-api's has it run under uwsgi, whose threads lose RPC replies.
NOVA_MAIN = (
    "import sys, importlib; sys.argv[0] = '/usr/bin/' + sys.argv.pop(1); "
    "sys.exit(importlib.import_module('nova.cmd.' + sys.argv.pop(1)).main())"
)


class Service:
    def __init__(self, name, argv, port=None, env=None):
        self.name, self.argv, self.port, self.env = name, argv, port, env or {}


class Services:
    """In the order of their start."""

    def __init__(self, cloud):
        self.cloud = cloud
        conf = cloud.conf
        nova = ["--config-file", conf / "nova.conf"]
        neutron = ["--config-file", conf / "neutron.conf"]
        self.all = [
            Service(
                "rabbitmq",
                ["sh", "-c", "epmd & exec /usr/lib/rabbitmq/bin/rabbitmq-server"],
                port=5672,
                env=rabbitmq_environment(cloud),
            ),
            Service("mariadb", mariadb_argv(cloud)),
            Service("libvirtd", ["libvirtd", "-f", conf / "libvirtd.conf"]),
            # One process: the token cache is a process's own.
            wsgi("keystone", 5000, "/usr/bin/keystone-wsgi-public", OS_KEYSTONE_CONFIG_DIR=conf),
            Service("glance", ["glance-api", "--config-file", conf / "glance.conf"], port=9292),
            wsgi("placement", 8778, "/usr/bin/placement-api", OS_PLACEMENT_CONFIG_DIR=conf / "placement"),
            Service("nova-conductor", ["nova-conductor", *nova]),
            Service("nova-scheduler", ["nova-scheduler", *nova]),
            Service("nova-api", nova_argv(cloud, "nova-api", "api_os_compute"), port=8774),
            Service(
                "neutron-server",
                ["neutron-server", *neutron, "--config-file", conf / "ml2.ini"],
                port=9696,
            ),
            Service(
                "neutron-linuxbridge",
                ["neutron-linuxbridge-agent", *neutron, "--config-file", conf / "linuxbridge.ini"],
            ),
            Service(
                "neutron-dhcp",
                ["neutron-dhcp-agent", *neutron, "--config-file", conf / "dhcp.ini"],
            ),
            Service("nova-compute", nova_argv(cloud, "nova-compute", "compute")),
        ]
        self._by_name = {service.name: service for service in self.all}

    def named(self, name):
        if name not in self._by_name:
            raise SystemExit(f"no service {name}; there are: {' '.join(self._by_name)}")
        return self._by_name[name]

    def _pid_path(self, name):
        return self.cloud.state / f"{name}.pid"

    def pid(self, name):
        """Of the running service, or None."""
        try:
            pid = int(self._pid_path(name).read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        return pid if state != "Z" else None

    def start(self, *names):
        for service in map(self.named, names):
            if self.pid(service.name):
                continue
            environment = {
                "PATH": os.environ["PATH"],
                "LC_ALL": "C.UTF-8",
                "HOME": str(self.cloud.state),
                "TMPDIR": str(self.cloud.state / "tmp"),
                **{key: str(value) for key, value in service.env.items()},
            }
            with open(self.cloud.log / f"{service.name}.log", "ab") as log:
                process = subprocess.Popen(
                    [str(argument) for argument in service.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=self.cloud.state,
                    start_new_session=True,
                )
            self._pid_path(service.name).write_text(str(process.pid))

    def wait(self, *names):
        """Until they accept connections."""
        for service in map(self.named, names):
            end = time.monotonic() + START_SECONDS
            while not accepts(service.port):
                if not self.pid(service.name):
                    raise SystemExit(f"{service.name} has ended:\n{self.last_words(service.name)}")
                if time.monotonic() > end:
                    raise SystemExit(
                        f"{service.name} is not up after {START_SECONDS} s:\n"
                        f"{self.last_words(service.name)}"
                    )
                time.sleep(0.1)

    def stop(self, name, number=signal.SIGTERM):
        """The services of OpenStack would take a minute to end in order: they are given less."""
        service, pid = self.named(name), self.pid(name)
        if not pid:
            return
        end = time.monotonic() + STOP_SECONDS
        os.killpg(pid, number)
        while group_lives(pid) and time.monotonic() < end:
            time.sleep(0.05)
        if group_lives(pid):
            os.killpg(pid, signal.SIGKILL)
        end = time.monotonic() + KILL_SECONDS
        while group_lives(pid) or accepts(service.port):
            if time.monotonic() > end:
                raise SystemExit(f"{name} still lives, or its port, {KILL_SECONDS} s after KILL")
            time.sleep(0.05)
        self._pid_path(name).unlink()

    def last_words(self, name):
        return (self.cloud.log / f"{name}.log").read_text(errors="replace")[-2000:]


def group_lives(group):
    """A zombie does not."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, its_group = (
                Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:3]
            )
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def accepts(port):
    if port is None:
        return False
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wsgi(name, port, script, **env):
    return Service(
        name,
        f"uwsgi_python3 --http-socket 0.0.0.0:{port} --wsgi-file {script} --master --processes 1 "
        "--threads 4 --enable-threads --lazy-apps --die-on-term --buffer-size 65535 --need-app "
        "--disable-logging --thunder-lock".split() + ["--add-header", "Connection: close"],
        port=port,
        env=env,
    )


def nova_argv(cloud, program, module):
    options = ["--config-file", cloud.conf / "nova.conf", "--log-file", f"{program}.app.log"]
    return ["/usr/bin/python3", "-c", NOVA_MAIN, program, module, *options]


def rabbitmq_environment(cloud):
    folder = cloud.state / "rabbitmq"
    return {
        "RABBITMQ_NODENAME": "cloud@localhost",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": cloud.conf / "rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "enabled_plugins",
        "RABBITMQ_MNESIA_BASE": folder / "mnesia",
        "RABBITMQ_LOG_BASE": cloud.log / "rabbitmq",
        "RABBITMQ_PID_FILE": folder / "pid",
        # Waiting schedulers sleep instead of spinning.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }


def mariadb_argv(cloud):
    """Nothing here must survive a crash, so nothing is synced to the disk."""
    return [
        "mariadbd", "--no-defaults", "--user=root",
        f"--datadir={cloud.state}/mysql", f"--socket={cloud.mysql_socket}",
        f"--pid-file={cloud.state}/mysql.own", "--skip-networking", "--skip-grant-tables",
        "--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite",
        "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=128M", "--skip-log-bin",
        "--performance-schema=OFF", "--max-connections=300",
    ]  # fmt: skip
