//! What does a lane do when control asks? One arm per command.

use weft_flow::{DpAction, Match, Verdict};

use crate::contract::Execute;
use crate::flows::Installed;
use crate::lane::Lane;
use crate::packet::{BATCH, Slot};
use crate::shared::Command;

impl Lane {
    /// Does what control asked since the last round.
    #[inline]
    pub(crate) fn obey(&mut self) {
        // Frames of control's that leave together; none of them is left when anything else is done.
        let mut frames = 0;
        for command in self.shared.lanes[self.number].take() {
            if let Command::Execute(packet) = &command {
                self.execute(frames, packet);
                frames += 1;
                if usize::from(frames) < BATCH {
                    continue;
                }
            }
            if std::mem::take(&mut frames) > 0 {
                self.finish();
            }
            self.obey_one(command);
        }
        if frames > 0 {
            self.finish();
        }
    }

    /// An answer that nobody waits for any more is not an error.
    fn obey_one(&mut self, command: Command) {
        match command {
            Command::AddPort(port) => self.exec.add_port(port),
            Command::RemovePort(port, done) => {
                self.drop_sources(Some(port), |_| true);
                self.exec.remove_port(port);
                let _ = done.send(());
            }
            Command::AddSource(source) => self.add_source(source),
            Command::RemoveListener(key, done) => {
                self.drop_sources(None, |source| source.listens_on(&key));
                let _ = done.send(());
            }
            Command::Sync(done) => {
                self.follow_changes();
                let _ = done.send(());
            }
            Command::Refresh(done) => {
                self.credit_all();
                let _ = done.send(());
            }
            Command::Flows(answer) => {
                let _ = answer.send(self.dump());
            }
            Command::Flush(done) => {
                self.flows.clear(self.now_ms);
                self.sweep_at = None;
                let _ = done.send(());
            }
            Command::Put(matching, actions, answer) => {
                let _ = answer.send(self.put_flow(&matching, actions));
            }
            Command::Delete(matching, answer) => {
                let found = self.flows.find_exact(&matching.key, &matching.mask);
                if let Some(flow) = found {
                    self.flows.remove(flow, self.now_ms);
                }
                let _ = answer.send(found.is_some());
            }
            Command::Tune(tuning, limit, done) => {
                (self.sweeps, self.max_idle_ms) = (tuning.sweep, tuning.max_idle_ms);
                if std::mem::replace(&mut self.vlan_limit, tuning.vlan_limit) != tuning.vlan_limit {
                    self.flows.clear(self.now_ms);
                    self.sweep_at = None;
                }
                self.flows.tune(limit, tuning.megaflows, self.now_ms);
                self.handle().counters.flows.set(self.flows.len() as u64);
                let _ = done.send(());
            }
            // Done with already.
            Command::Execute(_) => {}
            Command::Stop => self.stopped = true,
        }
    }

    fn put_flow(&mut self, matching: &Match, actions: Vec<DpAction>) -> bool {
        let verdict = Verdict {
            actions,
            mask: Box::new(matching.mask),
            drop: None,
            cacheable: true,
            deps: Default::default(),
            rules: Vec::new(),
            refresh: Vec::new(),
            counters: Vec::new(),
            effects: Vec::new(),
        };
        self.flows.make_room(self.now_ms);
        let hash = matching.key.packet.hash(self.shared.seed);
        let put = self.flows.pin(&matching.key, hash, verdict, self.epochs.now(), self.now_ms);
        matches!(put, Installed::Yes(_))
    }

    /// Applies actions to a frame from control, in a buffer of the idle batch.
    fn execute(&mut self, slot: Slot, packet: &Execute) {
        let buffer = self.exec.pool.get_mut(slot);
        if !buffer.fill(&packet.frame, packet.in_port) {
            return;
        }
        buffer.meta.bare = packet.bare;
        match buffer.read_headers() {
            Ok(headers) => buffer.flow_hash = headers.flow_hash5(self.shared.seed),
            Err(reason) => return self.exec.drop_received(packet.in_port, reason, 1),
        }
        self.exec.run(&[slot], &packet.actions);
        self.exec.pool.release(slot);
    }
}
