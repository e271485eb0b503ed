//! Which packets does the database ask to have exported, and to whom? Tables IPFIX and Flow_Sample_Collector_Set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_ovsdb::db::{Database, RowView};
use weft_pipeline::{BridgeSampling, Sampling};

use super::{flag, rows};

/// One of how many packets is sampled unless the database says.
const SAMPLING: u32 = 400;
/// Most bytes of a virtual observation identifier.
const OBS_ID_LEN: usize = 254;
/// Most flows that are kept, whatever the database says: about 500 bytes each.
const MOST_FLOWS: usize = 1_000_000;

/// What is exported of a bridge.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Exports {
    /// Of all its packets.
    pub bridge: Option<Ipfix>,
    /// Of those that rules sample, by collector set.
    pub sets: BTreeMap<u32, Ipfix>,
    /// The same for the pipeline.
    pub sampling: Arc<Sampling>,
}

/// A row of the IPFIX table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ipfix {
    /// Collectors.
    pub targets: BTreeSet<SocketAddr>,
    /// Seconds that a flow is kept before it is exported; 0: none is.
    pub active_timeout_s: u32,
    /// Flows that are kept; 0: none.
    pub max_flows: usize,
    /// Outer headers are told.
    pub tunnels: bool,
    /// `virtual_obs_id`; empty: none.
    pub virtual_obs_id: String,
    /// `weft-flow-totals`: totals are of the flow, not of the exporter.
    pub flow_totals: bool,
    /// One of how many packets is sampled; for bridges.
    pub sampling: u32,
    /// Observation domain; for bridges.
    pub domain: u32,
    /// Observation point; for bridges.
    pub point: u32,
    /// Packets are sampled where they come in; for bridges.
    pub input: bool,
    /// Packets are sampled where they go out; for bridges.
    pub output: bool,
}

impl Exports {
    pub(super) fn read(db: &Database, bridge: &RowView<'_>) -> Exports {
        // Without collectors there is nothing to sample for.
        let read = |row: &RowView<'_>| {
            let ipfix = rows(db, "IPFIX", row, "ipfix").next().map(|row| Ipfix::read(&row));
            ipfix.filter(|ipfix| !ipfix.targets.is_empty())
        };
        let sets = db.table("Flow_Sample_Collector_Set").into_iter().flat_map(|table| table.rows());
        let sets: BTreeMap<u32, Ipfix> = sets
            .filter(|row| row.refs("bridge").contains(&bridge.uuid()))
            .filter_map(|row| Some((u32::try_from(row.int("id")).ok()?, read(&row)?)))
            .collect();
        let of_bridge = read(bridge);
        let sampling = Sampling {
            bridge: of_bridge.as_ref().map(|ipfix| BridgeSampling {
                share: u32::MAX / ipfix.sampling,
                input: ipfix.input,
                output: ipfix.output,
                tunnels: ipfix.tunnels,
            }),
            sets: sets.iter().map(|(id, ipfix)| (*id, ipfix.tunnels)).collect(),
        };
        Exports { bridge: of_bridge, sets, sampling: Arc::new(sampling) }
    }
}

impl Ipfix {
    fn read(row: &RowView<'_>) -> Ipfix {
        let number = |column| row.opt_int(column).and_then(|n| u32::try_from(n).ok());
        // On unless it is switched off, as ovs-vswitchd.conf.db(5) has it.
        let on = |key| row.get("other_config", key) != Some("false");
        let mut virtual_obs_id = row.get("other_config", "virtual_obs_id").unwrap_or_default().to_owned();
        while virtual_obs_id.len() > OBS_ID_LEN {
            virtual_obs_id.pop();
        }
        let targets = row.strs("targets").into_iter().filter_map(|text| {
            let target = target(text);
            if target.is_none() {
                tracing::warn!(target: "ipfix", "collector {text:?}: not of the form IP:PORT");
            }
            target
        });
        Ipfix {
            targets: targets.collect(),
            active_timeout_s: number("cache_active_timeout").unwrap_or(0),
            max_flows: number("cache_max_flows").map_or(0, |n| (n as usize).min(MOST_FLOWS)),
            tunnels: on("enable-tunnel-sampling"),
            virtual_obs_id,
            flow_totals: flag(row, "weft-flow-totals"),
            sampling: number("sampling").unwrap_or(SAMPLING).max(1),
            domain: number("obs_domain_id").unwrap_or(0),
            point: number("obs_point_id").unwrap_or(0),
            input: on("enable-input-sampling"),
            output: on("enable-output-sampling"),
        }
    }
}

/// An address and a port, which may be left out.
fn target(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, weft_wire::ipfix::PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let cases = [
            ("192.0.2.1:9995", Some("192.0.2.1:9995")),
            ("192.0.2.1", Some("192.0.2.1:4739")),
            ("[2001:db8::1]:1", Some("[2001:db8::1]:1")),
            ("[2001:db8::1]", Some("[2001:db8::1]:4739")),
            ("2001:db8::1", Some("[2001:db8::1]:4739")),
            ("192.0.2.1:99999", None),
            ("somewhere:1", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(target(text), wanted.and_then(|w| w.parse().ok()), "{text}");
        }
    }
}
