"""A stand-in for upstream's scanner, to compare with: its algorithm, written anew.

    upstream.py INDEX-URL PROFILE-URL CACHE-FOLDER HOST PORT VHOST USER PASSWORD QUEUE

The whole index is read and held against the whole index of last time, line by line, each line
searched in the old text; what is new is fetched, one profile after the other, over a connection
each; a profile counts as changed when one of its lines is not in its old text; each is published by
itself, without confirm.
"""

import sys
import urllib.request
from pathlib import Path
from xml.etree import ElementTree


def fetch(url):
    with urllib.request.urlopen(url) as reply:
        return reply.read().decode()


def new_lines(text, cached_text):
    return [line for line in text.splitlines() if line not in cached_text]


def connect(host, port, vhost, user, password, queue):
    import pika

    login = pika.PlainCredentials(user, password)
    connection = pika.BlockingConnection(pika.ConnectionParameters(host, int(port), vhost, login))
    channel = connection.channel()
    channel.queue_declare(queue=queue, durable=True)
    persistent = pika.BasicProperties(delivery_mode=2)

    def publish(body):
        channel.basic_publish(exchange="", routing_key=queue, body=body, properties=persistent)

    return connection, publish


def main():
    index_url, profile_url, cache_folder, *queue = sys.argv[1:]
    cache = Path(cache_folder)
    index_cache = cache / "profiles-info.xml"
    index = fetch(index_url)
    if not index_cache.exists():
        index_cache.write_text(index)
        return
    changed = new_lines(index, index_cache.read_text())
    connection, publish = connect(*queue)
    for line in changed:
        if not line.startswith("<profile "):
            continue
        name = ElementTree.fromstring(line).text
        profile = fetch(f"{profile_url}/{name}")
        profile_cache = cache / name
        if not profile_cache.exists() or new_lines(profile, profile_cache.read_text()):
            publish(profile)
        profile_cache.write_text(profile)
    connection.close()
    index_cache.write_text(index)


if __name__ == "__main__":
    main()
