"""An OPC UA server by other hands (asyncua), for the interop tests.

    asyncua_server.py PORT SECURITY [USER PASSWORD] [--count N] [--pki DIR]

SECURITY is none or basic256sha256; both anonymous unless a user is given, then only that user gets in.
Prints READY when it listens. Variables, in namespace urn:enos-edge:peer (index 2):

    Machine.Var000 ...  Double, Int32, Boolean, String in turn; at tick t variable n is
                        n*1e6+t, n*1000000+t, (n+t) even, "Var<n>:<t>"; t is the source time in
                        milliseconds divided by 100, modulo a million
    Machine.Set0 - 3    the same four types, writable
    Machine.Array       an array of Int32, Machine.Text a LocalizedText, Machine.Time a DateTime,
    Machine.Bad         a Double with status BadSensorFailure, Machine.Unsure with UncertainLastUsableValue
"""

import argparse
import asyncio
import datetime
import os
import socket
import tempfile
import time

from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.server.user_managers import UserManager
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from cryptography.x509.oid import ExtendedKeyUsageOID

PERIOD_MS = 100
TYPES = [ua.VariantType.Double, ua.VariantType.Int32, ua.VariantType.Boolean, ua.VariantType.String]


def value(n, t):
    kind = n % 4
    if kind == 0:
        return float(n % 1000 * 1_000_000 + t)
    if kind == 1:
        return n % 1000 * 1_000_000 + t
    if kind == 2:
        return (n % 1000 + t) % 2 == 0
    return f"Var{n:03}:{t}"


class OneUser(UserManager):
    def __init__(self, user, password):
        self.user, self.password = user, password

    def get_user(self, iserver, username=None, password=None, certificate=None):
        if isinstance(password, bytes):
            password = password.decode()
        if self.user is None or (username == self.user and password == self.password):
            return User(role=UserRole.User)
        return None


def data(n, kind):
    ms = time.time_ns() // 1_000_000 // PERIOD_MS * PERIOD_MS
    stamp = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
    return ua.DataValue(
        Value=ua.Variant(value(n, ms // PERIOD_MS % 1_000_000), kind),
        SourceTimestamp=stamp,
        ServerTimestamp=stamp,
    )


async def secure(server, folder):
    uri = "urn:enos-edge:peer:server"
    await server.set_application_uri(uri)
    certificate, key = os.path.join(folder, "server.der"), os.path.join(folder, "server.pem")
    from pathlib import Path

    await setup_self_signed_certificate(
        Path(key), Path(certificate), uri, socket.gethostname(), [ExtendedKeyUsageOID.SERVER_AUTH], {}
    )
    await server.load_certificate(certificate)
    await server.load_private_key(key)
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt], SimpleRoleRuleset())


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("security", choices=["none", "basic256sha256"])
    parser.add_argument("user", nargs="?")
    parser.add_argument("password", nargs="?")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--pki", help="folder for the server's key and server.der")
    options = parser.parse_args()

    server = Server(user_manager=OneUser(options.user, options.password))
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{options.port}/peer")
    if options.security == "none":
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    else:
        await secure(server, options.pki or tempfile.mkdtemp())
    server.set_identity_tokens([ua.UserNameIdentityToken if options.user else ua.AnonymousIdentityToken])

    space = await server.register_namespace("urn:enos-edge:peer")
    folder = await server.nodes.objects.add_object(space, "Machine")

    def node(name):
        return ua.NodeId(f"Machine.{name}", space)

    moving = []
    for n in range(options.count):
        kind = TYPES[n % 4]
        moving.append(await folder.add_variable(node(f"Var{n:03}"), f"Var{n:03}", value(n, 0), kind))
    for n, kind in enumerate(TYPES):
        await (await folder.add_variable(node(f"Set{n}"), f"Set{n}", value(n, 0), kind)).set_writable()
    await folder.add_variable(node("Array"), "Array", [1, 2, 3], ua.VariantType.Int32)
    await folder.add_variable(node("Text"), "Text", ua.LocalizedText("läuft"))
    await folder.add_variable(node("Time"), "Time", datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.timezone.utc))
    bad = await folder.add_variable(node("Bad"), "Bad", 1.0)
    await bad.write_value(ua.DataValue(ua.Variant(1.0), ua.StatusCode(ua.StatusCodes.BadSensorFailure)))
    unsure = await folder.add_variable(node("Unsure"), "Unsure", 1.0)
    unsure_code = ua.StatusCode(ua.StatusCodes.UncertainLastUsableValue)
    await unsure.write_value(ua.DataValue(ua.Variant(1.0), unsure_code))

    async with server:
        print("READY", flush=True)
        while True:
            for n, variable in enumerate(moving):
                await server.write_attribute_value(variable.nodeid, data(n, TYPES[n % 4]))
            await asyncio.sleep(PERIOD_MS / 1000)


if __name__ == "__main__":
    asyncio.run(main())
