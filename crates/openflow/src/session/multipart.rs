//! How does a question that came in several messages become one?

use crate::ErrorCode;
use crate::stats::{MultipartRequest, StatsRequest};

/// Entries that a question may have in all.
const MAX_ENTRIES: usize = 1024;

/// The parts of a question that came so far. A connection has room for one.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<(u32, MultipartRequest)>,
    /// When the last part of it came, milliseconds.
    since: u64,
}

/// Milliseconds after which the next part of a question does not come any more.
const TIMEOUT_MS: u64 = 1000;

/// Entries of a question that may have several messages of them.
fn entries(body: &StatsRequest) -> Option<usize> {
    match body {
        StatsRequest::TableFeatures(list) => Some(list.len()),
        StatsRequest::FlowMonitor(list) => Some(list.len()),
        _ => None,
    }
}

/// Adds the entries of `part`, if it asks the same.
fn extend(whole: &mut StatsRequest, part: StatsRequest) -> bool {
    match (whole, part) {
        (StatsRequest::TableFeatures(a), StatsRequest::TableFeatures(b)) => a.extend(b),
        (StatsRequest::FlowMonitor(a), StatsRequest::FlowMonitor(b)) => a.extend(b),
        _ => return false,
    }
    true
}

impl Assembly {
    /// Gives up a question whose next part does not come, and returns its transaction.
    pub(super) fn expire(&mut self, now: u64) -> Option<u32> {
        self.open.take_if(|_| now >= self.since.saturating_add(TIMEOUT_MS)).map(|(xid, _)| xid)
    }

    /// Takes a message of a question and returns the question once it is complete.
    ///
    /// # Errors
    /// `OFPBRC_MULTIPART_BUFFER_OVERFLOW`: it is too long, of a kind that has one message, or another was not
    /// finished, which is then forgotten.
    pub(super) fn push(
        &mut self,
        xid: u32,
        part: MultipartRequest,
        now: u64,
    ) -> Result<Option<MultipartRequest>, ErrorCode> {
        let overflow = ErrorCode::OFPBRC_MULTIPART_BUFFER_OVERFLOW;
        let mut whole = match self.open.take() {
            // A question of one message may come between the parts of another.
            open if !part.more && open.as_ref().is_none_or(|(x, _)| *x != xid) => {
                self.open = open;
                return Ok(Some(part));
            }
            None => MultipartRequest { more: true, ..part },
            Some((x, mut whole)) if x == xid => {
                let more = part.more;
                if !extend(&mut whole.body, part.body) {
                    return Err(overflow);
                }
                whole.more = more;
                whole
            }
            Some(_) => return Err(overflow),
        };
        if entries(&whole.body).is_none_or(|n| n > MAX_ENTRIES) {
            return Err(overflow);
        }
        if whole.more {
            self.since = now;
            self.open = Some((xid, whole));
            return Ok(None);
        }
        whole.more = false;
        Ok(Some(whole))
    }
}
