//! Which messages does an exporter send? Samples become flows, flows records, records messages; sockets are elsewhere.

use std::collections::BTreeMap;

use weft_datapath::Sampled;
use weft_wire::ipfix::{Header, Message};

use super::cache::Cache;
use super::counts::{Counts, End};
use super::record::{self, Flow, Interface, Network, OWN_ELEMENTS, OWN_TEMPLATE};
use crate::wanted::Ipfix;

/// Bytes of a message, so that it fits the payload of a UDP datagram on Ethernet.
const MESSAGE: usize = 1400;
/// Microseconds after which templates are sent again: datagrams get lost, collectors come later (RFC 7011 §8.4).
const TEMPLATES_AGAIN_US: u64 = 600 * SECOND;
/// Observation domains that are kept apart; rules choose them.
const DOMAINS: usize = 1024;
const SECOND: u64 = 1_000_000;

/// One moment on two clocks, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// On one that never goes back.
    pub steady: u64,
    /// Since 1970.
    pub unix: u64,
}

/// What `ovs-ofctl dump-ipfix-bridge` and `dump-ipfix-flow` tell, but for what sockets count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub flows: u64,
    pub sampled: u64,
    pub ipv4: u64,
    pub ipv6: u64,
}

/// An observation domain: messages name it, templates and sequence numbers are its own.
#[derive(Debug)]
struct Domain {
    sequence: u32,
    /// When each template that was sent is to be sent again.
    templates: BTreeMap<u16, u64>,
    message: Message,
    /// Seconds since 1970 that the message will say, and the same moment on the steady clock in microseconds.
    time: (u32, u64),
}

/// An exporter: of a bridge, or of a collector set.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) config: Ipfix,
    cache: Cache,
    total: Counts,
    pub(super) tally: Tally,
    domains: BTreeMap<u32, Domain>,
    /// Packets that were lost on the way here.
    pub(super) lost: u64,
    /// Messages to be sent.
    pub(super) messages: Vec<Vec<u8>>,
}

impl Exporter {
    pub(super) fn new(config: Ipfix) -> Exporter {
        Exporter {
            config,
            cache: Cache::default(),
            total: Counts::default(),
            tally: Tally::default(),
            domains: BTreeMap::new(),
            lost: 0,
            messages: Vec::new(),
        }
    }

    /// Flows that wait.
    pub(super) fn waiting(&self) -> usize {
        self.cache.len()
    }

    /// Takes a sample that came in by one port, and goes out by another if that is known.
    pub(super) fn take(
        &mut self,
        sampled: &Sampled,
        input: &Interface,
        output: Option<&Interface>,
        now: Moment,
    ) {
        let of_bridge = (self.config.domain, self.config.point);
        let flow = record::flow(sampled, of_bridge, &self.config.virtual_obs_id, input, output);
        let counts = Counts::of(sampled, flow.shape, now.steady);
        self.total.add(&counts);
        self.tally.sampled += counts.packets;
        match flow.shape.network {
            Network::Other => {}
            Network::Ipv4 => self.tally.ipv4 += counts.packets,
            Network::Ipv6 => self.tally.ipv6 += counts.packets,
        }
        if !self.keeps() {
            self.tally.flows += 1;
            return self.export(&flow, &counts, End::ActiveTimeout, now);
        }
        self.tally.flows += u64::from(self.cache.add(flow, &counts));
        self.export_due(now);
    }

    /// Whether flows are kept at all.
    fn keeps(&self) -> bool {
        self.config.active_timeout_s > 0 && self.config.max_flows > 0
    }

    fn timeout_us(&self) -> u64 {
        u64::from(self.config.active_timeout_s) * SECOND
    }

    /// When the next flow is to be exported, on the steady clock.
    pub(super) fn due(&self) -> Option<u64> {
        self.cache.due(self.timeout_us())
    }

    /// Exports flows whose time has come.
    pub(super) fn export_due(&mut self, now: Moment) {
        while let Some((flow, counts, end)) =
            self.cache.take(now.steady, self.timeout_us(), self.config.max_flows)
        {
            self.export(&flow, &counts, end, now);
        }
    }

    /// Exports everything.
    pub(super) fn export_all(&mut self, now: Moment) {
        while let Some((flow, counts)) = self.cache.take_first() {
            self.export(&flow, &counts, End::Forced, now);
        }
        self.finish();
    }

    /// Works by another configuration from now on; collectors are told the templates again.
    pub(super) fn reconfigure(&mut self, config: Ipfix) {
        self.config = config;
        self.domains.values_mut().for_each(|domain| domain.templates.clear());
    }

    fn export(&mut self, flow: &Flow, counts: &Counts, end: End, now: Moment) {
        if self.domains.len() >= DOMAINS && !self.domains.contains_key(&flow.domain) {
            self.finish();
            self.domains.clear();
        }
        let domain = self.domains.entry(flow.domain).or_insert_with(Domain::new);
        domain.begin(flow.domain, now, &mut self.messages);
        let template = flow.shape.template();
        if domain.wants(OWN_TEMPLATE, now) {
            domain.template(OWN_TEMPLATE, &OWN_ELEMENTS, 1, flow.domain, &mut self.messages);
            let mut own = std::process::id().to_be_bytes().to_vec();
            own.extend(self.lost.to_be_bytes());
            domain.record(OWN_TEMPLATE, &own, flow.domain, &mut self.messages);
        }
        if domain.wants(template, now) {
            domain.template(template, &flow.shape.elements(), 0, flow.domain, &mut self.messages);
        }
        let mut record = flow.fields.to_vec();
        let total = if self.config.flow_totals { counts } else { &self.total };
        counts.put(total, flow.shape, domain.time.1, end, &mut record);
        domain.record(template, &record, flow.domain, &mut self.messages);
    }

    /// Completes the messages that were begun.
    pub(super) fn finish(&mut self) {
        for (number, domain) in &mut self.domains {
            domain.finish(*number, &mut self.messages);
        }
    }
}

impl Domain {
    fn new() -> Domain {
        Domain { sequence: 0, templates: BTreeMap::new(), message: Message::new(MESSAGE), time: (0, 0) }
    }

    /// Sets the time of the message: the next full second, before which everything in it was.
    fn begin(&mut self, number: u32, now: Moment, out: &mut Vec<Vec<u8>>) {
        let seconds = now.unix.div_ceil(SECOND);
        if self.time.0 != seconds as u32 {
            self.finish(number, out);
        }
        self.time = (seconds as u32, now.steady + (seconds * SECOND - now.unix));
    }

    /// Whether a template is to be sent.
    fn wants(&mut self, template: u16, now: Moment) -> bool {
        let wants = self.templates.get(&template).is_none_or(|again| *again <= now.steady);
        if wants {
            self.templates.insert(template, now.steady + TEMPLATES_AGAIN_US);
        }
        wants
    }

    fn template(
        &mut self,
        id: u16,
        elements: &[weft_wire::ipfix::Element],
        scope: u16,
        number: u32,
        out: &mut Vec<Vec<u8>>,
    ) {
        if !self.message.template(id, elements, scope) {
            self.finish(number, out);
            self.message.template(id, elements, scope);
        }
    }

    fn record(&mut self, template: u16, record: &[u8], number: u32, out: &mut Vec<Vec<u8>>) {
        if !self.message.record(template, record) {
            self.finish(number, out);
            self.message.record(template, record);
        }
    }

    fn finish(&mut self, number: u32, out: &mut Vec<Vec<u8>>) {
        if self.message.is_empty() {
            return;
        }
        let message = std::mem::replace(&mut self.message, Message::new(MESSAGE));
        let header = Header { export_time: self.time.0, sequence: self.sequence, domain: number };
        self.sequence = self.sequence.wrapping_add(message.records());
        out.push(message.finish(&header));
    }
}
