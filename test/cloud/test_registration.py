"""The whole circle: a personality changes, Packer builds, Nova announces the build's server,
nova2aquilon registers it, its guest waits for the profile, fetches it and configures itself.

Nova, its notifications and its API, Packer and the guest are real; the Aquilon broker is the tests'
stand-in, and in the guest stand the commands of Quattor."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cloud_site import BUILD_SECONDS
from rig.processes import REPOSITORY
from rig.profiles import OS_KEY
from rig.registrations import AquilonSite
from rig.waiting import wait_for
from running_cloud import MINUTE

DOMAIN = "nubes.example.org"

# In the guest there is busybox, and no DNS.
GUEST_COMMANDS = {
    "getent": 'echo "$2 host-$(echo $2 | tr . -).' + DOMAIN + '"',
    "quattor-fetch": "url=$(sed -n 's/^profile //p' \"$CCM_CONF\")\n"
    'wget -q -O /tmp/profile.json "$url" || exit 2',
    "quattor-configure": "grep -q personality /tmp/profile.json && cp /tmp/profile.json $HOME/configured",
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class ProfileServer(ThreadingHTTPServer):
    """What the guests fetch from, on the address of this host that they see."""

    daemon_threads = True

    def __init__(self, address, folder):
        super().__init__((address, 0), partial(_Quiet, directory=str(folder)))
        self.url = f"http://{address}:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self):
        self.shutdown()
        self._thread.join()
        self.server_close()


@pytest.fixture
def circle(site, cloud):
    """The site with nova2aquilon at work on the cloud's own RabbitMQ."""
    aq = AquilonSite(site._site)
    facts = json.loads((cloud.dir / "clouds.yaml").read_text())["clouds"]["admin"]["auth"]
    aq.set(
        RABBIT_HOST=cloud.host_address.rsplit(".", 1)[0] + ".2",
        RABBIT_PORT=5672,
        RABBIT_USER="openstack",
        RABBIT_PW=facts["password"],
        RABBIT_VHOST="/",
        HOST_NAME="host-${address}." + DOMAIN,
        NOVA_AUTH_FILE=cloud.dir / "openrc",
    )
    site.set("rabbit2packer", AQ_STATUS_SECONDS=2)
    folder = site.root / "host-profiles"
    folder.mkdir()
    server = ProfileServer(cloud.host_address, folder)

    def compile_profile(host):
        record = aq.broker.hosts[host]
        text = json.dumps({"system": {"personality": {"name": record["personality"]}}})
        (folder / f"{host}.json").write_text(text)

    aq.broker.on_make = compile_profile
    aq.profile_url = server.url
    yield aq
    server.close()
    aq.close()


def quattor_template(site, profile_url):
    """The template of the main job, with the guest's script of data/guest as its provisioner."""
    commands = site.root / "guest-bin"
    commands.mkdir()
    for name, text in GUEST_COMMANDS.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    path = site.json_template()
    document = json.loads(path.read_text().replace("{ $METADATA }", '"$METADATA"'))
    document["provisioners"] = [
        {"type": "file", "source": f"{commands}/", "destination": "/tmp/"},
        {
            "type": "shell",
            "script": str(REPOSITORY / "data/guest/configure-with-quattor.sh"),
            "execute_command": "chmod +x {{ .Path }} /tmp/getent /tmp/quattor-*; "
            "{{ .Vars }} {{ .Path }}",
            "environment_vars": [
                "PATH=/tmp:/bin:/sbin:/usr/bin:/usr/sbin",
                f"PROFILE_URL={profile_url}",
                "CCM_CONF=/tmp/ccm.conf",
                "METADATA_URL=",
                "POLL_SECONDS=2",
            ],
        },
        {"type": "shell", "inline": ["cat $HOME/configured", "sync"]},
    ]
    path.write_text(json.dumps(document, indent=2).replace('"$METADATA"', "{ $METADATA }"))


def test_the_guest_gets_its_profile(site, cloud, circle):
    quattor_template(site, circle.profile_url)
    daemon = circle.start()
    daemon.wait_log("connected to the queue", MINUTE)
    site.add_personalities("nubesvms")
    site.change("nubesvms")
    site.worker()
    (build,) = site.wait_state("succeeded", deadline=BUILD_SECONDS)

    # The queue has the notifications of other tests' servers, too.
    (row,) = [row for row in circle.rows() if row.build_id == build.build_id]
    circle.wait(row.server, "removed", deadline=4 * MINUTE)
    assert not circle.broker.machine_of(row.server) and row.host not in circle.broker.hosts
    steps = circle.steps(row.server)
    assert "registered" in steps and "told Nova" in steps and steps[-1] == "removed"
    log = site.log_text(build)
    assert "configure-with-quattor: configured" in log
    assert '{"system": {"personality": {"name": "nubesvms"}}}' in log
    registration = [e.detail for e in site.events(build) if e.what == "registration"]
    assert registration == [f"server {row.server} is registered with Aquilon as {row.host}"]
    assert daemon.stop() == 0


def test_a_registration_that_fails_ends_the_build(site, cloud, circle):
    quattor_template(site, circle.profile_url)
    circle.broker.fail("PUT /host/", 400, times=100, text="Personality nubesvms not found.")
    circle.start().wait_log("connected to the queue", MINUTE)
    server_name = site.begin_build()
    server = cloud.wait_server(server_name)
    (build,) = site.wait_state("failed", deadline=BUILD_SECONDS)
    assert "Personality nubesvms not found." in build.reason
    assert OS_KEY in build.image
    wait_for(lambda: not cloud.servers(), "the server is gone", 4 * MINUTE)
    circle.wait(server.id, "removed", deadline=4 * MINUTE)
    assert not circle.broker.machine_of(server.id)
