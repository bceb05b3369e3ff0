//! Questions for names, and what is answered to them.
//!
//! ```text
//!   input:  a packet
//! ```
//!
//! hickory is the second reader: of the question, and of every answer that could be given to it.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, RecordType};
use policy::host::Host;

use crate::dns::{Answer, Kind, MAX_QUESTION, Question, read};

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let question = match read(data) {
        Ok(question) => question,
        Err(None) => return,
        Err(Some(answer)) => {
            let answer = parsed(data, &answer);
            assert_ne!(answer.metadata.response_code, ResponseCode::NoError, "a failure that is none");
            return assert!(answer.queries.is_empty() && answer.answers.is_empty());
        }
    };
    let host = question.host.as_ref().map(|host| match host {
        Host::Dns(name) => name.as_str().to_owned(),
        Host::V4(_) | Host::V6(_) => panic!("{host} is no name"),
    });
    if let Ok(asked) = Message::from_vec(data) {
        assert_eq!(asked.queries.len(), 1, "{asked:?}");
        asked_for(&asked, host.as_deref(), question.kind);
    }
    for (given, code) in [
        (Answer::NoData, ResponseCode::NoError),
        (Answer::NoName, ResponseCode::NXDomain),
        (Answer::Refused, ResponseCode::Refused),
    ] {
        let answer = parsed(data, &question.answer(given));
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0), "{given:?}");
        asked_for(&answer, host.as_deref(), question.kind);
    }
    match question.kind {
        Kind::A => address(data, &question, Answer::Address(Ipv4Addr::new(198, 18, 1, 2).into())),
        Kind::Aaaa => {
            address(data, &question, Answer::Address(Ipv6Addr::new(0xfd7a, 1, 2, 3, 4, 5, 6, 7).into()))
        }
        Kind::Other => {}
    }
}

/// An answer with an address is one, for the name that was asked for.
fn address(data: &[u8], question: &Question, given: Answer) {
    let answer = parsed(data, &question.answer(given));
    let host = question.host.as_ref().map(ToString::to_string);
    asked_for(&answer, host.as_deref(), question.kind);
    let [record] = answer.answers.as_slice() else { panic!("{answer:?}") };
    assert_eq!(Some(&record.name), answer.queries.first().map(|query| query.name()));
    assert_eq!((record.dns_class, record.ttl), (DNSClass::IN, 1));
    let found = match record.data {
        RData::A(address) => Answer::Address(address.0.into()),
        RData::AAAA(address) => Answer::Address(address.0.into()),
        _ => Answer::NoData,
    };
    assert_eq!(found, given);
}

/// Reads an answer to this question; it is never taken for a question.
fn parsed(question: &[u8], answer: &[u8]) -> Message {
    assert!(answer.len() <= MAX_QUESTION + 28, "an answer of {} bytes", answer.len());
    assert_eq!(read(answer), Err(None), "an answer is answered");
    let Ok(parsed) = Message::from_vec(answer) else { panic!("nobody can read {answer:?}") };
    assert_eq!(parsed.metadata.id.to_be_bytes(), question[..2], "for another question");
    assert_eq!(parsed.metadata.message_type, MessageType::Response);
    assert_eq!(parsed.metadata.recursion_desired, question[2] & 1 != 0);
    parsed
}

/// The one question of a message is for this host and of this kind.
fn asked_for(message: &Message, host: Option<&str>, kind: Kind) {
    let [query] = message.queries.as_slice() else { panic!("{message:?}") };
    let kind_of = match query.query_type() {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        _ => Kind::Other,
    };
    assert_eq!((kind_of, query.query_class()), (kind, DNSClass::IN), "{query:?}");
    if let Some(host) = host {
        let Ok(name) = Name::from_ascii(host) else { panic!("{host} is no name to others") };
        let labels = |name: &Name| name.iter().map(<[u8]>::to_ascii_lowercase).collect::<Vec<_>>();
        assert_eq!(labels(query.name()), labels(&name), "{host}");
    }
}
