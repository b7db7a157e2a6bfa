"""https://mta-sts.DOMAIN/.well-known/mta-sts.txt for the rows that publish an MTA-STS policy."""
import http.server
import ssl
import threading


class PolicyHost:
    def __init__(self, address, certificate, policies):
        """`policies`: domain → its text."""
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = policies.get(self.headers["Host"].split(":")[0].removeprefix("mta-sts."))
                self.send_response(200 if text and self.path == "/.well-known/mta-sts.txt" else 404)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text or "")))
                self.end_headers()
                self.wfile.write((text or "").encode())

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer((address, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
