# A DHCP client for odd requests: builds a message from JSON, sends it as a raw frame, prints what is answered.
# usage: dhcp_client.py DEVICE '{"type": 1, "mac": "02:…", "options": {"93": "0007"}, …}'
#        dhcp_client.py DEVICE COUNT ADDRESS    COUNT clients behind a relay at ADDRESS, which is the device's own;
#                                               a line for each that was given an address, when it was
import json, select, socket, struct, sys, time

COOKIE = b"\x63\x82\x53\x63"


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def address(text):
    return socket.inet_aton(text)


def hardware(text):
    return bytes.fromhex(text.replace(":", ""))


def request(ask):
    zero, mac = "0.0.0.0", hardware(ask["mac"])
    op, hops = (ask.get("op", 1), ask.get("hops", 0))
    head = struct.pack("!BBBBIHH", op, 1, 6, hops, ask["xid"], 0, ask.get("flags", 0))
    where = b"".join(address(ask.get(name, zero)) for name in ("ciaddr", "yiaddr", "siaddr", "giaddr"))
    options = b"\x35\x01" + bytes([ask["type"]])
    for code, value in ask.get("options", {}).items():
        options += bytes([int(code), len(value) // 2]) + bytes.fromhex(value)
    data = head + where + mac.ljust(16, b"\0") + bytes(192) + COOKIE + options + b"\xff"
    return data.ljust(300, b"\0")


def frame(ask):
    payload = request(ask)
    source, target = ask.get("src", "0.0.0.0"), ask.get("dst", "255.255.255.255")
    udp = struct.pack("!HHHH", ask.get("sport", 68), ask.get("dport", 67), 8 + len(payload), 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0, address(source), address(target))
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    to = hardware(ask.get("to", "ff:ff:ff:ff:ff:ff"))
    return to + hardware(ask.get("from", ask["mac"])) + b"\x08\x00" + ip + udp + payload


def reply(data, xid):
    if data[12:14] != b"\x08\x00" or data[23] != 17:
        return None
    start = 14 + (data[14] & 15) * 4
    ports, body = struct.unpack("!HH", data[start:start + 4]), data[start + 8:]
    if ports[0] != 67 or len(body) < 240 or struct.unpack("!I", body[4:8])[0] != xid or body[0] != 2:
        return None
    options, rest = {}, body[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        options[str(rest[0])] = options.get(str(rest[0]), "") + rest[2:2 + rest[1]].hex()
        rest = rest[2 + rest[1]:]
    text = lambda part: part.split(b"\0")[0].decode()
    named = {name: socket.inet_ntoa(body[at:at + 4]) for name, at in
             (("ciaddr", 12), ("yiaddr", 16), ("siaddr", 20), ("giaddr", 24))}
    return {"type": int(options.get("53", "0"), 16), "sname": text(body[44:108]), "file": text(body[108:236]),
            "options": options, "to": data[:6].hex(":"), "from": socket.inet_ntoa(data[26:30]), **named}


def many(wire, count, relay):
    own = wire.getsockname()[4].hex(":")
    states, waiting, todo = {}, {}, list(range(count))
    deadline = time.time() + 120

    def send(n):
        state = states.setdefault(n, {"type": 1, "options": {}})
        mac = "0a:00:00:%02x:%02x:%02x" % (n >> 16, n >> 8 & 255, n & 255)
        ask = {**state, "mac": mac, "xid": n + 1, "from": own, "giaddr": relay, "src": relay, "sport": 67, "hops": 1}
        waiting[n] = time.time() + 1
        try:
            wire.send(frame(ask))
        except OSError:
            pass  # The queue is full: it is sent again.

    while (todo or waiting) and time.time() < deadline:
        while todo and len(waiting) < 200:
            send(todo.pop())
        late = time.time()
        for n in [n for n, until in waiting.items() if until < late]:
            send(n)
        while select.select([wire], [], [], 0 if todo and len(waiting) < 200 else 0.05)[0]:
            data = wire.recv(65535)
            if len(data) < 50 or data[34:36] != b"\0\x43":
                continue
            n = struct.unpack("!I", data[46:50])[0] - 1
            answer = reply(data, n + 1)
            if answer is None or n not in waiting:
                continue
            if answer["type"] == 2 and states[n]["type"] == 1:
                wish = {"50": address(answer["yiaddr"]).hex(), "54": answer["options"]["54"]}
                states[n] = {"type": 3, "options": wish}
                send(n)
            elif answer["type"] == 5:
                del waiting[n]
                print("0a:00:00:%02x:%02x:%02x" % (n >> 16, n >> 8 & 255, n & 255), answer["yiaddr"], flush=True)
            elif answer["type"] == 6:
                states[n] = {"type": 1, "options": {}}
                send(n)
    print("over", flush=True)


def main():
    device = sys.argv[1]
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind((device, 0))
    if len(sys.argv) == 4:
        return many(wire, int(sys.argv[2]), sys.argv[3])
    ask = json.loads(sys.argv[2])
    ask.setdefault("xid", int(time.time() * 1000) & 0x7FFFFFFF)
    answer, until, again = None, time.time() + ask.get("wait", 5), 0
    while answer is None and time.time() < until:
        if time.time() >= again:
            wire.send(frame(ask))
            again = time.time() + 1.5
        if select.select([wire], [], [], 0.2)[0]:
            answer = reply(wire.recv(65535), ask["xid"])
    print(json.dumps(answer))


main()
