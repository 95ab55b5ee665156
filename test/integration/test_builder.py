"""rabbit2packer: from a message to an image, its log and its history."""

import json
import time

from rig.profiles import OS_KEY, profile
from rig.site import SOURCE_IMAGE

IMAGE = f"nubesvms-{OS_KEY}"


def test_message_becomes_an_image(site):
    site.worker()
    before = int(time.time())
    site.publish(profile(), message_id="a-message", entry="nubes.cloud.template.json")
    (build,) = site.wait_state("succeeded")
    assert build.image == IMAGE
    assert build.personality == "nubesvms"
    assert build.os == OS_KEY
    assert build.source_image == SOURCE_IMAGE
    assert build.artifact == "2561d107-7585-4ed4-a269-1aedfb136bb6"
    assert build.exit_code == 0
    assert build.message_id == "a-message"
    assert build.entry == "nubes.cloud.template.json"
    assert build.queued_ms <= build.started_ms <= build.ended_ms
    ended, code = site.exit_line(build)
    assert code == 0
    assert before <= ended <= time.time()
    site.wait_queue_empty()


def test_packer_gets_the_rendered_template(site):
    site.worker()
    site.publish_profile()
    (build,) = site.wait_state("succeeded")
    (run,) = site.packer_runs()
    (builder,) = run.build_file["builders"]
    assert builder["image_name"] == IMAGE
    assert builder["source_image"] == SOURCE_IMAGE
    assert builder["instance_metadata"] == {
        "AQ_PERSONALITY": "nubesvms",
        "AQ_OS": "rocky",
        "AQ_OSVERSION": "8x-x86_64",
        "AQ_ARCHETYPE": "cloud",
        "AQ_DOMAIN": "prod",
        "PACKUILON_BUILD_ID": build["build_id"],
    }
    assert run.argv[1:3] == ["build", "-color=false"]
    assert run.argv[-1] == str(site.root / "build-files" / f"{IMAGE}.managed.json")
    assert run.env["PACKER_NO_COLOR"] == "1"
    assert run.env["CHECKPOINT_DISABLE"] == "1"
    assert run.env["TMPDIR"].startswith(str(site.state_dir))
    assert "NOTIFY_SOCKET" not in run.env


def test_log_is_named_as_the_monitor_wants(local_site):
    local_site.worker()
    local_site.publish_profile("with.dots-and/slash")
    (build,) = local_site.wait_state("succeeded")
    (log,) = local_site.logs()
    assert str(log) == build.log_path
    name, template, json_, epoch, log_ = log.name.split(".")
    assert (template, json_, log_) == ("managed", "json", "log")
    assert abs(int(epoch) - build.started_ms // 1000) <= 1
    assert name == f"with_dots-and_slash-{OS_KEY}"


def test_history_has_each_transition_and_phase(site):
    site.template("managed", "launch", "save 3f", "succeed 3f")
    site.worker()
    site.publish_profile()
    (build,) = site.wait_state("succeeded")
    what = [event["what"] for event in site.events(build)]
    assert [word for word in what if word != "phase"] == ["queued", "building", "succeeded"]
    phases = [event["detail"] for event in site.events(build) if event["what"] == "phase"]
    assert phases == ["launch", "boot", "connect", "provision", "stop", "save", "clean up"]


def test_two_templates_are_two_builds(site):
    site.template("unmanaged")
    site.template_map({IMAGE: ["managed.json", "unmanaged.json"]})
    site.worker()
    site.publish_profile()
    builds = site.wait_state("succeeded", 2)
    assert {build.template for build in builds} == {
        str(site.root / "managed.json"),
        str(site.root / "unmanaged.json"),
    }
    assert len({build["build_id"] for build in builds}) == 2
    assert sorted(log.name.split(".")[1] for log in site.logs()) == ["managed", "unmanaged"]


def test_sandbox_goes_into_the_metadata(local_site):
    branch = {"name": "image-test", "type": "sandbox", "author": "jbloggs"}
    local_site.worker()
    local_site.publish_profile(**{"/metadata/template/branch": branch})
    local_site.wait_state("succeeded")
    (run,) = local_site.packer_runs()
    metadata = run.build_file["builders"][0]["instance_metadata"]
    assert metadata["AQ_SANDBOX"] == "jbloggs/image-test"
    assert "AQ_DOMAIN" not in metadata


def test_image_name_pattern(local_site):
    local_site.set("rabbit2packer", IMAGE_NAME="${domain}-${hostname}")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("succeeded")
    assert build.image == "prod-nubesvms"


def test_source_images_may_be_nested(local_site):
    local_site.source_images({"rocky": {"8x-x86_64": "nested-id"}})
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("succeeded")
    assert build.source_image == "nested-id"
    assert build.image == IMAGE


def test_maps_and_templates_are_read_for_each_build(local_site):
    local_site.worker()
    local_site.publish_profile("one")
    local_site.wait_state("succeeded", 1)
    local_site.source_images({OS_KEY: "another-id"})
    local_site.template("newer")
    local_site.template_map({"DEFAULT": ["newer.json"]})
    local_site.publish_profile("two")
    builds = local_site.wait_state("succeeded", 2)
    assert builds[1].source_image == "another-id"
    assert builds[1].template.endswith("/newer.json")


HCL = """\
variable "name" {}
variable "image" {}
variable "personality" {}
variable "metadata" { type = map(string) }
%s
source "file" "one" {
  target  = "%s/${var.name}"
  content = "${var.image} ${var.personality} ${var.metadata["AQ_OS"]}"
}
build { sources = ["source.file.one"] }
"""


def test_hcl2_template_gets_a_var_file(local_site):
    path = local_site.root / "modern.pkr.hcl"
    path.write_text(HCL % ("# fake: say from HCL\n# fake: succeed abc", local_site.root))
    local_site.template_map({"DEFAULT": ["modern.pkr.hcl"]})
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("succeeded")
    (run,) = local_site.packer_runs()
    assert run.argv[-1] == str(path)
    assert run.vars["name"] == IMAGE
    assert run.vars["image"] == SOURCE_IMAGE
    assert run.vars["metadata"]["AQ_PERSONALITY"] == "nubesvms"
    assert set(run.vars) == {"name", "image", "personality", "metadata"}
    assert "from HCL" in local_site.log_text(build)


def test_real_packer_with_json(site):
    site.use_real_packer()
    site.file_template()
    site.worker()
    site.publish_profile()
    (build,) = site.wait_state("succeeded")
    image = site.root / "images" / IMAGE
    assert image.read_text() == f"{IMAGE} from {SOURCE_IMAGE} by nubesvms\n"
    assert str(image) in build.artifact
    assert site.exit_line(build)[1] == 0
    assert "==> Builds finished. The artifacts" in site.log_text(build)


def test_real_packer_with_hcl2(local_site):
    local_site.use_real_packer()
    (local_site.root / "modern.pkr.hcl").write_text(HCL % ("", local_site.root))
    local_site.template_map({"DEFAULT": ["modern.pkr.hcl"]})
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    assert (local_site.root / IMAGE).read_text() == f"{SOURCE_IMAGE} nubesvms rocky"


def test_real_packer_fails(local_site):
    local_site.use_real_packer()
    local_site.template("managed", text=json.dumps({"builders": [{"type": "no-such-builder"}]}))
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    assert build.exit_code == 1
    assert "no-such-builder" in build.reason
    assert local_site.exit_line(build)[1] == 1


def test_compiled_sample_profile(local_site, sample_profile):
    """A profile of the real pan compiler."""
    local_site.worker()
    local_site.publish(sample_profile)
    (build,) = local_site.wait_state("succeeded")
    assert build.image == IMAGE
