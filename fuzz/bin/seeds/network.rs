//! What a sandbox sends to the proxy and to its name server, as it is meant to be.

/// Heads of requests.
pub const HEADS: [&str; 10] = [
    "CONNECT api.allowed.test:443 HTTP/1.1\r\nHost: api.allowed.test:443\r\n\r\n",
    "CONNECT [2606:2800:220:1::34]:443 HTTP/1.1\r\n\r\n",
    "GET http://api.allowed.test/x?y HTTP/1.1\r\nHost: api.allowed.test\r\nAccept: */*\r\nProxy-Connection: keep-alive\r\n\r\n",
    "GET http://api.allowed.test:8080?q HTTP/1.1\r\nHost: api.allowed.test:8080\r\n\r\n",
    "GET http://[2606:2800:220:1::34]/ HTTP/1.1\r\n\r\n",
    "GET http://93.184.216.34:81/ HTTP/1.0\r\n\r\n",
    "POST /up HTTP/1.1\r\nHost: a.test:8080\r\nContent-Length: 3\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\nabc",
    "PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    "DELETE /x HTTP/1.1\r\nHost: A.TEST.\r\nCookie: a=b\r\nUpgrade: h2c\r\n\r\n",
    "OPTIONS http://a.test HTTP/1.1\r\nX-A:\tb \r\nTE: trailers\r\n\r\n",
];

/// What came with the head, of 255, and a body.
pub const BODIES: [(u8, &str); 8] = [
    (255, "3\r\nabc\r\n0\r\n\r\n"),
    (0, "3\r\nabc\r\n0\r\n\r\n"),
    (100, "A;x=y\r\n0123456789\r\n1f\r\n0123456789012345678901234567890\r\n0\r\n\r\n"),
    (60, "0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"),
    (0, "1\r\na\r\n1\r\nb\r\n000\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\n"),
    (20, "5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    (30, "3\r\nab"),
    (90, "no chunks"),
];

/// Methods and requests of SOCKS5.
pub fn socks() -> Vec<Vec<u8>> {
    let by_name = |name: &[u8]| [&[5, 1, 0, 3, name.len() as u8], name, &[1, 187]].concat();
    let mut all = vec![
        vec![5, 2, 2, 0],
        vec![5, 1, 2],
        [&[5, 1, 0][..], &[5, 2, 0, 1, 1, 1, 1, 1, 0, 1]].concat(),
        [&[5, 1, 0][..], &[5, 1, 0, 1, 93, 184, 216, 34, 0, 80]].concat(),
        [&[5, 1, 0, 5, 1, 0, 4][..], &[0x26, 6, 0x28, 0, 2, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x34, 1, 187]]
            .concat(),
    ];
    for name in [&b"api.allowed.test"[..], b"API.allowed.test.", b"93.184.216.34", b"[::1]"] {
        all.push([&[5, 1, 0], by_name(name).as_slice()].concat());
    }
    all.push(by_name(b"alone.test"));
    all
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u8, body: &[u8]) -> Vec<u8> {
    [vec![0, kind], long(body)].concat()
}

fn named(name: &[u8]) -> Vec<u8> {
    extension(0, &long(&[vec![0], long(name)].concat()))
}

fn handshake(extensions: &[Vec<u8>]) -> Vec<u8> {
    let suites = long(&[0x13, 1, 0x13, 2, 0xc0, 0x2f]);
    let body = [vec![3, 3], vec![7; 32], vec![4, 1, 2, 3, 4], suites, vec![1, 0], long(&extensions.concat())]
        .concat();
    [&[1], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
}

/// One byte, and a greeting in one record or in many.
pub fn greetings() -> Vec<Vec<u8>> {
    let record = |bytes: &[u8]| [vec![22, 3, 1], long(bytes)].concat();
    // What every client says; without the first of it there is no greeting for others.
    let common = || {
        let share = [vec![0, 29], long(&[9; 32])].concat();
        vec![
            extension(13, &long(&[4, 3, 8, 4, 4, 1])),
            extension(10, &long(&[0, 29, 0, 23])),
            extension(43, &[4, 3, 4, 3, 3]),
            extension(51, &long(&share)),
            extension(16, b"\0\x0c\x02h2\x08http/1.1"),
        ]
    };
    let with = |extensions: &[Vec<u8>]| handshake(&[common(), extensions.to_vec()].concat());
    let mut all: Vec<Vec<u8>> = [
        with(&[named(b"api.allowed.test")]),
        with(&[named(b"API.Allowed.TEST")]),
        with(&[]),
        handshake(&[named(b"a.test")]),
        handshake(&[]),
        with(&[named(b"93.184.216.34"), extension(21, &[0; 100])]),
    ]
    .iter()
    .map(|handshake| [vec![6], record(handshake)].concat())
    .collect();
    let whole = with(&[named(b"api.allowed.test")]);
    for size in [7, 100] {
        all.push([vec![size], whole.chunks(usize::from(size)).flat_map(record).collect()].concat());
    }
    all
}

/// Questions for names.
pub fn questions() -> Vec<Vec<u8>> {
    let question = |name: &str, kind: u16, edns: bool| {
        let mut bytes = vec![7, 9, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        if edns {
            bytes.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    };
    let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    vec![
        question("api.allowed.test", 1, false),
        question("API.allowed.test", 28, true),
        question("api.allowed.test", 16, true),
        question("34.216.184.93.in-addr.arpa", 12, false),
        question("_srv._tcp.a.test", 33, true),
        question("xn--bcher-kva.test", 1, true),
        question(&longest, 1, true),
        question("localhost", 1, false),
        question("127.1", 1, false),
    ]
}
