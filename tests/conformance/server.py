"""Scripted SMTP servers on many loopback addresses; every line that was received is kept."""
import selectors
import socket
import threading

from OpenSSL import SSL

HANDSHAKE_ALERT = b"\x15\x03\x01\x00\x02\x02\x28"


class Session:
    """What one connection saw."""

    def __init__(self):
        self.clear = []  # lines before TLS
        self.tls = []  # and inside it
        self.messages = 0
        self.handshake = None  # None: not tried; True; or what was wrong
        self.peer = None  # the client's certificate
        self.ahead = False  # commands came before the reply to the one before them
        self.bodies = []

    def said(self, verb):
        return [line for line in self.clear + self.tls if line.upper().startswith(verb)]


class Host:
    """One address and its script: see table.txt for the words."""

    def __init__(self, address, script, certificate=None, staple=None):
        self.address = address
        self.script = script
        self.certificate = certificate
        self.staple = staple
        self.sessions = []
        self.lock = threading.Lock()

    def context(self):
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        if self.script.get("tls") == "anonymous":
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_cipher_list(b"AECDH-AES256-SHA:@SECLEVEL=0")
            return context
        if self.script.get("tls") == "1.0":
            context.set_max_proto_version(SSL.TLS1_VERSION)
            context.set_min_proto_version(SSL.TLS1_VERSION)
            context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        elif self.script.get("tls") == "1.2":
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
        if self.script.get("cert") == "weak":
            context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        from OpenSSL import crypto
        first, *rest = self.certificate.chain
        context.use_certificate(crypto.X509.from_cryptography(first))
        for certificate in rest:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(certificate))
        context.use_privatekey(crypto.PKey.from_cryptography_key(self.certificate.key))
        client = self.script.get("client")
        if client:
            mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if client == "require" else 0)
            context.set_verify(mode, lambda *unused: True)
            context.set_session_id(b"conformance")
        if self.staple:
            context.set_ocsp_server_callback(lambda *unused: self.staple)
        return context


class Conversation:
    def __init__(self, host, raw):
        self.host = host
        self.script = host.script
        self.raw = raw
        self.connection = raw
        self.buffer = b""
        self.session = Session()
        with host.lock:
            host.sessions.append(self.session)
        self.secure = False

    def send(self, text):
        self.connection.sendall(text if isinstance(text, bytes) else text.encode())

    def line(self):
        while b"\n" not in self.buffer:
            data = self.connection.recv(65536)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        (self.session.tls if self.secure else self.session.clear).append(text)
        return text

    def until_closed(self):
        while self.raw.recv(65536):
            pass

    def run(self):
        if self.script.get("greeting") == "421":
            self.send("421 4.3.2 not now\r\n")
            return
        self.send("220 host ESMTP\r\n")
        while True:
            line = self.line()
            if line is None:
                return
            verb = line.split(" ")[0].upper()
            self.session.ahead |= bool(self.buffer)
            if verb == "QUIT":
                self.send("221 2.0.0 bye\r\n")
                return
            if not self.obey(verb):
                return

    def obey(self, verb):
        if verb in ("EHLO", "HELO"):
            return self.hello(verb)
        if verb == "STARTTLS":
            return self.starttls()
        if verb == "AUTH":
            self.send("334 \r\n")
            if self.line() is None:
                return False
            self.send("235 2.7.0 ok\r\n")
        elif verb == "RCPT" and "rcpt" in self.script:
            self.send(f"{self.script['rcpt']} 5.1.1 no such user\r\n")
        elif verb == "DATA" and "rcpt" in self.script:
            self.send("554 5.5.1 no valid recipients\r\n")
        elif verb == "DATA":
            self.send("354 go\r\n")
            return self.data()
        else:
            self.send("250 2.0.0 ok\r\n")
        return True

    def hello(self, verb):
        answer = self.script.get("ehlo")
        if verb == "EHLO" and answer and answer.isdigit():
            self.send(f"{answer} 5.5.1 not implemented\r\n" if answer[0] == "5" else f"{answer} 4.3.2 later\r\n")
            return answer != "421"
        if verb == "HELO":
            self.send("250 host\r\n")
            return True
        offered = self.script.get("starttls") != "none" and not self.secure
        words = ["host", "8BITMIME", "SMTPUTF8", "PIPELINING", "SIZE 104857600", "DSN"]
        if self.secure and answer == "bare-second":
            words = ["host", "8BITMIME"]
        if "auth" in self.script and not (self.secure and answer == "bare-second"):
            words.append("AUTH PLAIN")
        if offered and self.script.get("starttls") == "first-line":
            words[0] = "STARTTLS"
        elif offered:
            words.append("starttls" if self.script.get("starttls") == "lower-case" else "STARTTLS")
        last = len(words) - 1
        self.send("".join(f"250{' ' if i == last else '-'}{word}\r\n" for i, word in enumerate(words)))
        return True

    def starttls(self):
        how = self.script.get("starttls", "good")
        if how.isdigit():
            self.send(f"{how} {how[0]}.7.0 no TLS now\r\n")
            return True
        if how == "garbled":
            self.send(b"\x00\xff go ahead\r\n")
            return True
        if how == "inject":
            self.send("220 2.0.0 go\r\n250 2.0.0 injected\r\n")
            self.until_closed()
            return False
        self.send("220-2.0.0 go\r\n220 2.0.0 ahead\r\n" if how == "lower-case" else "220 2.0.0 go\r\n")
        if how == "close":
            return False
        if how == "stall":
            self.until_closed()
            return False
        if how == "alert":
            self.raw.recv(65536)
            self.send(HANDSHAKE_ALERT)
            self.until_closed()
            return False
        return self.handshake()

    def handshake(self):
        connection = SSL.Connection(self.host.context(), self.raw)
        connection.set_accept_state()
        try:
            connection.do_handshake()
        except SSL.Error as error:
            self.session.handshake = repr(error)
            return False
        self.session.handshake = True
        self.session.peer = connection.get_peer_certificate()
        self.connection = connection
        self.secure = True
        self.buffer = b""
        return True

    def data(self):
        while b"\r\n.\r\n" not in self.buffer:
            data = self.connection.recv(65536)
            if not data:
                return False
            self.buffer += data
        body, self.buffer = self.buffer.split(b"\r\n.\r\n", 1)
        self.session.bodies.append(body)
        self.session.messages += 1
        self.send("250 2.0.0 taken\r\n")
        if "single" in self.script:
            self.line()
            self.send("221 2.0.0 bye\r\n")
            return False
        return True


class Servers:
    """Listens for all hosts; a thread each connection."""

    def __init__(self, hosts, port):
        self.selector = selectors.DefaultSelector()
        for host in hosts:
            if "refuse" in host.script:
                continue
            listening = socket.create_server((host.address, port), backlog=64)
            listening.setblocking(False)
            self.selector.register(listening, selectors.EVENT_READ, host)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            for key, _ in self.selector.select():
                raw, _ = key.fileobj.accept()
                raw.setblocking(True)
                threading.Thread(target=self.serve, args=(key.data, raw), daemon=True).start()

    @staticmethod
    def serve(host, raw):
        conversation = Conversation(host, raw)
        try:
            conversation.run()
        except (OSError, SSL.Error):
            pass
        finally:
            try:
                if conversation.secure:
                    conversation.connection.shutdown()
                raw.close()
            except (OSError, SSL.Error):
                pass
