"""The ways in which sites log in: a plain user in a project of its own, each time."""

import json
import re
import secrets

import pytest
from rig.profiles import OS_KEY
from running_cloud import USER, horizon_openrc


def horizon(site, cloud):
    path = site.root / "images-openrc.sh"
    path.write_text(horizon_openrc(cloud, f'export OS_PASSWORD="{cloud.auth["password"]}"'))
    path.chmod(0o600)
    site.set("rabbit2packer", PACKER_AUTH_FILE=path)
    return cloud.auth["password"]


def clouds_yaml(site, cloud):
    """An auth file that only names the cloud."""
    path = site.root / "openrc"
    path.write_text(
        f"export OS_CLOUD={USER}\nexport OS_CLIENT_CONFIG_FILE={cloud.dir}/clouds.yaml\n"
    )
    site.set("rabbit2packer", PACKER_AUTH_FILE=path)
    return cloud.auth["password"]


def application_credential(site, cloud):
    user = cloud.user.identity
    secret = secrets.token_urlsafe(24)
    credential = user.create_application_credential(
        cloud.user.current_user_id, f"packuilon-{secrets.token_hex(4)}", secret=secret
    )
    site.openrc(
        OS_AUTH_TYPE="v3applicationcredential",
        OS_AUTH_URL=cloud.auth["auth_url"],
        OS_REGION_NAME="RegionOne",
        OS_INTERFACE="public",
        OS_IDENTITY_API_VERSION="3",
        OS_APPLICATION_CREDENTIAL_ID=credential.id,
        OS_APPLICATION_CREDENTIAL_SECRET=secret,
    )
    path = site.root / "openrc.sh"  # no user name beside it
    lines = [line for line in path.read_text().splitlines() if "OS_USERNAME" not in line]
    path.write_text("\n".join(lines) + "\n")
    return secret


@pytest.mark.parametrize("log_in", [horizon, clouds_yaml, application_credential])
def test_log_in(site, cloud, log_in):
    secret = log_in(site, cloud)
    site.begin_build()
    assert re.search(r"^ok +Glance: 1 source image is there$", site.packuilon("check").out, re.M)
    (build,) = site.wait_state("succeeded")
    image = cloud.image(build.artifact)
    assert (image.status, image.owner, image.name) == (
        "active",
        cloud.project_id,
        f"nubesvms-{OS_KEY}",
    )
    assert cloud.left() == []
    assert secret not in site.log_text(build)
    assert secret not in json.dumps(build)
