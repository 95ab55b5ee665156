"""What an administrator would set up: endpoints, a network, flavors, a project with its user."""

import time

from cloud import REGION

ENDPOINTS = (
    ("glance", "image", 9292, ""),
    ("placement", "placement", 8778, ""),
    ("nova", "compute", 8774, "/v2.1"),
    ("neutron", "network", 9696, ""),
)
NETWORK = "provider"
SOURCE_IMAGE = "source"
FLAVORS = (("m1.tiny", 256, 1), ("m1.small", 512, 2))
PROJECT, USER = "images", "packuilon"
READY_SECONDS = 180


def connect(cloud):
    import openstack  # takes a second, and not every command needs it

    return openstack.connect(
        auth_url=cloud.auth_url,
        username="admin",
        password=cloud.password,
        project_name="admin",
        user_domain_name="Default",
        project_domain_name="Default",
        region_name=REGION,
        identity_api_version="3",
    )


def identity(cloud):
    """Needs Keystone alone."""
    keystone = connect(cloud).identity
    roles = {role.name: role for role in keystone.roles()}
    service_role = keystone.create_role(name="service")
    project = keystone.create_project(name="service", domain_id="default")
    user = keystone.create_user(name="service", password=cloud.password, domain_id="default")
    for role in (roles["admin"], service_role):
        keystone.assign_project_role_to_user(project, user, role)
    for name, kind, port, path in ENDPOINTS:
        service = keystone.create_service(name=name, type=kind)
        for interface in ("public", "internal", "admin"):
            keystone.create_endpoint(
                service_id=service.id,
                interface=interface,
                url=f"http://{cloud.address}:{port}{path}",
                region_id=REGION,
            )
    project = keystone.create_project(name=PROJECT, domain_id="default")
    user = keystone.create_user(
        name=USER, password=cloud.user_password, domain_id="default", default_project_id=project.id
    )
    keystone.assign_project_role_to_user(project, user, roles["member"])
    cloud.write_credentials(USER, PROJECT, project.id)


def resources(cloud, connection):
    """Needs all APIs, and a connection that knows their endpoints."""
    guests = cloud.guest_network
    network = connection.network.create_network(
        name=NETWORK,
        shared=True,
        provider_network_type="flat",
        provider_physical_network="provider",
    )
    connection.network.create_subnet(
        network_id=network.id,
        name=NETWORK,
        ip_version=4,
        cidr=f"{guests}.0/24",
        gateway_ip=f"{guests}.1",
        enable_dhcp=True,
        allocation_pools=[{"start": f"{guests}.10", "end": f"{guests}.250"}],
    )
    for name, ram, disk in FLAVORS:
        connection.compute.create_flavor(name=name, ram=ram, vcpus=1, disk=disk)
    connection.image.create_image(
        name=SOURCE_IMAGE,
        filename=str(cloud.source_image),
        disk_format="qcow2",
        container_format="bare",
        visibility="public",
        wait=True,
    )


def wait_ready(connection, map_hosts):
    """Until the compute host takes servers and the network agents are alive."""
    end = time.monotonic() + READY_SECONDS
    while True:
        services = [s for s in connection.compute.services() if s.binary == "nova-compute"]
        if services and all(service.state == "up" for service in services):
            map_hosts()
            hosts = list(connection.compute.hypervisors(details=True))
            agents = list(connection.network.agents())
            if hosts and len(agents) >= 2 and all(agent.is_alive for agent in agents):
                return
        if time.monotonic() > end:
            raise SystemExit(f"no compute host or no network agent after {READY_SECONDS} s")
        time.sleep(0.5)
