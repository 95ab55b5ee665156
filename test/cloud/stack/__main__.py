"""Runs inside the cloud's namespaces: stack DIR up NUMBER | status | service NAME start|stop|kill"""

import signal
import sys
import time

import databases
import seed
from cloud import Cloud
from services import Services


class Laps:
    """Prints how long each part took."""

    def __init__(self):
        self._last = time.monotonic()

    def __call__(self, what):
        now = time.monotonic()
        print(f"cloud: {now - self._last:5.1f} s  {what}", flush=True)
        self._last = now


def up(folder, number):
    cloud = Cloud(folder, int(number))
    services, lap = Services(cloud), Laps()
    cloud.write_configuration()
    services.start("rabbitmq", "libvirtd")
    databases.prepare(cloud)
    services.start("mariadb")
    databases.create(cloud)
    lap("databases created")
    databases.synchronize(cloud)
    lap("schemas made")
    services.start("keystone")
    services.wait("keystone")
    seed.identity(cloud)
    lap("Keystone up, users and endpoints made")
    services.wait("rabbitmq")
    services.start(
        "glance", "placement", "neutron-server", "nova-conductor", "nova-scheduler", "nova-api"
    )
    services.wait("placement")
    services.start("nova-compute")
    services.wait("neutron-server")
    services.start("neutron-linuxbridge", "neutron-dhcp")
    services.wait("glance", "nova-api")
    lap("APIs up")
    connection = seed.connect(cloud)
    seed.resources(cloud, connection)
    lap("network, flavors and source image made")
    seed.wait_ready(connection, lambda: databases.discover_hosts(cloud))
    lap("compute host and network agents up")


def status(folder):
    services = Services(Cloud(folder))
    down = 0
    for service in services.all:
        pid = services.pid(service.name)
        down += not pid
        print(f"  {service.name:20} {f'process {pid}' if pid else 'DOWN'}")
    sys.exit(3 if down else 0)


def service(folder, name, verb):
    services = Services(Cloud(folder))
    if verb == "start":
        services.start(name)
        if services.named(name).port:
            services.wait(name)
    elif verb in ("stop", "kill"):
        services.stop(name, signal.SIGKILL if verb == "kill" else signal.SIGTERM)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    folder, command, *arguments = sys.argv[1:]
    {"up": up, "status": status, "service": service}[command](folder, *arguments)
