"""A site whose Packer builds on the running cloud."""

import json

from rig.profiles import OS_KEY, profile
from running_cloud import FLAVOR, MINUTE, NETWORK

BUILD_SECONDS = 8 * MINUTE  # 25 s on an idle machine
MARKER = "/home/debian/marker"
METADATA = "/run/config/openstack/latest/meta_data.json"


def entry_of(personality):
    return f"{personality}.cloud.template.json"


class CloudSite:
    """Wraps the rig's Site; its methods are reached through this."""

    def __init__(self, site, cloud):
        self._site, self.cloud = site, cloud
        site.use_real_packer()
        site.source_images({OS_KEY: cloud.source_image_id})
        site.set("rabbit2packer", PACKER_AUTH_FILE=cloud.dir / "openrc", MAX_ATTEMPTS=1)
        (site.root / "motd").write_text("from the builder\n")
        self.json_template()

    def __getattr__(self, name):
        return getattr(self._site, name)

    # ---- templates --------------------------------------------------------------------------

    def json_template(self, name="managed", *, script=(), **builder):
        """Upstream's form. builder=None leaves a key out."""
        text = json.dumps(
            {
                "builders": [
                    without_none(
                        {
                            "type": "openstack",
                            "image_name": "$NAME",
                            "instance_name": "build-$NAME",
                            "source_image": "$IMAGE",
                            "instance_metadata": "$METADATA",
                            "image_visibility": "private",
                            "flavor": FLAVOR,
                            "networks": [self.cloud.network_id],
                            "ssh_username": "debian",
                            "ssh_timeout": "5m",
                            **builder,
                        }
                    )
                ],
                "provisioners": [
                    {"type": "file", "source": "motd", "destination": "/tmp/motd"},
                    {"type": "shell", "inline": [*self.marker_script("$NAME"), *script, "sync"]},
                ],
            },
            indent=2,
        ).replace('"$METADATA"', "{ $METADATA }")
        return self._site.template(name, text=text)

    @staticmethod
    def marker_script(name):
        return [f"echo built {name} >{MARKER}", f"cat /tmp/motd {METADATA} >>{MARKER}"]

    def hcl_template(self, name="managed"):
        """As far as Packer 1.6 has it."""
        script = json.dumps([*self.marker_script("${var.name}"), "sync"])
        path = self.root / f"{name}.pkr.hcl"
        path.write_text(
            f"""\
variable "name" {{
  type = string
}}
variable "image" {{
  type = string
}}
variable "metadata" {{
  type = map(string)
}}
source "openstack" "managed" {{
  image_name        = var.name
  instance_name     = "build-${{var.name}}"
  source_image      = var.image
  instance_metadata = var.metadata
  image_visibility  = "private"
  flavor            = "{FLAVOR}"
  networks          = ["{self.cloud.network_id}"]
  ssh_username      = "debian"
  ssh_timeout       = "5m"
}}
build {{
  sources = ["source.openstack.managed"]
  provisioner "file" {{
    source      = "${{path.root}}/motd"
    destination = "/tmp/motd"
  }}
  provisioner "shell" {{
    inline = {script}
  }}
}}
"""
        )
        return path

    # ---- the main job -----------------------------------------------------------------------

    def add_personalities(self, *names):
        """Recorded by a first scan: from now on a change counts."""
        for name in names:
            self.profiles.add(entry_of(name), profile(name), index=False)
        self.profiles.write_index()
        self.scan()

    def change(self, *names):
        """The personalities change, and a scan finds it."""
        for name in names:
            self.profiles.change(entry_of(name), "/software/packages/nginx", {})
        self.scan()

    def begin_build(self, personality="nubesvms"):
        """One changed personality, a worker; its server's name."""
        self.add_personalities(personality)
        self.change(personality)
        self.worker()
        return f"build-{personality}-{OS_KEY}"

    def wait_state(self, state, number=1, deadline=BUILD_SECONDS):
        return self._site.wait_state(state, number, deadline)

    def wait_phase(self, phase):
        """Until a build is in that phase; the build."""
        return self.wait_build(
            lambda build: build.phase == phase or build.ended_ms, f"phase {phase}", BUILD_SECONDS
        )

    def phases(self, build):
        """[(name, seconds)] from the history."""
        events = self.events(build)
        spans = []
        for at, event in enumerate(events):
            if event.what == "phase":
                end = events[at + 1].at_ms if at + 1 < len(events) else build.ended_ms
                spans.append((event.detail, (end - event.at_ms) / 1000))
        return spans


def without_none(values):
    return {key: value for key, value in values.items() if value is not None}
