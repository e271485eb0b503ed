//! Which columns of the database ask for something when they change?

use weft_ovsdb::Commit;

/// Columns whose change asks for something to be done, by table. Others are ours, or nobody's.
const WATCHED: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["bridges", "manager_options", "ssl", "other_config", "next_cfg", "datapaths"]),
    ("Datapath", &["ct_zones"]),
    ("CT_Zone", &["timeout_policy"]),
    ("CT_Timeout_Policy", &["timeouts"]),
    ("Flow_Sample_Collector_Set", &["id", "bridge", "ipfix"]),
    (
        "IPFIX",
        &[
            "targets",
            "sampling",
            "obs_domain_id",
            "obs_point_id",
            "cache_active_timeout",
            "cache_max_flows",
            "other_config",
        ],
    ),
    ("Flow_Table", &["name", "flow_limit", "overflow_policy", "groups"]),
    (
        "Bridge",
        &[
            "name",
            "datapath_type",
            "ports",
            "controller",
            "fail_mode",
            "protocols",
            "other_config",
            "flood_vlans",
            "flow_tables",
            "netflow",
            "sflow",
            "ipfix",
        ],
    ),
    (
        "Port",
        &[
            "name",
            "interfaces",
            "trunks",
            "cvlans",
            "tag",
            "vlan_mode",
            "mac",
            "bond_mode",
            "protected",
            "qos",
            "other_config",
        ],
    ),
    (
        "Interface",
        &[
            "name",
            "type",
            "options",
            "mac",
            "ofport_request",
            "mtu_request",
            "ingress_policing_rate",
            "ingress_policing_burst",
            "ingress_policing_kpkts_rate",
            "ingress_policing_kpkts_burst",
        ],
    ),
    ("QoS", &["type", "queues", "other_config"]),
    ("Queue", &["other_config"]),
    (
        "Controller",
        &[
            "target",
            "max_backoff",
            "inactivity_probe",
            "enable_async_messages",
            "type",
            "other_config",
            "controller_rate_limit",
            "controller_burst_limit",
            "controller_queue_size",
        ],
    ),
    ("Manager", &["target", "max_backoff", "inactivity_probe"]),
    ("SSL", &["private_key", "certificate", "ca_cert", "bootstrap_ca_cert"]),
];

/// Whether a commit touches a column that is watched.
pub(crate) fn asks_for_something(commit: &Commit) -> bool {
    WATCHED.iter().any(|(table, columns)| commit.touches(table, columns))
}

/// Whether a commit is about ports of bridges and their interfaces alone, so that nothing else has to be read again.
pub(crate) fn is_about_ports(commit: &Commit) -> bool {
    commit.tables().all(|(table, _)| match table {
        "Port" | "Interface" => true,
        "Bridge" => !commit.touches_others(table, &["ports"]),
        "Open_vSwitch" => !commit.touches_others(table, &["next_cfg", "cur_cfg"]),
        _ => false,
    })
}
