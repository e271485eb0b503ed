//! Which answers of forwarders are still good? (RFC 2308 §5, RFC 1035 §7.4)
//!
//! Whole answers to whole questions: nothing that came beside what was asked is ever used for
//! another question.

use std::collections::{BTreeSet, HashMap};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};

use super::Key;
use super::answer::Answer;

/// Longest that an answer is kept, in seconds.
const MAX_TTL: u32 = 86_400;
/// Longest that an absence is kept (RFC 2308 §5 advises 1–3 hours).
const MAX_NEGATIVE_TTL: u32 = 3600;
/// Most records of an answer that is kept.
const MAX_RECORDS: usize = 64;

/// What was asked: name, type, and whether with signatures and without checks.
pub(super) type Question = (Key, RecordType, bool, bool);

#[derive(Debug)]
struct Kept {
    answer: Answer,
    since: u64,
    until: u64,
}

/// Answers by question, at most as many as it was made for.
#[derive(Debug)]
pub(super) struct Cache {
    kept: HashMap<Question, Kept>,
    by_end: BTreeSet<(u64, Question)>,
    most: usize,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self { kept: HashMap::new(), by_end: BTreeSet::new(), most }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.by_end.clear();
    }

    /// The answer, its lifetimes counted down. `now` is in seconds.
    pub(super) fn get(&self, question: &Question, now: u64) -> Option<Answer> {
        let kept = self.kept.get(question).filter(|kept| kept.until > now)?;
        let age = u32::try_from(now.saturating_sub(kept.since)).unwrap_or(u32::MAX);
        let mut answer = kept.answer.clone();
        for record in answer.answers.iter_mut().chain(&mut answer.authorities) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    /// Keeps an answer as long as it says; the one that ends first makes room.
    pub(super) fn put(&mut self, question: Question, mut answer: Answer, now: u64) {
        let Some(ttl) = lifetime(&answer).filter(|ttl| *ttl > 0) else { return };
        if self.most == 0 || answer.answers.len() + answer.authorities.len() > MAX_RECORDS {
            return;
        }
        for record in answer.answers.iter_mut().chain(&mut answer.authorities) {
            record.ttl = record.ttl.min(MAX_TTL);
        }
        if let Some(old) = self.kept.remove(&question) {
            self.by_end.remove(&(old.until, question.clone()));
        }
        while self.kept.len() >= self.most {
            let Some((_, first)) = self.by_end.pop_first() else { break };
            self.kept.remove(&first);
        }
        let until = now + u64::from(ttl);
        self.by_end.insert((until, question.clone()));
        self.kept.insert(question, Kept { answer, since: now, until });
    }
}

/// Seconds that an answer may be kept: the least of its records; for absence what the SOA says.
fn lifetime(answer: &Answer) -> Option<u32> {
    let positive = answer.code == ResponseCode::NoError && !answer.answers.is_empty();
    if positive {
        return answer.answers.iter().map(|record| record.ttl).min().map(|ttl| ttl.min(MAX_TTL));
    }
    if !matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let soa = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    })?;
    let aliases = answer.answers.iter().map(|record| record.ttl).min().unwrap_or(u32::MAX);
    Some(soa.min(aliases).min(MAX_NEGATIVE_TTL))
}
