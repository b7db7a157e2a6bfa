#!/usr/bin/env python3
"""Configurations of Exchange and Postfix, written here as those programs write theirs: what is made of them
passes `check`, demands no less TLS, opens no relay, and lists what has no meaning here."""
import json
import re
import subprocess
import sys

from posthaste import BUILD, Directory

SEND = [
    {   # as a remote session shows it: enumerations and sizes are texts
        "Name": "Contoso", "Identity": "Contoso", "Enabled": True, "AddressSpaces": ["smtp:contoso.com;1", "smtp:*.contoso.com;5"],
        "DNSRoutingEnabled": True, "SmartHosts": [], "Port": 25, "RequireTLS": True, "IgnoreSTARTTLS": False,
        "TlsAuthLevel": "DomainValidation", "TlsDomain": "*.contoso.com", "Fqdn": None, "ForceHELO": False,
        "MaxMessageSize": "35 MB (36,700,160 bytes)", "SmtpMaxMessagesPerConnection": 20,
        "ConnectionInactivityTimeOut": "00:10:00", "SmartHostAuthMechanism": "None", "AuthenticationCredential": None,
        "SourceIPAddress": "0.0.0.0", "FrontendProxyEnabled": True, "CloudServicesMailEnabled": False,
        "SourceTransportServers": ["EX1"], "ProtocolLoggingLevel": "None", "UseExternalDNSServersEnabled": False,
        "Guid": "b0b5", "WhenChanged": "2026-01-01", "NativeTransportThing": "x"},
    {   # as a local session shows it: objects
        "Name": "Relay", "Enabled": True, "DNSRoutingEnabled": False,
        "AddressSpaces": [{"Type": "smtp", "Address": "*", "Domain": "*", "Cost": 1, "IncludeSubDomains": False},
                          {"Type": "X400", "Address": "c=us", "Domain": "c=us", "Cost": 1}],
        "SmartHosts": [{"Domain": "relay.example.net", "IsIPAddress": False, "Address": None},
                       {"Domain": None, "IsIPAddress": True, "Address": {"IPAddressToString": "192.0.2.7"}}],
        "Port": 587, "RequireTLS": True, "SmartHostAuthMechanism": {"value": 2, "Value": "BasicAuth"},
        "AuthenticationCredential": {"UserName": "relay", "Password": {}}, "TlsAuthLevel": None, "TlsDomain": None,
        "MaxMessageSize": {"IsUnlimited": True}, "ConnectionInactivityTimeOut": {"TotalMilliseconds": 600000.0}},
    {   "Name": "Partner", "AddressSpaces": ["partner.example"], "DNSRoutingEnabled": True, "DomainSecureEnabled": True,
        "TlsCertificateName": "<I>CN=Issuing CA<S>CN=mail.example.net", "RequireTLS": False},
    {   "Name": "Old X400", "AddressSpaces": [{"Type": "X400", "Address": "c=us", "Cost": 1}], "DNSRoutingEnabled": False},
]
RECEIVE = [
    {   "Name": "Default Frontend", "Bindings": [{"Address": {"IPAddressToString": "0.0.0.0"}, "Port": 25},
                                                 {"Address": {"IPAddressToString": "::"}, "Port": 25}],
        "RemoteIPRanges": ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0-255.255.255.255"],
        "AuthMechanism": "Tls, Integrated, BasicAuth, BasicAuthRequireTLS, ExchangeServer",
        "PermissionGroups": "AnonymousUsers, ExchangeServers", "RequireTLS": False, "MaxRecipientsPerMessage": 5000,
        "MaxInboundConnection": "Unlimited", "TarpitInterval": "00:00:05", "EnableAuthGSSAPI": True},
    {   "Name": "Apps", "Bindings": ["10.0.0.1:2525"], "RequireTLS": True, "AuthMechanism": ["Tls"],
        "RemoteIPRanges": [{"Expression": "10.0.0.10-10.0.0.13"}, "10.1.0.0(255.255.0.0)", "10.2.0.0/16", "10.3.0.4"]},
]
TRANSPORT = {"TLSSendDomainSecureList": ["partner.example"], "TLSReceiveDomainSecureList": [{"Domain": "partner.example"}],
             "MaxSendSize": "25 MB (26,214,400 bytes)", "ShadowRedundancyEnabled": True}
SERVICE = {"MaxPerDomainOutboundConnections": 40, "MaxOutboundConnections": 1000, "MessageExpirationTimeout": "2.00:00:00",
           "DelayNotificationTimeout": "04:00:00", "TransientFailureRetryCount": 6, "QueueGlitchRetryCount": 4}


def run(*command):
    return subprocess.run([BUILD / "posthaste", *command], capture_output=True, text=True)


def effective(directory, text):
    path = directory.path / "made.conf"
    path.write_text(text)
    checked = run("check", "-c", path)
    assert checked.returncode == 0, checked.stderr
    lines = json.loads(run("config", "-c", path, "--json").stdout)
    return {line["key"]: line["value"] for line in lines}


def exchange(directory):
    files = [directory.path / name for name in ("send.json", "receive.json", "transport.json")]
    files[0].write_bytes(b"\xef\xbb\xbf" + json.dumps(SEND).encode())
    files[1].write_text(json.dumps({"ReceiveConnector": RECEIVE}))
    files[2].write_text(json.dumps([TRANSPORT, SERVICE]))
    done = run("import", "exchange", *files)
    assert done.returncode == 0, done
    made = effective(directory, done.stdout)

    def send(name, key):
        return made[f'SendConnector "{name}".{key}']
    assert send("Contoso", "AddressSpaces") == "contoso.com;1, *.contoso.com;5" or \
        send("Contoso", "AddressSpaces") == "smtp:contoso.com;1, smtp:*.contoso.com;5"
    assert send("Contoso", "RequireTLS") == "true" and send("Contoso", "TlsAuthLevel") == "DomainValidation"
    assert send("Contoso", "TlsDomain") == "*.contoso.com" and send("Contoso", "SmtpMaxMessagesPerConnection") == "20"
    assert send("Relay", "SmartHosts") == "relay.example.net, 192.0.2.7" and send("Relay", "Port") == "587"
    assert send("Relay", "MaxMessageSize") == "unlimited" and send("Relay", "ConnectionInactivityTimeOut") == "600000ms"
    for waits in ("Relay", "Partner"): # what rests on a file is held, not sent without it
        assert send(waits, "Enabled") == "false" and send(waits, "HoldWhenDisabled") == "true", waits
    assert "BasicAuth" in done.stdout and 'SendConnector "Old X400"' not in done.stdout
    assert made['ReceiveConnector "Default Frontend".RemoteIPRanges'] == "" # no open relay
    assert made['ReceiveConnector "Default Frontend".Bindings'] == "0.0.0.0:25, [::]:25"
    assert made['ReceiveConnector "Default Frontend".AuthMechanism'] == "Tls, BasicAuth, BasicAuthRequireTLS"
    assert made['ReceiveConnector "Default Frontend".MaxRecipientsPerMessage'] == "1000"
    assert made['ReceiveConnector "Apps".RemoteIPRanges'] == \
        "10.0.0.10/31, 10.0.0.12/31, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.4/32"
    assert made['ReceiveConnector "Apps".Enabled'] == "false"
    assert made["TransportConfig.TLSSendDomainSecureList"] == "partner.example"
    assert made["TransportConfig.TLSReceiveDomainSecureList"] == "partner.example"
    assert made["TransportConfig.MaxPerDomainOutboundConnections"] == "40"
    assert made["Queue.MessageExpirationTimeout"] == "2.00:00:00"
    for noted in ("NativeTransportThing", "X400", "FrontendProxyEnabled = true has no effect", "would let everybody relay",
                  "Integrated has no meaning", "MaxSendSize, ShadowRedundancyEnabled", "SourceTransportServers = EX1"):
        assert noted in done.stderr and f"# note: " in done.stdout, (noted, done.stderr)
    assert "Guid" not in done.stderr and "Password" not in done.stdout

    files[0].write_text(json.dumps([{**SEND[0], "TlsAuthLevel": 3}])) # a number says nothing: never guessed
    done = run("import", "exchange", files[0])
    assert done.returncode == 66 and "EnumsAsStrings" in done.stderr and not done.stdout, done
    files[0].write_text("{")
    assert run("import", "exchange", files[0]).returncode == 66
    files[0].write_text("[]")
    assert run("import", "exchange", files[0]).returncode == 66


MAIN = """# a bulk sender
myhostname = out1.example.net
smtp_helo_name = $myhostname
relayhost = %s
smtp_tls_security_level = %s
smtp_tls_policy_maps = %s
maximal_queue_lifetime = 2
delay_warning_time = 0h
smtp_connect_timeout = 30
message_size_limit = 0
mynetworks = 127.0.0.0/8,
    [::1]/128
"""
POLICY = """contoso.com       secure match=.contoso.com:mx1.contoso.com ciphers=high
fabrikam.example  encrypt protocols=>=TLSv1.3
.sub.example      verify
dane.example      dane-only
plain.example     none
pinned.example    fingerprint
    match=3D:95:34:51:24:66:33:B9:D2:40:99:C0:C1:17:0B:D1:3D:95:34:51:24:66:33:B9:D2:40:99:C0:C1:17:0B:D1
md5.example       fingerprint match=3D:95:34:51:24:66:33:B9:D2:40:99:C0:C1:17:0B:D1
odd.example       paranoid
"""
LEVELS = {"contoso.com": {"RequireTLS": "true", "TlsAuthLevel": "DomainValidation", "TlsDomain": "*.contoso.com, mx1.contoso.com"},
          "fabrikam.example": {"RequireTLS": "true", "TlsAuthLevel": "None", "TlsMinVersion": "TLS1.3"},
          ".sub.example": {"TlsAuthLevel": "DomainValidation", "TlsNameSource": "host", "AddressSpaces": "*.sub.example"},
          "dane.example": {"RequireTLS": "true", "SmtpDaneMode": "Mandatory"},
          "plain.example": {"IgnoreSTARTTLS": "true"},
          "pinned.example": {"RequireTLS": "true", "TlsPins": "3D953451246633B9D24099C0C1170BD1" * 2},
          "md5.example": {"Enabled": "false", "HoldWhenDisabled": "true"},
          "odd.example": {"Enabled": "false", "HoldWhenDisabled": "true"}}


def postfix(directory):
    main, policy = directory.path / "main.cf", directory.path / "tls_policy"
    policy.write_text(POLICY)
    main.write_text(MAIN % ("", "may", "hash:tls_policy"))
    done = run("import", "postfix", main)
    assert done.returncode == 0, done
    made = effective(directory, done.stdout)
    for name, keys in LEVELS.items():
        for key, value in keys.items():
            assert made[f'SendConnector "tls {name}".{key}'] == value, (name, key, made[f'SendConnector "tls {name}".{key}'])
    assert made["Hostname"] == "out1.example.net" == made['SendConnector "internet".Fqdn']
    assert made['SendConnector "internet".MaxMessageSize'] == "unlimited"
    assert made['SendConnector "internet".RequireTLS'] == "false"
    assert made["Queue.MessageExpirationTimeout"] == "2d" and made["Queue.ExternalDelayDsnEnabled"] == "false"
    assert "not taken over: mynetworks" in done.stderr and "ciphers has no meaning" in done.stderr

    policy.write_text("[relay.example.net]:587 secure\nother.example none\n")
    main.write_text(MAIN % ("[relay.example.net]:587", "may", f"texthash:{policy}") +
                    "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/etc/postfix/sasl\n")
    done = run("import", "postfix", main)
    made = effective(directory, done.stdout)
    relay = {key.split(".", 1)[1]: value for key, value in made.items() if key.startswith('SendConnector "relayhost"')}
    assert relay["SmartHosts"] == "[relay.example.net]" and relay["Port"] == "587" and relay["Enabled"] == "false"
    assert relay["TlsDomain"] == "relay.example.net, *.relay.example.net" and relay["TlsAuthLevel"] == "DomainValidation"
    assert "other.example is left out" in done.stderr and not re.search('SendConnector "tls', done.stdout)

    main.write_text(MAIN % ("", "secure", "hash:/nowhere/tls_policy"))
    done = run("import", "postfix", main)
    assert done.returncode == 1 and "its policies are missing here" in done.stderr # demands could be lost: said so
    assert effective(directory, done.stdout)['SendConnector "internet".TlsAuthLevel'] == "DomainValidation"
    assert run("import", "postfix", directory.path / "none.cf").returncode == 66
    assert run("import", "sendmail", main).returncode == 64


def main():
    with Directory() as directory:
        exchange(directory)
        postfix(directory)
    print(f"import: {len(SEND)} send and {len(RECEIVE)} receive connectors, {len(LEVELS)} TLS policies of Postfix")
    return 0


sys.exit(main())
