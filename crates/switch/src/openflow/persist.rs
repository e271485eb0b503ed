//! When are flows kept, and when do they come back?

use weft_openflow::{Message, Version};
use weft_pipeline::{FlowModOutcome, Pipeline, Snapshot};

use super::journal::{self, Journal};
use super::{OpenFlow, flows, groups, tlv};
use crate::bridge::World;

impl OpenFlow {
    /// Puts into the tables of a new bridge what its journal says. False: there is none.
    pub(super) fn restore(&self, name: &str, bridge: u32, snapshot: &mut Snapshot, now: u64) -> bool {
        let path = journal::path(&self.journals, name);
        let messages = match journal::read(&path) {
            Ok(messages) => messages,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return false,
            Err(e) => {
                tracing::error!("{}: {e}", path.display());
                return false;
            }
        };
        let (count, mut refused) = (messages.len(), 0);
        for message in messages {
            if let Err(why) = apply(&message, bridge, snapshot, now) {
                refused += 1;
                tracing::warn!("{}: {} is not restored: {why}", path.display(), message.name());
            }
        }
        tracing::info!("{name}: {} changes of flow tables restored", count - refused);
        true
    }

    /// Begins and ends journals as bridges ask for them, and has those that grew long written anew.
    pub(crate) fn keep_journals(&mut self, world: &World, pipeline: &Pipeline) {
        for live in world.bridges.values() {
            let Some(bridge) = self.bridges.get_mut(&live.id) else { continue };
            if !live.wanted.persist_flows {
                if let Some(journal) = bridge.journal.take() {
                    journal.remove();
                }
                continue;
            }
            let flow = || pipeline.snapshot().bridge(live.id).cloned();
            match &mut bridge.journal {
                None => {
                    let path = journal::path(&self.journals, &live.name);
                    match flow().map(|flow| Journal::begin(path, flow)).transpose() {
                        Ok(journal) => bridge.journal = journal,
                        Err(e) => tracing::error!("{}: flows are not kept: {e}", live.name),
                    }
                }
                Some(journal) => {
                    let beginning = journal.is_beginning();
                    let mut done = journal.finish_rewrite();
                    if done.is_ok() && journal.is_long() {
                        done = flow().map_or(Ok(()), |flow| journal.rewrite(flow));
                    }
                    match done {
                        Ok(()) => {}
                        Err(e) if beginning => {
                            tracing::error!("{}: flows are not kept: {e}", live.name);
                            bridge.journal = None;
                        }
                        Err(e) => tracing::warn!("{}: the journal of flows stays long: {e}", live.name),
                    }
                }
            }
        }
    }

    /// Notes what was done to the tables of a bridge, and the message that changed more than rules.
    pub(super) fn keep(
        &mut self,
        bridge: u32,
        outcome: &FlowModOutcome,
        message: Option<&Message>,
        pipeline: &Pipeline,
    ) {
        let Some(state) = self.bridges.get_mut(&bridge) else { return };
        let Some(journal) = &mut state.journal else { return };
        if let Some(message) = message {
            journal.append(message);
        }
        let tlv = pipeline.snapshot().bridge(bridge).map(|b| b.tlv.clone()).unwrap_or_default();
        journal.append_outcome(outcome, &tlv);
    }

    /// Writes what was noted. A journal that cannot be written is given up, and begun again later.
    pub(crate) fn write_journals(&mut self) {
        for bridge in self.bridges.values_mut() {
            if let Some(Err(e)) = bridge.journal.as_mut().map(Journal::flush) {
                tracing::error!("{}: the journal of flows: {e}", bridge.name);
                bridge.journal = None;
            }
        }
    }
}

fn apply(message: &Message, bridge: u32, snapshot: &mut Snapshot, now: u64) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    match message {
        Message::FlowMod(m) => {
            let tlv = snapshot.bridge(bridge).ok_or("no such bridge")?.tlv.clone();
            let change = flows::flow_mod(m, Version::V15, &tlv).map_err(|e| text(&e))?;
            let tables = snapshot.tables_mut(bridge).ok_or("no such bridge")?;
            tables.apply(&change, now).map(drop).map_err(|e| text(&e))
        }
        Message::GroupMod(m) => {
            snapshot.group_mod(bridge, &groups::group_mod(m), now).map(drop).map_err(|e| text(&e))
        }
        Message::MeterMod(m) => {
            let change = groups::meter_mod(m).map_err(|e| text(&e))?;
            snapshot.meter_mod(bridge, &change, now).map(drop).map_err(|e| text(&e))
        }
        Message::TlvTableMod(m) => {
            let old = snapshot.bridge(bridge).ok_or("no such bridge")?.tlv.clone();
            snapshot.set_tlv_table(bridge, tlv::change(&old, m).map_err(|e| text(&e))?);
            Ok(())
        }
        _ => Err("not a change of tables".into()),
    }
}
