//! Which messages wait to take effect together?

use std::sync::Arc;

use super::Options;
use super::budget::Held;
use super::switch::{ReplyTo, Request};
use crate::message::Message;
use crate::msg::bundle::{BundleAdd, BundleControl, BundleStep};
use crate::spare::Spare;
use crate::{Codec, ErrorCode};

/// Bundles that one connection may have open.
const MAX_BUNDLES: usize = 16;

#[derive(Debug)]
struct Bundle {
    id: u32,
    flags: u16,
    closed: bool,
    /// When it was opened, added to or closed.
    used_ms: u64,
    /// What opened it: named when its time is over.
    by: ReplyTo,
    held: Held,
}

/// The open bundles of a connection. Messages are kept as they came, which is much smaller than decoded.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    open: Vec<Bundle>,
}

/// A request about a bundle, and what it may cost.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) codec: &'a Codec,
    pub(super) options: &'a Options,
    pub(super) xid: u32,
    /// The whole message.
    pub(super) raw: &'a [u8],
    pub(super) now: u64,
}

/// A bundle to apply: answer with [`super::SwitchSession::reply_commit`].
#[derive(Clone, Debug)]
pub struct BundleCommit {
    /// Bundle, as the controller numbers them.
    pub id: u32,
    /// `OFPBF_ATOMIC` and `OFPBF_ORDERED`.
    pub flags: u16,
    held: Arc<Held>,
    codec: Codec,
}

impl BundleCommit {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.held.count()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The messages in their order: flow-mods, group-mods, packet-outs and port-mods.
    pub fn iter(&self) -> impl Iterator<Item = (ReplyTo, Request)> + '_ {
        let mut messages = self.messages();
        std::iter::from_fn(move || messages.next(&mut Spare::default()))
    }
    /// As [`BundleCommit::iter`], for who gives flow-mods back.
    pub fn messages(&self) -> Messages<'_> {
        Messages { rest: &[], held: &self.held, piece: 0, codec: &self.codec }
    }
}

/// What is still to come of a bundle's messages.
#[derive(Debug)]
pub struct Messages<'a> {
    /// What is left of the piece before `piece`.
    rest: &'a [u8],
    held: &'a Held,
    piece: usize,
    codec: &'a Codec,
}

impl Messages<'_> {
    /// The next message, into a flow-mod that is done with.
    pub fn next(&mut self, spare: &mut Spare) -> Option<(ReplyTo, Request)> {
        if self.rest.is_empty() {
            self.rest = self.held.piece(self.piece)?;
            self.piece += 1;
        }
        let length = usize::from(crate::Header::parse(self.rest).ok()?.length);
        let (message, tail) = self.rest.split_at_checked(length)?;
        self.rest = tail;
        let (xid, decoded) = self.codec.decode_with(message, spare).ok()?;
        Some((ReplyTo::new(xid, false, message), bundled(decoded).ok()?))
    }
}

/// What may be in a bundle.
fn bundled(message: Message) -> Result<Request, ErrorCode> {
    match message {
        Message::FlowMod(m) if m.buffer_id.is_some() && !m.deletes() => Err(ErrorCode::OFPBRC_BUFFER_UNKNOWN),
        Message::FlowMod(m) => Ok(Request::FlowMod(m)),
        Message::PacketOut(m) if m.buffer_id.is_some() => Err(ErrorCode::OFPBRC_BUFFER_UNKNOWN),
        Message::PacketOut(m) => Ok(Request::PacketOut(m)),
        Message::PortMod(m) => Ok(Request::PortMod(m)),
        Message::GroupMod(m) => Ok(Request::GroupMod(m)),
        _ => Err(ErrorCode::OFPBFC_MSG_UNSUP),
    }
}

impl Bundles {
    fn index(&self, id: u32, flags: u16) -> Result<usize, ErrorCode> {
        let i = self.open.iter().position(|b| b.id == id).ok_or(ErrorCode::OFPBFC_BAD_ID)?;
        if self.open[i].flags == flags { Ok(i) } else { Err(ErrorCode::OFPBFC_BAD_FLAGS) }
    }

    /// Bytes that its bundles cost.
    fn cost(&self) -> usize {
        self.open.iter().map(|b| b.held.cost()).sum()
    }

    /// Takes a step. `Ok(Some)`: a bundle is to be applied; `Ok(None)`: the step is done and wants its reply.
    pub(super) fn control(
        &mut self,
        asked: &Asked<'_>,
        c: &BundleControl,
    ) -> Result<Option<BundleCommit>, ErrorCode> {
        match c.step {
            BundleStep::OpenRequest => {
                if self.open.iter().any(|b| b.id == c.id) {
                    return Err(ErrorCode::OFPBFC_BUNDLE_EXIST);
                }
                self.open(asked, c.id, c.flags)?;
            }
            BundleStep::CloseRequest => {
                let i = self.index(c.id, c.flags)?;
                self.open[i].used_ms = asked.now;
                if std::mem::replace(&mut self.open[i].closed, true) {
                    self.open.swap_remove(i);
                    return Err(ErrorCode::OFPBFC_BUNDLE_CLOSED);
                }
            }
            BundleStep::CommitRequest => {
                let i = self.index(c.id, c.flags)?;
                let Bundle { id, flags, held, .. } = self.open.swap_remove(i);
                return Ok(Some(BundleCommit { id, flags, held: Arc::new(held), codec: *asked.codec }));
            }
            BundleStep::DiscardRequest => {
                let i = self.open.iter().position(|b| b.id == c.id).ok_or(ErrorCode::OFPBFC_BAD_ID)?;
                self.open.swap_remove(i);
            }
            _ => return Err(ErrorCode::OFPBFC_BAD_TYPE),
        }
        Ok(None)
    }

    fn open(&mut self, asked: &Asked<'_>, id: u32, flags: u16) -> Result<usize, ErrorCode> {
        if self.open.len() >= MAX_BUNDLES {
            return Err(ErrorCode::OFPBFC_OUT_OF_BUNDLES);
        }
        let held = Held::new(&asked.options.bundles, self.cost())?;
        let by = ReplyTo::new(asked.xid, false, asked.raw);
        self.open.push(Bundle { id, flags, closed: false, used_ms: asked.now, by, held });
        Ok(self.open.len() - 1)
    }

    /// Adds a message; a bundle that is not open yet is opened (OpenFlow 1.4 §7.3.9.2).
    pub(super) fn add(
        &mut self,
        asked: &Asked<'_>,
        add: &BundleAdd,
        spare: &mut Spare,
    ) -> Result<(), ErrorCode> {
        let codec = asked.codec;
        let i = match self.index(add.id, add.flags) {
            Err(ErrorCode::OFPBFC_BAD_ID) => self.open(asked, add.id, add.flags)?,
            other => other?,
        };
        self.open[i].used_ms = asked.now;
        if self.open[i].closed {
            return Err(ErrorCode::OFPBFC_BUNDLE_CLOSED);
        }
        let header = crate::Header::parse(&add.message).map_err(|_| ErrorCode::OFPBFC_MSG_BAD_LEN)?;
        if header.version != codec.version.wire() {
            return Err(ErrorCode::OFPBFC_BAD_VERSION);
        }
        if header.xid != asked.xid {
            return Err(ErrorCode::OFPBFC_MSG_BAD_XID);
        }
        let decoded = codec.decode_with(&add.message, spare).map_err(|code| match code {
            ErrorCode::OFPBRC_BAD_TYPE => ErrorCode::OFPBFC_MSG_UNSUP,
            code => code,
        })?;
        if let Request::FlowMod(checked) = bundled(decoded.1)? {
            spare.put(checked);
        }
        let own = self.cost();
        self.open[i].held.push(&add.message, own, asked.options.max_bundle_bytes)
    }

    /// Forgets bundles that stood idle for too long, and tells what had opened each.
    pub(super) fn expire(&mut self, idle_ms: u64, now: u64) -> Vec<ReplyTo> {
        let over = |b: &mut Bundle| now >= b.used_ms.saturating_add(idle_ms);
        self.open.extract_if(.., over).map(|b| b.by).collect()
    }
}
