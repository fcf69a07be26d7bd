"""The DNS of a cluster, as far as a worker needs it: the addresses of Services, by their names. No other name exists.
It asks the API server about each name, with the token of an administrator.

    python -m tests.kube.dns ADDRESS API_URL TOKEN
"""

import json
import re
import socket
import ssl
import struct
import sys
import urllib.request

NAME = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc\.cluster\.local$")
A, IN, NO_SUCH_NAME, LIFE_S = 1, 1, 3, 1


def question(packet):
    """(name, type, bytes of the question) of a query for one name."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("ascii"))
        at += 1 + packet[at]
    return ".".join(labels).lower(), struct.unpack_from("!H", packet, at + 1)[0], packet[12:at + 5]


def answer(packet, address_of):
    """The answer to the query ``packet``. ``address_of``: the IPv4 address of a name, or None."""
    name, kind, asked = question(packet)
    address = address_of(name)
    records = struct.pack("!HHHLH", 0xC00C, A, IN, LIFE_S, 4) + socket.inet_aton(address) if (
        address and kind == A) else b""
    flags = 0x8580 | (0 if address else NO_SUCH_NAME)
    return packet[:2] + struct.pack("!HHHHH", flags, 1, bool(records), 0, 0) + asked + records


def service(api, token):
    """A function: the address of the Service with this name, or None."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    def address_of(name):
        match = NAME.match(name)
        if not match:
            return None
        url = "%s/api/v1/namespaces/%s/services/%s" % (api, match.group(2), match.group(1))
        request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=5) as reply:
                return json.load(reply)["spec"].get("clusterIP")
        except OSError:
            return None
    return address_of


def main(address, api, token):
    """Answers until it is killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        address_of = service(api, token)
        while True:
            packet, client = server.recvfrom(512)
            try:
                server.sendto(answer(packet, address_of), client)
            except (IndexError, UnicodeDecodeError, struct.error):      # no query
                continue


if __name__ == "__main__":
    main(*sys.argv[1:])
