//! Another proxy on this machine, through which every connection goes: a person's own, of the local
//! sandbox.
//!
//! ```text
//!   HTTP     CONNECT host:port ─▶ 2xx ─▶ relayed        80, 443, and what there is no other proxy for
//!   SOCKS5   greeting ─▶ CONNECT, by name ─▶ 0 ─▶ relayed
//! ```
//!
//! It resolves the names, so what addresses they have is its business.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use policy::host::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest head of an answer.
const MAX_HEAD: usize = 8 * 1024;

/// The proxies that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upstream {
    /// The port of one that speaks HTTP.
    pub http: Option<u16>,
    /// The port of one that speaks SOCKS5.
    pub socks: Option<u16>,
}

/// The way to one host through one of them.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    proxy: SocketAddr,
    speaks_socks: bool,
    host: Host,
    port: u16,
}

impl Upstream {
    /// The way to a host; none where there is no such proxy.
    pub(crate) fn hop(self, host: &Host, port: u16) -> Option<Hop> {
        let for_http = matches!(port, 80 | 443);
        let (proxy, speaks_socks) = match (self.http, self.socks) {
            (Some(http), None) => (http, false),
            (Some(http), Some(_)) if for_http => (http, false),
            (_, Some(socks)) => (socks, true),
            (None, None) => return None,
        };
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, proxy));
        Some(Hop { proxy, speaks_socks, host: host.clone(), port })
    }
}

impl Hop {
    /// Connects.
    pub(crate) async fn connect(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        if self.speaks_socks {
            self.by_socks(&mut stream).await?;
        } else {
            self.by_http(&mut stream).await?;
        }
        Ok((stream, self.proxy))
    }

    async fn by_http(&self, stream: &mut TcpStream) -> io::Result<()> {
        let name = match &self.host {
            Host::V6(address) => format!("[{address}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        };
        stream.write_all(format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await?;
        let mut head = Vec::new();
        // Byte by byte: what stands behind the head is the host's.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            head.push(stream.read_u8().await?);
        }
        let mut words = head.split(|byte| *byte == b' ');
        let is_http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
        match words.next() {
            Some([b'2', _, _]) if is_http => Ok(()),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    async fn by_socks(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&[5, 1, 0]).await?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).await?;
        if chosen != [5, 0] {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let mut request = vec![5, 1, 0];
        match &self.host {
            Host::V4(address) => request.extend([&[1], address.octets().as_slice()].concat()),
            Host::V6(address) => request.extend([&[4], address.octets().as_slice()].concat()),
            Host::Dns(name) => {
                let name = name.as_str().as_bytes();
                request.extend([&[3, u8::try_from(name.len()).map_err(io::Error::other)?], name].concat());
            }
        }
        request.extend(self.port.to_be_bytes());
        stream.write_all(&request).await?;
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).await?;
        if reply[..2] != [5, 0] {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let address = match reply[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(stream.read_u8().await?),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        stream.read_exact(&mut vec![0; address + 2]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_goes_by_the_http_proxy_and_the_rest_by_the_other_where_there_are_two() {
        let host = Host::parse(b"a.test").unwrap();
        let by = |http, socks, port| {
            let hop = Upstream { http, socks }.hop(&host, port)?;
            Some((hop.proxy.port(), hop.speaks_socks))
        };
        assert_eq!(by(None, None, 443), None);
        for port in [80, 443, 22] {
            assert_eq!(by(Some(1), None, port), Some((1, false)));
            assert_eq!(by(None, Some(2), port), Some((2, true)));
        }
        assert_eq!(by(Some(1), Some(2), 443), Some((1, false)));
        assert_eq!(by(Some(1), Some(2), 22), Some((2, true)));
    }
}
