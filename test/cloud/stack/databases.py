"""Databases and their schemas."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

NAMES = ("keystone", "glance", "placement", "nova", "nova_api", "nova_cell0", "neutron")


def prepare(cloud):
    """Before MariaDB is started."""
    (cloud.state / "mysql").mkdir()
    run(
        cloud,
        "mariadb-install-db",
        "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={cloud.state}/mysql",
        "--skip-test-db", "--auth-root-authentication-method=normal",
    )  # fmt: skip


def create(cloud):
    """Once MariaDB is started."""
    statements = "".join(f"CREATE DATABASE {name} CHARACTER SET utf8mb4;" for name in NAMES)
    end = time.monotonic() + 30
    while not cloud.mysql_socket.exists() and time.monotonic() < end:
        time.sleep(0.05)
    run(cloud, "mysql", "mysql", "--no-defaults", "-S", cloud.mysql_socket, "-e", statements)


def synchronize(cloud):
    """Three chains beside each other: most of a start's time goes here."""
    with ThreadPoolExecutor(3) as pool:
        for chain in [pool.submit(chain, cloud) for chain in (_small_ones, _nova, _neutron)]:
            chain.result()


def _small_ones(cloud):
    keystone = ["keystone-manage", "--config-file", cloud.conf / "keystone.conf"]
    owner = ["--keystone-user", "root", "--keystone-group", "root"]
    run(cloud, "keystone-db", *keystone, "db_sync")
    run(cloud, "keystone-db", *keystone, "fernet_setup", *owner)
    run(cloud, "keystone-db", *keystone, "credential_setup", *owner)
    bootstrap = ["bootstrap", "--bootstrap-password", cloud.password]
    for interface in ("admin", "internal", "public"):
        bootstrap += [f"--bootstrap-{interface}-url", cloud.auth_url]
    run(cloud, "keystone-db", *keystone, *bootstrap, "--bootstrap-region-id", "RegionOne")
    run(cloud, "glance-db", "glance-manage", "--config-file", cloud.conf / "glance.conf", "db_sync")
    placement = ["placement-manage", "--config-dir", cloud.conf / "placement"]
    run(cloud, "placement-db", *placement, "db", "sync")


def _nova(cloud):
    manage = ["nova-manage", "--config-file", cloud.conf / "nova.conf"]
    cell0 = cloud.database_url("nova_cell0")
    run(cloud, "nova-db", *manage, "api_db", "sync")
    run(cloud, "nova-db", *manage, "cell_v2", "map_cell0", "--database_connection", cell0)
    run(cloud, "nova-db", *manage, "cell_v2", "create_cell", "--name", "cell1")
    run(cloud, "nova-db", *manage, "db", "sync")


def _neutron(cloud):
    files = ["--config-file", cloud.conf / "neutron.conf", "--config-file", cloud.conf / "ml2.ini"]
    run(cloud, "neutron-db", "neutron-db-manage", *files, "upgrade", "head")


def discover_hosts(cloud):
    manage = ["nova-manage", "--config-file", cloud.conf / "nova.conf"]
    run(cloud, "nova-db", *manage, "cell_v2", "discover_hosts")


def run(cloud, log_name, *argv):
    path = cloud.log / f"{log_name}.log"
    with open(path, "ab") as log:
        code = subprocess.run(
            list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ).returncode
    if code:
        raise SystemExit(f"{argv[0]} failed:\n{path.read_text(errors='replace')[-2000:]}")
