"""A site's first day: each command of the page, in its order, typed on a host of its own. What the
page leaves to its reader stands between them."""

import json
import re

import pytest
from cloud_site import CloudSite, entry_of
from fresh_host import FreshHost, Page
from rig.processes import REPOSITORY
from rig.profiles import OS_KEY, profile
from rig.waiting import wait_for
from running_cloud import FLAVOR, NETWORK, SERVER_SECONDS, horizon_openrc

PERSONALITY, BY_HAND = "nubesvms", "byhand"
HORIZON_ASKS = """\
echo "Please enter your OpenStack Password for project $OS_PROJECT_NAME as user $OS_USERNAME: "
read -sr OS_PASSWORD_INPUT
export OS_PASSWORD=$OS_PASSWORD_INPUT"""
CONFIG = "/etc/packer-utils"


@pytest.fixture
def host(site):
    host = FreshHost(site.root)
    yield host
    host.close()
    print(host.transcript)  # seen when the test fails


@pytest.fixture
def site(make_site, cloud):
    """Profiles on a web server."""
    return CloudSite(make_site(web=True), cloud)


class Day:
    def __init__(self, host, site):
        self.page = Page(REPOSITORY / "doc/first-day.md")
        self.host, self.site, self.cloud = host, site, site.cloud

    def follow(self, begin, **values):
        """The next block of commands; the output of each."""
        return [self.host.run(line) for line in self.page.commands(begin, **values)]

    def write(self, name, text):
        self.host.run(f"cat >{name} <<'END'\n{text}\nEND")

    def edit(self, name, *changes):
        text = self.host.run(f"cat {CONFIG}/{name}")
        for old, new in changes:
            assert old in text, f"no {old!r} in {name}"
            text = text.replace(old, new)
        self.write(f"{CONFIG}/{name}", text)

    def log_in(self):
        path = self.host.sources / "images-openrc.sh"
        path.write_text(horizon_openrc(self.cloud, HORIZON_ASKS))
        first, *others = self.page.commands(". ./PROJECT-openrc.sh", PROJECT="images")
        assert "enter your OpenStack Password" in self.host.run(
            first, then_type=self.cloud.auth["password"]
        )
        return [self.host.run(line) for line in others]

    def try_a_server(self):
        """By hand, as the page wants it before anything else."""
        self.host.run("ssh-keygen -q -t rsa -N '' -f ~/.ssh/id_rsa")
        self.write("~/.ssh/config", "StrictHostKeyChecking accept-new")  # a yes, when it asks
        keypair, create, show, ssh, *delete = self.page.commands(
            "openstack keypair create",
            IMAGE_ID=self.cloud.source_image_id,
            FLAVOR=FLAVOR,
            NETWORK_ID=self.cloud.network_id,
            USER="debian",
        )
        self.host.run(keypair)
        self.host.run(create)
        (address,) = re.findall(rf"{NETWORK}=([0-9.]+)", self.host.run(show))
        ssh = ssh.replace("ADDRESS", address)
        wait_for(lambda: self.host.type(ssh)[0] == 0, "SSH of the server", SERVER_SECONDS)
        assert "(debian)" in self.host.run(ssh)
        for line in delete:
            self.host.run(line)

    def configure(self):
        self.follow("sudo install -d")
        (table,) = self.follow("openstack application credential create")
        fields = dict(re.findall(r"^\| (\w+) +\| (.*?) +\|$", table, re.M))
        auth = self.page.block(
            "export OS_AUTH_TYPE",
            KEYSTONE=re.search("//(.*):5000", self.cloud.auth["auth_url"])[1],
            REGION="RegionOne",
            ID=fields["id"],
            SECRET=fields["secret"],
        )
        self.write(f"{CONFIG}/packer-auth.sh", auth.replace("https:", "http:"))
        self.follow("sudo chown packuilon:")
        self.edit("config.ini", ("http://aquilon.example.org/profiles", self.site.url))
        (index,) = self.follow("curl -s", **{"AQUILON/profiles": self.site.url[len("http://") :]})
        assert entry_of(PERSONALITY) in index
        provisioners = self.page.block('"provisioners"')
        template = self.host.run(f"cat {CONFIG}/templates/managed.json")
        template = template[: template.index('"provisioners"')] + provisioners + "\n}"
        for old, new in (
            ("REPLACE-WITH-THE-ID-OF-A-NETWORK", self.cloud.network_id),
            ("m1.small", FLAVOR),
            ('"ssh_username": "root"', '"ssh_username": "debian"'),
        ):
            assert old in template
            template = template.replace(old, new)
        self.write(f"{CONFIG}/templates/managed.json", template)
        self.write(f"{CONFIG}/template-map.json", self.page.block('{ "DEFAULT"'))

    def look(self):
        (check,) = self.follow("sudo -u packuilon packuilon check")
        assert "accepts the credentials" in check
        assert "warn" in check, "the sample's source images"
        (plan,) = self.follow("sudo -u packuilon packuilon plan", NAME=PERSONALITY)
        assert OS_KEY in plan and f"{PERSONALITY}-{OS_KEY}" in plan
        images = json.dumps({OS_KEY: self.cloud.source_image_id})
        self.write(f"{CONFIG}/source-images.json", images)
        rendered = self.host.run(
            f"sudo -u packuilon packuilon plan --render {entry_of(PERSONALITY)}"
        )
        assert self.cloud.source_image_id in rendered and "REPLACE-WITH" not in rendered
        assert "warn" not in self.host.run("sudo -u packuilon packuilon check")

    def build(self):
        self.follow("sudo -u packuilon cdb2rabbit")
        self.site.profiles.change(entry_of(PERSONALITY), "/software/packages/nginx", {})
        self.follow("sudo -u packuilon cdb2rabbit")
        self.follow(
            "sudo -u packuilon packuilon build",
            PERSONALITY=BY_HAND,
            ARCHETYPE="cloud",
            OS="rocky",
            VERSION="8x",
        )
        status, log = self.follow(
            "sudo -u packuilon packuilon status", IMAGE=f"{PERSONALITY}-{OS_KEY}"
        )
        assert f"{PERSONALITY}-{OS_KEY}" in status and f"{BY_HAND}-{OS_KEY}" in status
        assert "Build finished at" in log
        self.host.run(f"sudo -u packuilon packuilon log -f {BY_HAND}-{OS_KEY}")

    def see(self):
        for personality in (PERSONALITY, BY_HAND):
            self.host.run(f"sudo -u packuilon packuilon show {personality}-{OS_KEY}")
        document = json.loads(self.host.run("sudo -u packuilon packuilon status --json"))
        builds = {build["personality"]: build for build in document["builds"]}
        assert [build["state"] for build in builds.values()] == ["succeeded"] * 2
        image, servers, keypairs = self.follow(
            "openstack image show", ID=builds[PERSONALITY]["artifact"]
        )
        assert re.search(r"\| status +\| active ", image)
        assert servers.strip() == keypairs.strip() == ""
        shown = self.host.run(f"sudo -u packuilon packuilon show {PERSONALITY}-{OS_KEY}")
        for words in ("provision", "clean up", "nginx"):
            assert words in shown

    def go_on(self):
        # The port may be another's on this machine.
        self.edit("config.ini", ("#CDP_LISTEN = 0.0.0.0:7777", "CDP_LISTEN = 127.0.0.1:0"))
        self.follow("sudo systemctl enable --now cdb2rabbit")


def test_first_day(site, host):
    site.profiles.add(entry_of(PERSONALITY), profile(PERSONALITY))
    day = Day(host, site)
    day.log_in()
    day.try_a_server()
    day.follow("make")
    day.configure()
    day.look()
    day.build()
    day.see()
    day.go_on()
    day.page.check_is_over()
    assert site.cloud.left() == []
