"""Neighbours of nova2aquilon: a broker that keeps state and can fail at any call, a name server, and
notifications as Nova sends them."""

import json
import re
import socket
import struct
import threading
import time
import uuid
from urllib.parse import parse_qsl, unquote, urlsplit

import pika

from .rest import Handler, Server

PREFIX = "vm-openstack-"
QUEUE = "ral.info"
EXCHANGE = "nova"


# ---- the broker ------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, text, missing=False):
        super().__init__(text)
        self.missing = missing


class Fault:
    """Once or more often at calls that match: `what` is a status, "hang" (no answer), "close" or
    "wait" (the right answer, when it is released); with `done` the call has its effect first."""

    def __init__(self, pattern, what, times=1, done=False, text="made to fail"):
        self.pattern, self.what, self.times, self.done = re.compile(pattern), what, times, done
        self.text, self.hit, self.released = text, 0, threading.Event()


class Call:
    def __init__(self, method, path, query, at):
        self.method, self.path, self.query, self.at = method, path, query, at

    def __repr__(self):
        return f"{self.method} {self.path}" + (f" {self.query}" if self.query else "")


class _BrokerHandler(Handler):
    def handle_call(self):
        server = self.server
        body = self.body()
        url = urlsplit(self.path)
        path = unquote(url.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        with server.lock:
            server.calls.append(Call(self.command, path, query, time.monotonic()))
            server.running += 1
            server.most_running = max(server.most_running, server.running)
            server.headers.append(dict(self.headers))
            whose = server.server_of(path, query)
            fault = server.take_fault(f"{self.command} {path} of {whose}")
        try:
            self.answer(fault, path, query, body)
        finally:
            with server.lock:
                server.running -= 1

    def answer(self, fault, path, query, body):
        server = self.server
        status, text = None, ""
        if body:
            status, text = 500, "a body was sent"
        elif server.authorization and self.headers.get("Authorization") != server.authorization:
            status, text = 401, "who are you?"
        elif not fault or fault.done:
            with server.lock:
                status, text = server.call(self.command, path, query)
        if not fault:
            self.reply(status, text)
        elif fault.what == "hang":
            fault.released.wait()
            self.close_connection = True
        elif fault.what == "wait":
            fault.released.wait()
            if not fault.done:
                with server.lock:
                    status, text = server.call(self.command, path, query)
            self.reply(status, text)
        elif fault.what == "close":
            self.close_connection = True
        else:
            self.reply(fault.what, fault.text)


class Broker(Server):
    """hosts: name -> record, machines: name -> record; calls: every call so far. Deletions must come
    in the order that Aquilon wants."""

    def __init__(self):
        self.hosts, self.machines, self.calls, self.headers = {}, {}, [], []
        self.faults, self.authorization = [], None
        self.missing_status = 400  # as the CGI in front of the broker makes of 404
        self.next_number = 1
        self.running = self.most_running = 0
        self.violations = []
        self.on_make = lambda host: None  # as a broker compiles the host's profile
        super().__init__(_BrokerHandler)

    def fail(self, pattern, what, times=1, done=False, text="made to fail"):
        fault = Fault(pattern, what, times, done, text)
        with self.lock:
            self.faults.append(fault)
        return fault

    def take_fault(self, text):
        for fault in self.faults:
            if fault.times > 0 and fault.pattern.search(text):
                fault.times -= 1
                fault.hit += 1
                return fault
        return None

    def server_of(self, path, query):
        """The serial number of the machine that a call is about."""
        name = query.get("machine")
        if match := re.match(r"/machine/([^/]+)", path):
            name = match[1]
        if match := re.match(r"/host/([^/]+)", path):
            name = name or self.hosts.get(match[1], {}).get("machine")
        return query.get("serial") or self.machines.get(name, {}).get("serial")

    def close(self):
        for fault in self.faults:
            fault.released.set()
        super().close()

    def called(self, pattern):
        with self.lock:
            return [call for call in self.calls if re.search(pattern, f"{call.method} {call.path}")]

    def call(self, method, path, query):
        try:
            for route_method, pattern, function in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and route_method == method:
                    return 200, function(self, *match.groups(), query) or ""
        except Refused as refused:
            return (self.missing_status if refused.missing else 400), str(refused)
        except KeyError as missing:
            return 400, f"Bad Request: option {missing} is required"
        return 404, f"No such resource {path}"

    # ---- what it can do ----------------------------------------------------------------------

    def need_machine(self, name):
        if name not in self.machines:
            raise Refused(f"Machine {name} not found.", missing=True)
        return self.machines[name]

    def need_host(self, name):
        if name not in self.hosts:
            raise Refused(f"Host {name} not found.", missing=True)
        return self.hosts[name]

    def status(self, _):
        return "Aquilon Broker v1"

    def find_machine(self, query):
        found = [n for n, m in self.machines.items() if m["serial"] == query["serial"]]
        return "".join(f"{name}\n" for name in found)

    def find_host(self, query):
        found = [n for n, h in self.hosts.items() if h["machine"] == query["machine"]]
        return "".join(f"{name}\n" for name in found)

    def show_host(self, name, _):
        host = self.need_host(name)
        return (
            f"Primary Name: {name} [{host['ip']}]\nMachine: {host['machine']}\n"
            f"  Model Type: virtual_machine\n  Personality: {host['personality']}\n"
        )

    def show_machine(self, name, _):
        machine = self.need_machine(name)
        text = f"Machine: {name}\n  Serial: {machine['serial']}\n"
        for interface, values in machine["interfaces"].items():
            text += f"  Interface: {interface} {values['mac']} [boot]\n"
            if values.get("ip"):
                text += f"    Provides: some.name [{values['ip']}]\n"
        return text

    def add_machine(self, prefix, query):
        name = f"{prefix}{self.next_number}"
        self.next_number += 1
        if any(m["serial"] == query["serial"] for m in self.machines.values()):
            self.violations.append(f"a second machine with serial {query['serial']}")
        self.machines[name] = {**query, "interfaces": {}}
        return f"{name}\n"

    def add_interface(self, machine, interface, query):
        interfaces = self.need_machine(machine)["interfaces"]
        if interface in interfaces:
            raise Refused(f"Interface {interface} of {machine} already exists.")
        interfaces[interface] = {"mac": query["mac"]}

    def set_interface(self, machine, interface, query):
        interfaces = self.need_machine(machine)["interfaces"]
        if interface not in interfaces:
            raise Refused(f"Interface {interface} not found.", missing=True)
        interfaces[interface].update(query)

    def add_host(self, name, query):
        machine = self.need_machine(query["machine"])
        for key in ("archetype", "personality", "osname", "osversion", "ip"):
            query[key]
        if ("domain" in query) == ("sandbox" in query):
            raise Refused("Please give exactly one of domain and sandbox.")
        if query["personality"].startswith("unknown"):
            raise Refused(f"Personality {query['personality']} not found.", missing=True)
        if name in self.hosts:
            raise Refused(f"Host {name} already exists.")
        if self.find_host({"machine": query["machine"]}):
            raise Refused(f"Machine {query['machine']} has a host already.")
        if "boot" not in machine["interfaces"].get("eth0", {}):
            raise Refused(f"Machine {query['machine']} has no boot interface.")
        for other, record in self.machines.items():
            if any(i.get("ip") == query["ip"] for i in record["interfaces"].values()):
                raise Refused(f"IP address {query['ip']} is in use by {other}.")
        machine["interfaces"]["eth0"]["ip"] = query["ip"]
        self.hosts[name] = {**query, "made": 0}

    def make(self, name, _):
        self.need_host(name)["made"] += 1
        self.on_make(name)
        return "1/1 template(s) compiled"

    def delete_host(self, name, _):
        self.need_host(name)
        del self.hosts[name]

    def delete_address(self, query):
        interfaces = self.need_machine(query["machine"])["interfaces"]
        interface = interfaces.get(query["interface"], {})
        if interface.get("ip") != query["ip"]:
            raise Refused(f"{query['ip']} not found.", missing=True)
        if self.find_host({"machine": query["machine"]}):
            raise Refused("the host must be deleted first")
        del interface["ip"]

    def delete_interface(self, query):
        interfaces = self.need_machine(query["machine"])["interfaces"]
        if query["interface"] not in interfaces:
            raise Refused(f"Interface {query['interface']} not found.", missing=True)
        if interfaces[query["interface"]].get("ip"):
            raise Refused("the address must be deleted first")
        del interfaces[query["interface"]]

    def delete_machine(self, name, _):
        if self.need_machine(name)["interfaces"] or self.find_host({"machine": name}):
            raise Refused(f"Machine {name} is still in use.")
        del self.machines[name]

    # ---- for the tests -----------------------------------------------------------------------

    def put(self, host, machine, serial, ip, mac="fa:16:3e:00:00:01"):
        """An old record."""
        self.machines[machine] = {
            "serial": serial,
            "interfaces": {"eth0": {"mac": mac, "boot": "", "ip": ip}},
        }
        if host:
            self.hosts[host] = {"machine": machine, "ip": ip, "personality": "old", "made": 1}

    def machine_of(self, server):
        names = [name for name, m in self.machines.items() if m["serial"] == server]
        assert len(names) <= 1, names
        return names[0] if names else None

    def host_of(self, server):
        machine = self.machine_of(server)
        names = [name for name, host in self.hosts.items() if host["machine"] == machine]
        return names[0] if machine and names else None


NAME = r"([^/]+)"
ROUTES = [
    ("GET", r"/status/server", Broker.status),
    ("GET", r"/find/machine", Broker.find_machine),
    ("GET", r"/find/host", Broker.find_host),
    ("GET", rf"/host/{NAME}", Broker.show_host),
    ("GET", rf"/machine/{NAME}", Broker.show_machine),
    ("PUT", rf"/next_machine/{NAME}", Broker.add_machine),
    ("PUT", rf"/machine/{NAME}/interface/{NAME}", Broker.add_interface),
    ("POST", rf"/machine/{NAME}/interface/{NAME}", Broker.set_interface),
    ("PUT", rf"/host/{NAME}", Broker.add_host),
    ("POST", rf"/host/{NAME}/command/make", Broker.make),
    ("DELETE", rf"/host/{NAME}", Broker.delete_host),
    ("DELETE", r"/interface_address", Broker.delete_address),
    ("POST", r"/interface/command/del", Broker.delete_interface),
    ("DELETE", rf"/machine/{NAME}", Broker.delete_machine),
]


# ---- a name server ---------------------------------------------------------------------------


class NameServer:
    """Answers for PTR records over UDP: names is address -> name."""

    def __init__(self):
        self.names, self.asked = {}, []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            question = query[12 : at + 5]
            address = ".".join(reversed(labels[:4]))
            self.asked.append(address)
            name = self.names.get(address)
            answer = b""
            if name:
                data = b"".join(struct.pack("B", len(p)) + p.encode() for p in name.split(".")) + b"\0"
                answer = b"\xc0\x0c" + struct.pack(">HHIH", 12, 1, 60, len(data)) + data
            flags = 0x8180 if name else 0x8183
            header = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if name else 0, 0, 0)
            self._socket.sendto(header + question + answer, peer)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


# ---- notifications ---------------------------------------------------------------------------

AQ = {
    "AQ_ARCHETYPE": "cloud",
    "AQ_DOMAIN": "prod",
    "AQ_PERSONALITY": "nubesvms",
    "AQ_OS": "rocky",
    "AQ_OSVERSION": "8x-x86_64",
}


def inner(event, server, metadata=None, image=None, address="10.77.0.5", network="Internal", **values):
    """As Nova Zed sends it; the members that we do not read are left to the captured samples."""
    payload = {
        "instance_id": server,
        "display_name": f"name of {server[:8]}",
        "hostname": f"name-of-{server[:8]}",
        "host": "hv1",
        "node": "hv1.example.org",
        "memory_mb": 2048,
        "vcpus": 2,
        "metadata": AQ if metadata is None else metadata,
        "image_meta": {"base_image_ref": "46be2038", "min_ram": "0", **(image or {})},
        "state": "active",
    }
    if event.endswith("create.end"):
        mac = "fa:16:3e:" + ":".join(f"{b:02x}" for b in uuid.UUID(server).bytes[:3])
        payload["fixed_ips"] = [
            {"address": address, "type": "fixed", "version": 4, "meta": {}, "floating_ips": [],
             "label": network, "vif_mac": mac}
        ]  # fmt: skip
    payload.update(values)
    return {
        "message_id": str(uuid.uuid4()),
        "publisher_id": "compute.hv1",
        "event_type": event,
        "priority": "INFO",
        "payload": payload,
        "timestamp": "2026-11-23 07:29:31.751202",
        "_unique_id": uuid.uuid4().hex,
        "_context_project_name": "images",
        "_context_auth_token": "gAAAAA-a-token-that-must-not-leak",
    }


def envelope(document):
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(document)})


def created(server, **values):
    return envelope(inner("compute.instance.create.end", server, **values))


def deleted(server, **values):
    return envelope(inner("compute.instance.delete.start", server, **values))


class Publisher:
    """As oslo.messaging's Rabbit driver does (kombu's properties, both declarations, not durable),
    over one connection."""

    def __init__(self, vhost, queue=QUEUE, exchange=EXCHANGE, declare=True):
        self.queue, self.exchange = queue, exchange
        self._connection = pika.BlockingConnection(vhost.node.parameters(vhost.name))
        self.channel = self._connection.channel()
        if declare:
            self.channel.exchange_declare(exchange, "topic", durable=False, auto_delete=False)
            self.channel.queue_declare(queue, durable=False, auto_delete=False)
            self.channel.queue_bind(queue, exchange, queue)

    def send(self, body):
        properties = pika.BasicProperties(
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            priority=0,
            headers={},
        )
        body = body if isinstance(body, bytes) else body.encode()
        self.channel.basic_publish(self.exchange, self.queue, body, properties)

    def close(self):
        self._connection.close()
