"""Where everything of one cloud is, and its configuration files."""

import json
import secrets
from pathlib import Path
from string import Template

REGION = "RegionOne"


class Cloud:
    """dir/state goes when the cloud stops; facts.json there holds what was chosen at its start."""

    def __init__(self, folder, number=None):
        self.dir = Path(folder)
        self.state, self.log = self.dir / "state", self.dir / "log"
        self.conf = self.state / "conf"
        self.source_image = self.dir / "source.qcow2"
        self.mysql_socket = self.state / "mysql.sock"
        facts = self.state / "facts.json"
        if number is not None:
            facts.touch(0o600)
            facts.write_text(json.dumps([number, secrets.token_hex(8), secrets.token_hex(8)]))
        self.number, self.password, self.user_password = json.loads(facts.read_text())
        self.address = f"198.18.{self.number}.2"
        self.guest_network = f"198.19.{self.number}"
        self.auth_url = f"http://{self.address}:5000/v3"

    def database_url(self, name):
        return f"mysql+pymysql://root@localhost/{name}?{self._socket()}"

    def _socket(self):
        return f"unix_socket={self.mysql_socket}&charset=utf8mb4"

    def write_configuration(self):
        auth = {
            "www_authenticate_uri": self.auth_url,
            "auth_url": self.auth_url,
            "auth_type": "password",
            "project_domain_name": "Default",
            "user_domain_name": "Default",
            "project_name": "service",
            "username": "service",
            "password": self.password,
            "region_name": REGION,
        }
        values = {
            "state": self.state,
            "log": self.log,
            "conf": self.conf,
            "address": self.address,
            "password": self.password,
            "rabbit": f"rabbit://openstack:{self.password}@127.0.0.1:5672/",
            "database": "mysql+pymysql://root@localhost",
            "socket": self._socket(),
            "auth": "\n".join(f"{key} = {value}" for key, value in auth.items()),
        }
        templates = Path(__file__).parent.with_name("conf")
        for path in filter(Path.is_file, templates.rglob("*")):
            target = self.conf / path.relative_to(templates)
            target.parent.mkdir(exist_ok=True)
            target.write_text(Template(path.read_text()).substitute(values))
        for folder in ("keystone/fernet", "keystone/credential", "glance/images", "nova/instances",
                       "neutron", "rabbitmq"):  # fmt: skip
            (self.state / folder).mkdir(parents=True)
        (self.state / "rabbitmq/enabled_plugins").write_text("[].\n")
        paste = Path("/etc/nova/api-paste.ini")
        (self.conf / paste.name).write_bytes(paste.read_bytes())
        qemu = Path("/etc/libvirt/qemu.conf")  # this folder is the cloud's own here
        qemu.write_bytes((self.conf / qemu.name).read_bytes())

    # ---- credentials, as users have them ----------------------------------------------------

    def write_credentials(self, user, project, project_id):
        """openrc for the user, admin-openrc, and clouds.yaml with both."""
        self._write_openrc("admin-openrc", "admin", self.password, "admin", None)
        self._write_openrc("openrc", user, self.user_password, project, project_id)
        clouds = {
            name: {
                "auth": {
                    "auth_url": self.auth_url,
                    "username": username,
                    "password": password,
                    "project_name": project_name,
                    "user_domain_name": "Default",
                    "project_domain_name": "Default",
                },
                "region_name": REGION,
                "identity_api_version": 3,
            }
            for name, username, password, project_name in (
                ("admin", "admin", self.password, "admin"),
                (user, user, self.user_password, project),
            )
        }
        # JSON is YAML.
        self._write_secret("clouds.yaml", json.dumps({"clouds": clouds}, indent=2) + "\n")

    def _write_openrc(self, name, user, password, project, project_id):
        lines = {
            "OS_AUTH_URL": self.auth_url,
            "OS_PROJECT_ID": project_id,
            "OS_PROJECT_NAME": project,
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_USERNAME": user,
            "OS_PASSWORD": password,
            "OS_REGION_NAME": REGION,
            "OS_INTERFACE": "public",
            "OS_IDENTITY_API_VERSION": "3",
        }
        text = "".join(f'export {key}="{value}"\n' for key, value in lines.items() if value)
        self._write_secret(name, text)

    def _write_secret(self, name, text):
        path = self.dir / name
        path.touch(0o600)
        path.write_text(text)
