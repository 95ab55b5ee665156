"""The main job on a real OpenStack: a personality changes, an image appears."""

import json

from cloud_site import MARKER, entry_of
from rig.profiles import OS_KEY

PHASES = ["launch", "boot", "connect", "provision", "stop", "save", "clean up"]
IMAGE = f"nubesvms-{OS_KEY}"
METADATA = {
    "AQ_PERSONALITY": "nubesvms",
    "AQ_OS": "rocky",
    "AQ_OSVERSION": "8x-x86_64",
    "AQ_ARCHETYPE": "cloud",
    "AQ_DOMAIN": "prod",
}


def check_build(site, build):
    """History, log file, image and exit status tell the same."""
    cloud = site.cloud
    image = cloud.image(build.artifact)
    assert (image.status, image.name, image.visibility) == ("active", build.image, "private")
    assert image.owner == cloud.project_id
    assert build.exit_code == 0
    assert site.exit_line(build)[1] == 0
    assert build.artifact in site.log_text(build)
    spans = site.phases(build)
    assert [name for name, _ in spans] == PHASES
    whole = (build.ended_ms - build.started_ms) / 1000
    assert 0.8 * whole <= sum(seconds for _, seconds in spans) <= whole
    return image


def metadata_inside(marker):
    """What the guest saw of its server's metadata while it was built."""
    return json.loads(marker.split("\n", 2)[2])["meta"]


def test_changed_personality_becomes_an_image(site, cloud, tmp_path):
    site.add_personalities("nubesvms", "other")
    assert site.queue_count() == 0, "the first run records"
    site.change("nubesvms")
    assert site.queue_count() == 1
    site.worker()
    server = cloud.wait_server(f"build-{IMAGE}")
    (build,) = site.wait_state("succeeded")

    for key, value in METADATA.items():
        assert server.metadata[key] == value
    assert server.metadata["PACKUILON_BUILD_ID"] == build.build_id
    check_build(site, build)
    assert build.entry == entry_of("nubesvms")
    assert cloud.left() == []
    assert [image.id for image in cloud.images()] == [build.artifact]
    status = json.loads(site.packuilon("status", "--json").out)
    (shown,) = status["builds"]
    assert (shown["state"], shown["image"]) == ("succeeded", IMAGE)
    assert build.artifact in site.packuilon("show", build.id).out

    with cloud.guest(build.artifact, tmp_path) as run:
        marker = run(f"cat {MARKER}")
    assert marker.startswith(f"built {IMAGE}\nfrom the builder\n")
    assert metadata_inside(marker) == server.metadata


def test_four_builds_at_once(site, cloud, tmp_path):
    """Four slots; one of the personalities has two templates, one of them HCL2."""
    site.json_template("second", metadata={"made_by": "the second template"})
    site.hcl_template("third")
    site.template_map(
        {
            "DEFAULT": ["managed.json"],
            f"p2-{OS_KEY}": ["second.json", "third.pkr.hcl"],
        }
    )
    site.set("rabbit2packer", THREAD_COUNT=4)
    names = ["p0", "p1", "p2"]
    site.add_personalities(*names)
    site.change(*names)
    site.worker()
    builds = site.wait_state("succeeded", 4)

    assert sorted(build.personality for build in builds) == ["p0", "p1", "p2", "p2"]
    for build in builds:
        check_build(site, build)
    started = max(build.started_ms for build in builds)
    assert all(build.ended_ms > started for build in builds), "at once"
    assert cloud.left() == []
    images = {image.id: image for image in cloud.images()}
    assert set(images) == {build.artifact for build in builds}
    (second,) = [build for build in builds if build.template.endswith("/second.json")]
    assert images[second.artifact].properties["made_by"] == "the second template"
    (third,) = [build for build in builds if build.template.endswith("/third.pkr.hcl")]
    with cloud.guest(third.artifact, tmp_path) as run:
        marker = run(f"cat {MARKER}")
    assert marker.startswith(f"built p2-{OS_KEY}\nfrom the builder\n")
    expected = {**METADATA, "AQ_PERSONALITY": "p2", "PACKUILON_BUILD_ID": third.build_id}
    assert metadata_inside(marker) == expected
