//! A datapath whose output is captured.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use weft_datapath::{Datapath, Execute, PacketIn, UserDatapath, UserOptions};
use weft_flow::{DpAction, DpPort, DropReason, FlowKey, FlowMask, Match, Opaque, Recirc, ToController};
use weft_pipeline::Pipeline;
use weft_wire::Mac;

pub(crate) const IN: DpPort = DpPort(9);
pub(crate) const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// See the module's text.
pub(crate) struct Rig {
    pub(crate) datapath: UserDatapath,
    captured: Receiver<PacketIn>,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::over(Pipeline::new())
    }

    pub(crate) fn over(pipeline: Pipeline) -> Rig {
        let (sender, captured) = channel();
        let sender: Mutex<Sender<PacketIn>> = sender.into();
        let sink = move |packet| sender.lock().unwrap().send(packet).is_ok();
        let options = UserOptions { lanes: Some(1), ..UserOptions::default() };
        let datapath = UserDatapath::new(Arc::new(pipeline), Arc::new(sink), &options).unwrap();
        Rig { datapath, captured }
    }

    /// Applies actions to a frame. Returns what was captured: a mark and the frame each.
    pub(crate) fn execute(&self, frame: &[u8], actions: &[DpAction]) -> Vec<(u64, Vec<u8>)> {
        let packet = Execute { frame: frame.to_vec(), bare: 0, in_port: IN, actions: actions.to_vec() };
        self.datapath.execute(packet).unwrap();
        self.datapath.sync();
        self.captured.try_iter().map(|packet| (packet.context.cookie, packet.frame)).collect()
    }

    /// Puts a flow for packets that resume a walk, of which these fields are as given.
    pub(crate) fn flow(
        &self,
        recirc_id: u32,
        set: impl Fn(&mut FlowKey),
        mask: impl Fn(&mut FlowKey),
        actions: &[DpAction],
    ) {
        let (mut key, mut bits) = (FlowKey::default(), FlowMask::empty());
        (key.packet.in_port, key.packet.recirc_id) = (IN.0, recirc_id);
        (bits.0.packet.in_port, bits.0.packet.recirc_id, bits.0.packet.extras) =
            (u32::MAX, u32::MAX, u16::MAX);
        set(&mut key);
        mask(&mut bits.0);
        self.datapath.put_flow(&Match::new(&key, bits), actions).unwrap();
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.datapath.drops()[reason as usize]
    }
}

/// Captures the frame under a mark.
pub(crate) fn capture(mark: u64) -> DpAction {
    let context = ToController {
        bridge: 1,
        controller_id: 0,
        max_len: u16::MAX,
        reason: 0,
        table: 0,
        cookie: mark,
        key: Box::default(),
        userdata: Vec::new(),
        paused: None,
        meter: None,
    };
    DpAction::Controller(Arc::new(context))
}

pub(crate) fn recirc(id: u32) -> DpAction {
    DpAction::Recirc(Recirc { id, frozen: Opaque(Arc::new(id)) })
}
