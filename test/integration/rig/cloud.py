"""A small OpenStack: Keystone, Nova's metadata of servers, and Glance's images, on one port."""

import json
import re
import ssl
import time
import uuid
from urllib.parse import parse_qsl, unquote, urlsplit

from .rest import Handler, Server

USER, PROJECT, PASSWORD = "image", "images", "openrc-password"


class _CloudHandler(Handler):
    def handle_call(self):
        server, body = self.server, self.body()
        with server.lock:
            server.calls.append((self.command, self.path))
            server.connections.add(self.client_address)
            fault = server.faults.get(urlsplit(self.path).path)
            if server.broken:
                self.reply(server.broken, "{}")
            elif not fault:
                self.serve(body)
        if fault:
            fault(self)

    def serve(self, body):
        server = self.server
        if self.path == "/v3/auth/tokens":
            self.give_token(json.loads(body))
        elif self.headers.get("X-Auth-Token") not in server.tokens:
            self.reply(401, '{"error": "no token"}')
        elif self.path.startswith("/image/"):
            self.image()
        else:
            self.metadata(body)

    # ---- Keystone ----------------------------------------------------------------------------

    def refuse(self, words="The request you have made requires authentication."):
        error = {"code": 401, "message": words, "title": "Unauthorized"}
        self.reply(401, json.dumps({"error": error}))

    def give_token(self, request):
        server, auth = self.server, request["auth"]
        server.logins.append(auth)
        server.login_times.append(time.monotonic())
        password = auth["identity"].get("password", {}).get("user", {}).get("password")
        scope = auth.get("scope")
        if server.refuse_login or (server.password and password != server.password):
            self.refuse()
            return
        if scope != "unscoped" and scope and scope["project"].get("name") in server.no_projects:
            self.refuse()
            return
        token = uuid.uuid4().hex
        server.tokens.add(token)
        document = {
            "expires_at": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + 3600)),
            "catalog": server.catalog(),
            "user": {"id": "1", "name": USER},
            "project": {"id": "2", "name": PROJECT},
        }
        self.reply(201, json.dumps({"token": document}), {"X-Subject-Token": token})

    # ---- Nova --------------------------------------------------------------------------------

    def metadata(self, body):
        server = self.server
        match = re.fullmatch(r"/v2.1/servers/([^/]+)/metadata", self.path)
        if not match or match[1] in server.gone:
            self.reply(404, '{"itemNotFound": {"code": 404}}')
            return
        metadata = server.servers.setdefault(match[1], {})
        if self.command == "POST":
            given = json.loads(body)["metadata"]
            assert all(len(v.encode()) <= 255 for v in given.values())
            metadata.update(given)
        self.reply(200, json.dumps({"metadata": metadata}))

    # ---- Glance ------------------------------------------------------------------------------

    def image(self):
        server, url = self.server, urlsplit(self.path)
        match = re.fullmatch(r"/image/v2/images(?:/([^/]+))?", url.path)
        image = match and match[1] and server.images.get(unquote(match[1]))
        if image:
            self.reply(200, json.dumps(image))
        elif not match or match[1]:
            self.reply(404, "<html><body>No image found with that ID</body></html>")
        else:
            query = dict(parse_qsl(url.query))
            limit = int(query.pop("limit"))
            found = [i for i in server.images.values() if query.items() <= i.items()]
            self.reply(200, json.dumps({"images": found[:limit], "schema": "/v2/schemas/images"}))


class Cloud(Server):
    """servers: id -> metadata; any that is asked for is there, but those in `gone`. images: id ->
    document. faults: path -> what is called with the handler instead of an answer."""

    def __init__(self):
        self.servers, self.gone, self.tokens, self.logins, self.calls = {}, set(), set(), [], []
        self.refuse_login, self.broken, self.login_times = False, None, []
        self.images, self.faults, self.connections = {}, {}, set()
        self.password, self.no_projects, self.services = None, set(), {"compute", "image"}
        super().__init__(_CloudHandler)

    def catalog(self):
        paths = {"compute": "/v2.1/", "image": "/image"}
        return [
            {
                "type": service,
                "endpoints": [
                    {"interface": "admin", "region_id": "RegionOne", "url": "http://127.0.0.1:1/no"},
                    {"interface": "public", "region_id": "Other", "url": "http://127.0.0.1:1/no"},
                    {"interface": "public", "region_id": "RegionOne", "url": self.url + path},
                ],
            }
            for service, path in paths.items()
            if service in self.services
        ]

    def status_of(self, server):
        with self.lock:
            return self.servers.get(server, {}).get("AQ_STATUS")

    def add_image(self, image=None, name="rocky", status="active"):
        image = image or str(uuid.uuid4())
        self.images[image] = {"id": image, "name": name, "status": status}
        return image

    def use_tls(self, certificate, key):
        """From the first request on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_port}"

    def openrc(self, **values):
        """What a good auth file for this cloud sets."""
        return {
            "OS_AUTH_URL": f"{self.url}/v3",
            "OS_USERNAME": USER,
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": PROJECT,
            "OS_REGION_NAME": "RegionOne",
            **values,
        }
