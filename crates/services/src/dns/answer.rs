//! How is a query read, and how is an answer written that fits its way back?

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;

use super::server::{Ignored, Transport};

/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER_LEN: usize = 12;
/// Longest answer to a client that does not speak EDNS (RFC 1035 §2.3.4).
const PLAIN_UDP: usize = 512;

/// A question and what its asker can take.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) metadata: Metadata,
    pub(super) question: Question,
    pub(super) edns: bool,
    pub(super) dnssec: bool,
    /// Longest answer.
    pub(super) limit: usize,
}

impl Query {
    pub(super) fn name(&self) -> &Name {
        self.question.name()
    }

    pub(super) fn kind(&self) -> RecordType {
        self.question.query_type()
    }
}

/// Why there is no question to answer.
pub(super) enum Bad {
    Ignore(Ignored),
    /// Say so.
    Reply(Vec<u8>),
}

fn counts(bytes: &[u8]) -> Option<[u16; 6]> {
    let head = bytes.first_chunk::<HEADER_LEN>()?;
    let mut all = [0; 6];
    for (number, pair) in all.iter_mut().zip(head.chunks_exact(2)) {
        *number = u16::from_be_bytes(pair.try_into().ok()?);
    }
    Some(all)
}

/// An error said with a header alone: nothing of the query is trusted.
fn refusal(id: u16, flags: u16, code: ResponseCode) -> Bad {
    let flags = 0x8000 | (flags & 0x7900) | u16::from(code.low());
    let mut out = id.to_be_bytes().to_vec();
    out.extend(flags.to_be_bytes());
    out.resize(HEADER_LEN, 0);
    Bad::Reply(out)
}

/// Reads a query (RFC 1035 §4.1, RFC 6891 §6.1).
pub(super) fn read(bytes: &[u8], transport: Transport, max_udp: u16) -> Result<Query, Bad> {
    let Some([id, flags, questions, answers, authorities, additionals]) = counts(bytes) else {
        return Err(Bad::Ignore(Ignored::Short));
    };
    // Answering answers is how two servers talk for ever.
    if flags & 0x8000 != 0 {
        return Err(Bad::Ignore(Ignored::Response));
    }
    if (flags >> 11) & 0xf != 0 {
        return Err(refusal(id, flags, ResponseCode::NotImp));
    }
    if questions != 1 || answers != 0 || authorities != 0 || additionals > 4 {
        return Err(refusal(id, flags, ResponseCode::FormErr));
    }
    let Ok(mut message) = Message::from_bytes(bytes) else {
        return Err(refusal(id, flags, ResponseCode::FormErr));
    };
    let Some(question) = message.queries.pop() else {
        return Err(refusal(id, flags, ResponseCode::FormErr));
    };
    let size = message.edns.as_ref().map_or(PLAIN_UDP, |edns| usize::from(edns.max_payload()));
    let limit = match transport {
        Transport::Udp => size.clamp(PLAIN_UDP, usize::from(max_udp).max(PLAIN_UDP)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let query = Query {
        metadata: message.metadata,
        question,
        edns: message.edns.is_some(),
        dnssec: message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        limit,
    };
    let code = if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        ResponseCode::BADVERS
    } else if query.question.query_class() != DNSClass::IN
        || matches!(query.kind(), RecordType::AXFR | RecordType::IXFR)
    {
        ResponseCode::Refused
    } else {
        return Ok(query);
    };
    Err(Bad::Reply(write(&query, Answer { code, ..Answer::default() })))
}

/// What is to be said.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) authentic: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

/// Writes an answer. The question comes back letter for letter, so that askers that vary the case
/// of letters know their own; what does not fit makes the answer empty and marked as cut short
/// (RFC 2181 §9), so that the client asks by TCP.
pub(super) fn write(query: &Query, answer: Answer) -> Vec<u8> {
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata = Metadata::response_from_request(&query.metadata);
    message.metadata.recursion_available = true;
    message.metadata.authoritative = answer.authoritative;
    message.metadata.authentic_data = answer.authentic && (query.dnssec || query.metadata.authentic_data);
    message.metadata.response_code = answer.code;
    message.queries.push(query.question.clone());
    message.answers = answer.answers;
    message.authorities = answer.authorities;
    if query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(query.dnssec).set_version(0);
        message.edns = Some(edns);
    }
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= query.limit && bytes.get(2).is_some_and(|b| b & 2 == 0) => bytes,
        _ => {
            // Records that only explain are the first to go.
            if !message.answers.is_empty() && !message.authorities.is_empty() {
                message.authorities.clear();
                if let Ok(bytes) = message.to_vec()
                    && bytes.len() <= query.limit
                {
                    return bytes;
                }
            }
            message.truncate().to_vec().unwrap_or_default()
        }
    }
}
