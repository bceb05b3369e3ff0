"""Tries to get past the proxy, one attempt a line: `ok NAME` where the outcome is the safe one."""
import os, socket, struct, threading, time

PROXY = ("127.0.0.1", 3128)
# Where the network stack is the sandbox's own there is the proxy and nothing else.
ALONE = "OWN_STACK" in os.environ


def report(name, good, said=""):
    print(("ok " if good else "WRONG ") + f"{name} {said!r}"[:160], flush=True)


def talk(data, close=False, port=3128):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(data)
        if close:
            s.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while chunk := s.recv(4096):
                got += chunk
        except OSError:
            pass
        return got


def connect(target):
    return talk(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n", close=True)


def refused(name, answer, codes=(b"403", b"400", b"431")):
    report(name, answer[9:12] in codes, answer[:60])


# N01: a host that no rule names, as tunnel and as a plain request.
refused("N01", connect(b"evil.test:443"), (b"403",))
refused("N01", talk(b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"), (b"403",))
answer = connect(b"evil.test:443")
# N23: why, and how to ask; no address, no list.
report("N23", b"x-deny-reason: not_allowed" in answer and b"can allow it" in answer, answer[-80:])
report("N23", b"93.184" not in answer and b"allowed.test" not in answer, answer[-80:])

# N05: bytes that end lines or names somewhere else.
for target in (b"api.allowed.test\0:443", b"evil.test\0.wild.test:443", b"api.allowed.test\t:443",
               b"api .allowed.test:443", b"\xff.wild.test:443"):
    refused("N05", connect(target))
# N06, N11, N12: escapes, users, fragments, queries.
for target in (b"evil.test%00.wild.test:443", b"evil.test%2e.wild.test:443", b"api.allowed.test@evil.test:443",
               b"evil.test?.wild.test:443", b"evil.test#.wild.test:443", b"evil.test/.wild.test:443",
               b"evil.test\\.wild.test:443"):
    refused("N06", connect(target))
for url in (b"http://api.allowed.test:80@evil.test/", b"http://evil.test#@api.allowed.test/",
            b"http://evil.test\\@api.allowed.test/", b"https://evil.test/", b"http://evil.test:80%2f@api.allowed.test/"):
    refused("N12", talk(b"GET " + url + b" HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n"))
# N08, N09: case, and names that only look alike.
for target in (b"EVIL.test:443", b"evilwild.test:443", b"api.allowed.test.evil.test:443", b"wild.test:443",
               b"xapi.allowed.test:443", b".wild.test:443", b"-.wild.test:443", b"a..wild.test:443"):
    refused("N09", connect(target))
# N13, R07: addresses, in all their spellings.
for target in (b"[::ffff:1.2.3.4%x.wild.test]:443", b"[fe80::1%25x.wild.test]:443", b"127.1:443", b"2130706433:443",
               b"0177.0.0.1:443", b"0x7f.1:443", b"[::ffff:7f00:1]:443", b"93.184.216.66:443", b"[::1]:443",
               b"169.254.169.254:80", b"10.0.0.1:443", b"[2606:2800:220:1::66]:443", b"0.0.0.0:80", b"localhost:80"):
    refused("R07", connect(target))
# N14: ports.
for port in (b"443", b"08443", b"+8443", b"73979", b"8443:22", b"0", b"", b"-1", b"8443 "):
    refused("N14", connect(b"port.test:" + port))
refused("N14", connect(b"port.test"))
# N15: sizes.
for target in (b"a" * 64 + b".wild.test:443", b"a." * 255 + b"wild.test:443", b"a" * 70000 + b":443"):
    refused("N15", connect(target))
# N20 to N22.
refused("N20", talk(b"GET https://api.allowed.test/ HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n"))
refused("N22", talk(b"GET / HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n"))

# N19: who asks by way of a program in the sandbox asks the same question.
def relayed(data):
    relay = socket.create_server(("127.0.0.1", 0))

    def forward():
        near, _ = relay.accept()
        near.sendall(talk(near.recv(4096), close=True))
        near.close()

    threading.Thread(target=forward).start()
    return talk(data, port=relay.getsockname()[1])


refused("N19", relayed(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n"), (b"403",))
answer = relayed(b"GET http://api.allowed.test/relayed HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n")
report("C9", b"hello from plain" in answer, answer[:60])

# N04, N17, N18: SOCKS.
def socks(body, greeting=b"\5\1\0"):
    with socket.create_connection(PROXY, timeout=5) as s:
        s.sendall(greeting)
        answer = s.recv(2)
        if answer != b"\5\0":
            return answer
        s.sendall(body)
        return s.recv(10)


def by_name(name, port=443):
    return b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack(">H", port)


for name in (b"evil.test", b"evil.test\0.wild.test", b"evil.test\0", b"wild.test", b"a b.wild.test", b"127.1"):
    answer = socks(by_name(name))
    report("N04", answer[:2] == b"\5\2", answer)
report("N17", socks(b"\5\2\0\1\1\1\1\1\0\1")[:2] == b"\5\7")
report("N17", socks(b"\5\3\0\1\1\1\1\1\0\1")[:2] == b"\5\7")
report("N17", socks(b"", b"\5\1\2") == b"\5\xff")
report("N17", b"HTTP/1.1 200" not in talk(b"\4\1\1\xbb\1\1\1\1\0", close=True))
report("N18", socks(b"\5\1\0\1" + socket.inet_aton("93.184.216.34") + b"\1\xbb")[:2] == b"\5\2")
report("R07", socks(b"\5\1\0\1\x7f\0\0\1\0\x50")[:2] == b"\5\2")

# H01 to H07: framing.
for fields in (b"Content-Length: 1\r\nTransfer-Encoding: chunked", b"Content-Length: 1\r\nContent-Length: 2",
               b"Content-Length: +1", b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"X: a\r\n b",
               b"X: a\nY: b", b"X: a\0b", b"Host: evil.test"):
    answer = talk(b"POST http://api.allowed.test/smuggled HTTP/1.1\r\nHost: api.allowed.test\r\n" + fields + b"\r\n\r\nx")
    refused("H01", answer, (b"400", b"501"))
answer = talk(b"GET http://api.allowed.test/first HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n"
              b"GET http://evil.test/second HTTP/1.1\r\nHost: evil.test\r\n\r\n")
report("H05", answer.count(b"HTTP/1.1") == 1 and b"hello from plain" in answer, answer[:40])
with socket.create_connection(PROXY, timeout=5) as s:
    # A refusal is read to its end, also by who is still sending.
    s.sendall(b"POST http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 3000000\r\n\r\n")
    try:
        s.sendall(bytes(1000000))
    except OSError:
        pass
    got = b""
    try:
        while chunk := s.recv(4096):
            got += chunk
    except OSError:
        pass
    report("N23", b"was refused" in got, got[-60:])
answer = talk(b"GET http://api.allowed.test/up HTTP/1.1\r\nHost: api.allowed.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\n")
report("H04", answer.count(b"HTTP/1.1") == 1, answer[:40])
for head in () if ALONE else (b"Host: evil.test", b"Host: api.allowed.test:81"):
    s = socket.create_connection(("api.allowed.test", 80), timeout=5)
    s.sendall(b"GET / HTTP/1.1\r\n" + head + b"\r\n\r\n")
    refused("H07", s.recv(4096), (b"421",))

# H06: bodies where there rarely are any, and what stands behind a body that is empty.
answer = talk(b"GET http://api.allowed.test/body HTTP/1.1\r\nHost: api.allowed.test\r\nContent-Length: 5\r\n\r\nwords")
report("H06", b"hello from plain" in answer, answer[:40])
for fields in (b"Content-Length: 0", b"X: y"):
    answer = talk(b"POST http://api.allowed.test/empty HTTP/1.1\r\nHost: api.allowed.test\r\n" + fields + b"\r\n\r\nBEHIND")
    report("H06", answer.count(b"HTTP/1.1") == 1 and b"hello from plain" in answer, answer[:40])
# H08: heads without end, in fields, in bytes and in time.
for fields in (b"X: y\r\n" * 10000, b"X: " + b"y" * 1000000 + b"\r\n", b"X: y\r\n" * 101):
    with socket.create_connection(PROXY, timeout=5) as s:
        try:
            s.sendall(b"GET http://api.allowed.test/many HTTP/1.1\r\nHost: api.allowed.test\r\n" + fields + b"\r\n")
        except OSError:
            pass
        refused("H08", s.recv(4096), (b"431",))
with socket.create_connection(PROXY, timeout=20) as s:
    begun, got = time.monotonic(), b""
    s.settimeout(0.5)
    while not got and time.monotonic() - begun < 20:
        # A byte now and then keeps nobody waiting for longer.
        try:
            s.sendall(b"G")
            got = s.recv(4096)
        except TimeoutError:
            pass
        except OSError:
            break
    refused("H08", got, (b"408",))
    report("H08", time.monotonic() - begun < 15)

# T02 to T04, T12: what is sent over a tunnel that was allowed.
def hello(name, protocols=b""):
    extensions = b""
    if protocols:
        extensions = struct.pack(">HHH", 16, len(protocols) + 2, len(protocols)) + protocols
    if name is not None:
        entry = b"\0" + struct.pack(">H", len(name)) + name
        body = struct.pack(">H", len(entry)) + entry
        extensions += struct.pack(">HH", 0, len(body)) + body
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    shake = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack(">H", len(shake)) + shake


def over_tunnel(first, target=b"api.allowed.test:443"):
    with socket.create_connection(PROXY, timeout=15) as s:
        s.sendall(b"CONNECT " + target + b" HTTP/1.1\r\n\r\n")
        answer = s.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        s.sendall(first)
        s.shutdown(socket.SHUT_WR)
        return s.recv(4096)


for name, first in (("T02", hello(b"evil.test")), ("T03", hello(None)), ("T04", b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
                    ("T04", b"SSH-2.0-x\r\n"), ("T02", hello(b"api.allowed.test\0")),
                    ("T12", hello(b"api.allowed.test", b"\2h2\3dot")), ("T12", hello(b"api.allowed.test", b"\3doq"))):
    answer = over_tunnel(first)
    report(name, answer == b"\x15\3\3\0\2\2\x31", answer)

# N21: a tunnel is asked for within one.
refused("N21", over_tunnel(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n", b"api.allowed.test:80"), (b"405",))

report("T02", over_tunnel(hello(b"evil.test"), b"tunnel.test:8443") == b"")
report("T12", over_tunnel(hello(b"tunnel.test", b"\3dot"), b"tunnel.test:8443") == b"")
answer = over_tunnel(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"tunnel.test:8443")
report("C9", b"hello from other" in answer, answer[:60])

# E02, E03: straight to addresses, past every setting.
for family, address in ((socket.AF_INET, "93.184.216.66"), (socket.AF_INET6, "2606:2800:220:1::66")):
    for port in (22, 53, 80, 443, 853, 5432, 8443):
        s = socket.socket(family, socket.SOCK_STREAM)
        s.settimeout(5)
        try:
            s.connect((address, port))
            if port == 80:
                s.sendall(b"GET / HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n")
            got = s.recv(4096)
        except OSError:
            got = b""
        report("E03", not got or b" 403 " in got or got[:1] == b"\x15", got[:40])

# D01, D02: names are answered here; D07 and others: no packet goes anywhere.
if not ALONE:
    for resolver in ("8.8.8.8", "127.0.0.1", "93.184.216.66"):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.sendto(b"\1\2\1\0\0\1\0\0\0\0\0\0\6CANARY\4evil\4test\0\0\1\0\1", (resolver, 53))
        report("D01", s.recv(512)[-4:-2] == bytes([198, 18]))
    for kind in (16, 10, 255, 252):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.sendto(b"\1\2\1\0\0\1\0\0\0\0\0\0\4evil\4test\0" + struct.pack(">HH", kind, 1), ("127.0.0.1", 53))
        report("D02", s.recv(512)[6:8] == b"\0\0")
else:
    for name in ("evil.test", "api.allowed.test"):
        try:
            report("D01", False, socket.getaddrinfo(name, 443))
        except OSError as error:
            report("D01", True, str(error))
for port in (443, 5353, 123, 853, 1900):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    try:
        s.connect(("93.184.216.66", port))
        s.send(b"x")
        s.recv(1)
        report("D07", False)
    except OSError as error:
        report("D07", ALONE or isinstance(error, ConnectionRefusedError), str(error))
# D03, D04: resolvers that are asked over TLS or HTTPS.
for target in (b"dns.google:443", b"cloudflare-dns.com:443", b"dns.quad9.net:853", b"1.1.1.1:853"):
    refused("D04", connect(target), (b"403",))

# D05: what is said to everybody near reaches nobody.
for address, port in (("224.0.0.251", 5353), ("224.0.0.252", 5355), ("255.255.255.255", 137), ("239.255.255.250", 1900)):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.settimeout(0.5)
    try:
        s.sendto(b"CANARY", (address, port))
        report("D05", False, s.recv(512))
    except OSError as error:
        report("D05", True, str(error))

# D06: other protocols.
for name, kind, protocol in (("ICMP", socket.SOCK_RAW, 1), ("GRE", socket.SOCK_RAW, 47), ("IGMP", socket.SOCK_RAW, 2),
                             ("SCTP", socket.SOCK_STREAM, 132), ("SCTP", socket.SOCK_SEQPACKET, 132)):
    try:
        socket.socket(socket.AF_INET, kind, protocol)
        report("D06", False, name)
    except OSError as error:
        report("D06", True, f"{name} {error}")

# D09: what a sandbox does to its own names and ports harms itself only.
own = socket.create_server(("127.0.0.2", 8443))
with open("/etc/resolv.conf", "w") as file:
    file.write("nameserver 93.184.216.66\n")
os.system("ip route add 93.184.216.0/24 via 127.0.0.1 2>/dev/null; ip addr add 93.184.216.66/32 dev lo 2>/dev/null")
try:
    s = socket.create_connection(("evil.test", 443), timeout=5)
    s.sendall(hello(b"evil.test"))
    got = s.recv(4096)
    report("D09", not got or got[:1] == b"\x15", got[:40])
except OSError as error:
    report("D09", True, str(error))
refused("D09", connect(b"evil.test:443"), (b"403",))
answer = talk(b"GET http://api.allowed.test/own HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n")
report("C9", b"hello from plain" in answer, answer[:60])
own.close()

report("D08", [name for _, name in socket.if_nameindex()] == ["lo"])
