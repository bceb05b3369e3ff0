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
        let known = state.addresses.get(&name);
        let fits = |address: &&IpAddr| if address.is_ipv4() { kind == A } else { kind == AAAA };
        let found: Vec<IpAddr> = known.into_iter().flatten().filter(fits).copied().collect();
        let mut answer = question.get(..2)?.to_vec();
        answer.extend([0x81, if known.is_some() { 0x80 } else { 0x83 }, 0, 1]);
        answer.extend(u16::try_from(found.len()).ok()?.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(question.get(12..at + 4)?);
        for address in found {
            let data = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            answer.extend([0xc0, 12]);
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
