"""What the program is given to talk to: a name server and an API server, both of this process and on the loopback
addresses only."""

import json
import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class NameServer:
    """Answers questions for one name's IPv4 address; knows no other name. The port is the one that resolvers ask."""

    def __init__(self, address, name, answer):
        self._name = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            query, client = self._socket.recvfrom(512)
            name = query[12 : query.index(b"\0", 12) + 1]
            question = query[12 : 12 + len(name) + 4]
            (kind,) = struct.unpack("!H", question[-4:-2])
            known = name.lower() == self._name
            answers = b""
            if known and kind == 1:
                # The name is the question's; type A, class IN, a minute, four bytes.
                answers = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(self._answer)
            # Recursion is offered; code 3 is that there is no such name.
            header = query[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, bool(answers), 0, 0)
            self._socket.sendto(header + question + answers, client)


class ApiServer:
    """Refuses everything with a Status, and notes which host it was asked as."""

    MESSAGE = "the stand-in was reached"

    def __init__(self, certificate, key):
        asked = self.asked = []

        class Refusal(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self):
                """Every verb that reads."""
                asked.append(self.headers["Host"].partition(":")[0])
                status = {
                    "apiVersion": "v1",
                    "kind": "Status",
                    "status": "Failure",
                    "message": ApiServer.MESSAGE,
                    "reason": "Forbidden",
                    "code": 403,
                }
                body = json.dumps(status).encode()
                self.send_response(403)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Says nothing."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
