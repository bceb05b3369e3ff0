//! The listeners of a sandbox, each with what it is for.

use std::io;
use std::net::{IpAddr, UdpSocket as StdUdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use policy::host::Host;
use policy::network::Decision;
use protocol::egress::{Door, Via};
use protocol::network::DenyReason;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UdpSocket};

use crate::binding::Binding;
use crate::carry::carry;
use crate::dns::{self, Answer, Kind, MAX_QUESTION, Question};
use crate::judge::{Attempt, refuse};
use crate::listener::Listener;
use crate::stream::Begun;
use crate::{capture, names, proxy};

/// How long the first words on a connection may take.
const BEGINNING: Duration = Duration::from_secs(10);

/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// The port that stands in a question's record.
const NO_PORT: u16 = 0;

/// Opens a door for as long as the sandbox is bound.
pub(crate) fn open(binding: &Arc<Binding>, door: Door, socket: OwnedFd) -> io::Result<()> {
    let binding = Arc::clone(binding);
    if door == Door::DnsPacket {
        let socket = StdUdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        tokio::spawn(async move {
            let gone = binding.gone.clone();
            gone.run_until_cancelled(packets(&binding, &socket)).await;
        });
        return Ok(());
    }
    let listener = Listener::of(socket)?;
    tokio::spawn(async move {
        let gone = binding.gone.clone();
        gone.run_until_cancelled(connections(&binding, door, &listener)).await;
    });
    Ok(())
}

async fn connections(binding: &Arc<Binding>, door: Door, listener: &Listener) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(sandbox = %binding.sandbox, %error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = binding.place().filter(|_| binding.beginnings.take()) else {
            too_many(binding, door, stream);
            continue;
        };
        let binding = Arc::clone(binding);
        tokio::spawn(async move {
            let _place = place;
            let begun = Begun::new(stream, BEGINNING);
            let gone = binding.gone.clone();
            gone.run_until_cancelled(serve(&binding, door, begun)).await;
        });
    }
}

/// Serves a connection. Each stage is boxed and gone before the next one begins, so that a connection is as
/// large as what it does, not as what it did or could have done.
async fn serve(binding: &Arc<Binding>, door: Door, begun: Begun) {
    let judged = Box::pin(async {
        match door {
            Door::Proxy => proxy::begin(binding, begun).await,
            Door::Capture => capture::begin(binding, begun).await,
            Door::DnsStream | Door::DnsPacket => {
                questions_over_stream(binding, begun).await;
                None
            }
        }
    });
    let Some((judged, begun)) = judged.await else { return };
    let carried = Box::pin(carry(judged, begun));
    let Some(passage) = carried.await else { return };
    Box::pin(passage.run()).await;
}

/// Closes a connection over the limits.
fn too_many(binding: &Binding, door: Door, stream: TcpStream) {
    drop(stream);
    let via = if door == Door::Proxy { Via::Connect } else { Via::Capture };
    let attempt = Attempt { via, host: Err(b"*".to_vec()), port: NO_PORT, original: None, request: None };
    refuse(binding, &attempt, DenyReason::Rate);
}

/// Answers one question.
fn answer(binding: &Binding, question: &Question) -> Answer {
    let Some(host) = &question.host else { return Answer::NoName };
    if !binding.questions.take() {
        return Answer::Refused;
    }
    let name = host.to_string();
    if name == "localhost" || name.ends_with(".localhost") {
        return match question.kind {
            Kind::A => Answer::Address(IpAddr::from([127, 0, 0, 1])),
            Kind::Aaaa => Answer::Address(std::net::Ipv6Addr::LOCALHOST.into()),
            Kind::Other => Answer::NoData,
        };
    }
    if let Some(reason) = never(binding, host) {
        let attempt =
            Attempt { via: Via::Dns, host: Ok(host.clone()), port: NO_PORT, original: None, request: None };
        refuse(binding, &attempt, reason);
        return Answer::NoName;
    }
    if question.kind == Kind::Other {
        return Answer::NoData;
    }
    let number = binding.names.lock().unwrap_or_else(PoisonError::into_inner).number(host);
    match (number, question.kind) {
        (None, _) => Answer::Refused,
        (Some(number), Kind::A) => Answer::Address(names::v4(number).into()),
        (Some(number), _) => Answer::Address(names::v6(number).into()),
    }
}

/// Why nobody could ever allow a host.
fn never(binding: &Binding, host: &Host) -> Option<DenyReason> {
    match binding.policy().decide(host, 443) {
        Decision::Deny(denial) if !denial.askable && denial.reason != DenyReason::BadPort => {
            Some(denial.reason)
        }
        _ => None,
    }
}

/// Answers questions over a connection, each with its length before it.
pub(crate) async fn questions_over_stream(binding: &Binding, mut begun: Begun) {
    loop {
        while begun.read.len() < 2 {
            if begun.more(2).await.is_err() {
                return;
            }
        }
        let length = usize::from(u16::from_be_bytes([begun.read[0], begun.read[1]]));
        if length > MAX_QUESTION {
            return;
        }
        while begun.read.len() < 2 + length {
            if begun.more(2 + length).await.is_err() {
                return;
            }
        }
        let bytes = begun.take(2 + length);
        let Some(said) = reply(binding, &bytes[2..]) else { return };
        let framed = [&u16::try_from(said.len()).unwrap_or_default().to_be_bytes(), said.as_slice()].concat();
        if begun.stream.write_all(&framed).await.is_err() {
            return;
        }
        begun.extend(BEGINNING);
    }
}

fn reply(binding: &Binding, bytes: &[u8]) -> Option<Vec<u8>> {
    match dns::read(bytes) {
        Ok(question) => Some(question.answer(answer(binding, &question))),
        Err(answer) => answer,
    }
}

/// Answers questions in packets, each from the address that was asked.
async fn packets(binding: &Binding, socket: &UdpSocket) {
    loop {
        let received = socket.async_io(Interest::READABLE, || receive(socket)).await;
        let (bytes, from, to) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(sandbox = %binding.sandbox, %error, "a question could not be received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Some(said) = reply(binding, &bytes) {
            // A question whose answer does not fit into the queue is asked again.
            let _ = send(socket, &said, &from, to);
        }
    }
}

fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SockaddrStorage, Option<ControlMessageOwned>)> {
    let mut bytes = [0; MAX_QUESTION + 1];
    let mut space = nix::cmsg_space!([u8; 64]);
    let mut data = [io::IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut data, Some(&mut space), flags)?;
    let (length, from) = (message.bytes, message.address);
    let to = message.cmsgs()?.next();
    let from = from.ok_or_else(|| io::Error::other("a packet from nowhere"))?;
    Ok((bytes[..length].to_vec(), from, to))
}

fn send(
    socket: &UdpSocket,
    bytes: &[u8],
    to: &SockaddrStorage,
    asked: Option<ControlMessageOwned>,
) -> io::Result<usize> {
    let data = [io::IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let sent = match asked {
        Some(ControlMessageOwned::Ipv4PacketInfo(mut info)) => {
            info.ipi_spec_dst = info.ipi_addr;
            sendmsg(socket.as_raw_fd(), &data, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(to))
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(info)) => {
            sendmsg(socket.as_raw_fd(), &data, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(to))
        }
        _ => sendmsg(socket.as_raw_fd(), &data, &[], flags, Some(to)),
    };
    Ok(sent?)
}
