//! Which messages wait to take effect together?

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
    messages: Vec<u8>,
    count: usize,
}

/// The open bundles of a connection. Messages are kept as they came, which is much smaller than decoded.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    open: Vec<Bundle>,
    bytes: usize,
}

/// A bundle to apply: answer with [`super::SwitchSession::reply_commit`].
#[derive(Clone, Debug)]
pub struct BundleCommit {
    /// Bundle, as the controller numbers them.
    pub id: u32,
    /// `OFPBF_ATOMIC` and `OFPBF_ORDERED`.
    pub flags: u16,
    messages: Vec<u8>,
    count: usize,
    codec: Codec,
}

impl BundleCommit {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.count
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// The messages in their order: flow-mods, group-mods, packet-outs and port-mods.
    pub fn iter(&self) -> impl Iterator<Item = (ReplyTo, Request)> + '_ {
        let mut messages = self.messages();
        std::iter::from_fn(move || messages.next(&mut Spare::default()))
    }
    /// As [`BundleCommit::iter`], for who gives flow-mods back.
    pub fn messages(&self) -> Messages<'_> {
        Messages { rest: &self.messages, codec: &self.codec }
    }
}

/// What is still to come of a bundle's messages.
#[derive(Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    codec: &'a Codec,
}

impl Messages<'_> {
    /// The next message, into a flow-mod that is done with.
    pub fn next(&mut self, spare: &mut Spare) -> Option<(ReplyTo, Request)> {
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

    fn remove(&mut self, i: usize) -> Bundle {
        let bundle = self.open.swap_remove(i);
        self.bytes -= bundle.messages.len();
        bundle
    }

    /// Takes a step. `Ok(Some)`: a bundle is to be applied; `Ok(None)`: the step is done and wants its reply.
    pub(super) fn control(
        &mut self,
        codec: &Codec,
        c: &BundleControl,
    ) -> Result<Option<BundleCommit>, ErrorCode> {
        match c.step {
            BundleStep::OpenRequest => {
                if self.open.iter().any(|b| b.id == c.id) {
                    return Err(ErrorCode::OFPBFC_BUNDLE_EXIST);
                }
                self.open(c.id, c.flags)?;
            }
            BundleStep::CloseRequest => {
                let i = self.index(c.id, c.flags)?;
                if std::mem::replace(&mut self.open[i].closed, true) {
                    self.remove(i);
                    return Err(ErrorCode::OFPBFC_BUNDLE_CLOSED);
                }
            }
            BundleStep::CommitRequest => {
                let i = self.index(c.id, c.flags)?;
                let Bundle { id, flags, messages, count, .. } = self.remove(i);
                return Ok(Some(BundleCommit { id, flags, messages, count, codec: *codec }));
            }
            BundleStep::DiscardRequest => {
                let i = self.open.iter().position(|b| b.id == c.id).ok_or(ErrorCode::OFPBFC_BAD_ID)?;
                self.remove(i);
            }
            _ => return Err(ErrorCode::OFPBFC_BAD_TYPE),
        }
        Ok(None)
    }

    fn open(&mut self, id: u32, flags: u16) -> Result<usize, ErrorCode> {
        if self.open.len() >= MAX_BUNDLES {
            return Err(ErrorCode::OFPBFC_OUT_OF_BUNDLES);
        }
        self.open.push(Bundle { id, flags, closed: false, messages: Vec::new(), count: 0 });
        Ok(self.open.len() - 1)
    }

    /// Adds a message; a bundle that is not open yet is opened (OpenFlow 1.4 §7.3.9.2).
    pub(super) fn add(
        &mut self,
        codec: &Codec,
        xid: u32,
        add: &BundleAdd,
        limit: usize,
        spare: &mut Spare,
    ) -> Result<(), ErrorCode> {
        let i = match self.index(add.id, add.flags) {
            Err(ErrorCode::OFPBFC_BAD_ID) => self.open(add.id, add.flags)?,
            other => other?,
        };
        if self.open[i].closed {
            return Err(ErrorCode::OFPBFC_BUNDLE_CLOSED);
        }
        let header = crate::Header::parse(&add.message).map_err(|_| ErrorCode::OFPBFC_MSG_BAD_LEN)?;
        if header.version != codec.version.wire() {
            return Err(ErrorCode::OFPBFC_BAD_VERSION);
        }
        if header.xid != xid {
            return Err(ErrorCode::OFPBFC_MSG_BAD_XID);
        }
        if self.bytes + add.message.len() > limit {
            return Err(ErrorCode::OFPBFC_MSG_TOO_MANY);
        }
        let decoded = codec.decode_with(&add.message, spare).map_err(|code| match code {
            ErrorCode::OFPBRC_BAD_TYPE => ErrorCode::OFPBFC_MSG_UNSUP,
            code => code,
        })?;
        if let Request::FlowMod(checked) = bundled(decoded.1)? {
            spare.put(checked);
        }
        self.bytes += add.message.len();
        self.open[i].messages.extend_from_slice(&add.message);
        self.open[i].count += 1;
        Ok(())
    }
}
