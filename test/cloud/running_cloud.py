"""The cloud that `cloud start` started, as the tests see it: from outside, by its APIs."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import openstack
from rig.waiting import wait_for

HERE = Path(__file__).resolve().parent
USER, PROJECT, NETWORK, FLAVOR = "packuilon", "images", "provider", "m1.tiny"
SOURCE_IMAGE = "source"
MINUTE = 60
SERVER_SECONDS = 4 * MINUTE  # to boot, or to go: two cores emulate all guests


class RunningCloud:
    def __init__(self):
        self.dir = Path(os.environ.get("PACKUILON_CLOUD_DIR", "/var/tmp/packuilon-cloud"))
        if not (self.dir / "run/ready").exists():
            raise RuntimeError(f"no cloud is up in {self.dir}: test/cloud/cloud start")
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(self.dir / "clouds.yaml")
        self.admin = openstack.connect(cloud="admin")
        self.user = openstack.connect(cloud=USER)
        self.auth = json.loads((self.dir / "clouds.yaml").read_text())["clouds"][USER]["auth"]
        self.network_id = self.admin.network.find_network(NETWORK).id
        self.source_image_id = self.admin.image.find_image(SOURCE_IMAGE).id
        self.project_id = self.admin.identity.find_project(PROJECT).id
        number = (self.dir / "run/number").read_text().strip()
        self.host_address = f"198.18.{number}.1"  # ours, as the guests see it
        self._stopped, self._frozen = set(), set()

    # ---- faults -----------------------------------------------------------------------------

    def _signal(self, name, number):
        """At once: the moment matters."""
        os.killpg(host_pid(self.dir, name), number)

    def kill_service(self, name):
        self._stopped.add(name)
        self._signal(name, signal.SIGKILL)

    def start_service(self, name):
        subprocess.run(
            [HERE / "cloud", "service", name, "start"],
            env={**os.environ, "PACKUILON_CLOUD_DIR": str(self.dir)},
            check=True,
        )
        self._stopped.discard(name)

    def freeze(self, name):
        self._frozen.add(name)
        self._signal(name, signal.SIGSTOP)

    def thaw_all(self):
        for name in sorted(self._frozen):
            self._signal(name, signal.SIGCONT)
        self._frozen.clear()

    @contextmanager
    def quota(self, **limits):
        """Compute limits of the project for a while."""
        self.admin.set_compute_quotas(self.project_id, **limits)
        try:
            yield
        finally:
            self.admin.delete_compute_quotas(self.project_id)

    # ---- what is there ----------------------------------------------------------------------

    def servers(self):
        """Nova shows one that is gone for another moment."""
        return [server for server in self.user.compute.servers() if server.status != "DELETED"]

    def keypairs(self):
        return list(self.user.compute.keypairs())

    def images(self):
        """Of the project, in any state."""
        return list(self.user.image.images(owner=self.project_id))

    def left(self):
        """What a build may leave behind but its image."""
        return [f"server {server.name} {server.status}" for server in self.servers()] + [
            f"keypair {keypair.name}" for keypair in self.keypairs()
        ]

    def image(self, image_id):
        return self.user.image.get_image(image_id)

    def wait_server(self, name):
        """The server of that name, as soon as there is one."""
        return wait_for(
            lambda: next(self.user.compute.servers(name=f"^{name}$"), None),
            f"server {name}",
            SERVER_SECONDS,
        )

    # ---- guests -----------------------------------------------------------------------------

    @contextmanager
    def guest(self, image_id, folder):
        """A server of that image, up; the value runs a command in it and gives its output."""
        key = Path(folder) / "guest-key"
        key.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key], check=True)
        self.user.compute.create_keypair(
            name="guest", public_key=key.with_suffix(".pub").read_text()
        )
        server = self.user.compute.create_server(
            name="guest",
            image_id=image_id,
            flavor_id=self.user.compute.find_flavor(FLAVOR).id,
            networks=[{"uuid": self.network_id}],
            key_name="guest",
        )
        try:
            server = self.user.compute.wait_for_server(server, wait=SERVER_SECONDS)
            (address,) = server.addresses[NETWORK]
            ssh = [
                "ssh", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                "-o", "ConnectTimeout=5", f"debian@{address['addr']}",
            ]  # fmt: skip

            def run(command):
                return subprocess.run([*ssh, command], capture_output=True, text=True)

            wait_for(lambda: run("true").returncode == 0, "SSH of the guest", SERVER_SECONDS)
            yield lambda command: run(command).stdout
        finally:
            self.user.compute.delete_server(server)
            self.user.compute.delete_keypair("guest")
            self.user.compute.wait_for_delete(server, wait=SERVER_SECONDS)

    # ---- after a test -----------------------------------------------------------------------

    def restore(self):
        """Services run again; what the user made is gone."""
        self.thaw_all()
        for name in sorted(self._stopped):
            self.start_service(name)
        end = time.monotonic() + SERVER_SECONDS
        while self.servers() and time.monotonic() < end:
            for server in self.servers():
                self.user.compute.delete_server(server, force=False)
            time.sleep(1)
        for keypair in self.keypairs():
            self.user.compute.delete_keypair(keypair)
        for image in self.images():
            self.user.image.delete_image(image)
        user = self.user.current_user_id
        for credential in self.user.identity.application_credentials(user):
            self.user.identity.delete_application_credential(user, credential)


def horizon_openrc(cloud, password_lines):
    """openrc as Horizon gives it, but for the lines that ask for the password."""
    return f"""\
#!/usr/bin/env bash
# To use an OpenStack cloud you need to authenticate against the Identity
# service named keystone, which returns a **Token** and **Service Catalog**.
export OS_AUTH_URL={cloud.auth["auth_url"]}/
# With the addition of Keystone we have standardized on the term **project**
# as the entity that owns the resources.
export OS_PROJECT_ID={cloud.project_id}
export OS_PROJECT_NAME="{cloud.auth["project_name"]}"
export OS_USER_DOMAIN_NAME="Default"
if [ -z "$OS_USER_DOMAIN_NAME" ]; then unset OS_USER_DOMAIN_NAME; fi
export OS_PROJECT_DOMAIN_ID="default"
if [ -z "$OS_PROJECT_DOMAIN_ID" ]; then unset OS_PROJECT_DOMAIN_ID; fi
# unset v2.0 items in case set
unset OS_TENANT_ID
unset OS_TENANT_NAME
# In addition to the owning entity (tenant), OpenStack stores the entity
# performing the action as the **user**.
export OS_USERNAME="{cloud.auth["username"]}"
# With Keystone you pass the keystone password.
{password_lines}
# If your configuration has multiple regions, we set that information here.
export OS_REGION_NAME="RegionOne"
# Don't leave a blank variable, unset it if it was empty
if [ -z "$OS_REGION_NAME" ]; then unset OS_REGION_NAME; fi
export OS_INTERFACE=public
export OS_IDENTITY_API_VERSION=3
"""


def host_pid(cloud_dir, name):
    """Of a service, as this namespace numbers it."""
    namespace = os.readlink(f"/proc/{(cloud_dir / 'run/init').read_text().strip()}/ns/pid")
    inner = (cloud_dir / f"state/{name}.pid").read_text()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{entry}/ns/pid") != namespace:
                continue
            status = Path("/proc", entry, "status").read_text()
        except OSError:
            continue
        (pids,) = (line.split() for line in status.splitlines() if line.startswith("NSpid:"))
        if pids[-1] == inner:
            return int(entry)
    raise ProcessLookupError(f"{name} does not run")
