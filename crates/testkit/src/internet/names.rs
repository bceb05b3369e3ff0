//! A name server for one test, which knows a few names and remembers what it was asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;

/// The names, and the questions that came.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<String, Vec<IpAddr>>,
    /// What a name stands for from its next question for IPv4 addresses on.
    next: HashMap<String, Vec<IpAddr>>,
    /// Names that are said to be other names.
    aliases: HashMap<String, String>,
    asked: Vec<String>,
    /// How long answers are good for, in seconds.
    lasting: u32,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl Names {
    /// Answers on this socket; names that are not set do not exist.
    #[must_use]
    pub fn serve(socket: UdpSocket) -> Self {
        let names = Self::default();
        let this = names.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                if let Some(answer) = this.answer(&bytes[..length]) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        names
    }

    /// Lets a name stand for these addresses from now on.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        self.state().addresses.insert(name.to_owned(), addresses);
    }

    /// Lets a name stand for other addresses once it was asked for.
    pub fn then(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        self.state().next.insert(name.to_owned(), addresses);
    }

    /// Lets a name be another one, whose addresses are told along with that.
    pub fn alias(&self, name: &str, of: &str) {
        self.state().aliases.insert(name.to_owned(), of.to_owned());
    }

    /// Lets answers be good for so many seconds from now on; at first they are for none.
    pub fn last(&self, seconds: u32) {
        self.state().lasting = seconds;
    }

    /// What was asked for, in lower case, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (mut name, mut at) = (String::new(), 12);
        loop {
            let length = usize::from(*question.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
        let mut state = self.state();
        state.asked.push(name.clone());
        let alias = state.aliases.get(&name).cloned();
        let known = state.addresses.get(alias.as_ref().unwrap_or(&name)).cloned();
        if kind == A
            && let Some(next) = state.next.remove(&name)
        {
            state.addresses.insert(name.clone(), next);
        }
        let fits = |address: &&IpAddr| if address.is_ipv4() { kind == A } else { kind == AAAA };
        let found: Vec<IpAddr> = known.iter().flatten().filter(fits).copied().collect();
        let mut answer = question.get(..2)?.to_vec();
        answer.extend([0x81, if known.is_some() { 0x80 } else { 0x83 }, 0, 1]);
        answer.extend(u16::try_from(found.len() + usize::from(alias.is_some())).ok()?.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(question.get(12..at + 4)?);
        // Where the name stands that the addresses belong to.
        let mut owner = [0xc0, 12];
        if let Some(alias) = &alias {
            let labels = alias.split('.').flat_map(|label| {
                [&[u8::try_from(label.len()).unwrap_or_default()], label.as_bytes()].concat()
            });
            let labels: Vec<u8> = labels.chain([0]).collect();
            answer.extend(owner);
            answer.extend([0, 5, 0, 1]);
            answer.extend(state.lasting.to_be_bytes());
            answer.extend(u16::try_from(labels.len()).ok()?.to_be_bytes());
            owner = [0xc0, u8::try_from(answer.len()).ok()?];
            answer.extend(labels);
        }
        for address in found {
            let data = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            answer.extend(owner);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(state.lasting.to_be_bytes());
            answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            answer.extend(data);
        }
        Some(answer)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
