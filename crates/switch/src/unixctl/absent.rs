//! Which commands of `ovs-vswitchd` are not offered, and why?
//!
//! They answer an error that says so, and `list-commands` leaves them out: nobody is told that something was done.

/// Commands and the reasons.
const ABSENT: &[(&[&str], &str)] = &[
    (
        &["dpctl/add-dp", "dpctl/del-dp", "dpctl/add-if", "dpctl/del-if", "dpctl/set-if"],
        "ports come from the database, use ovs-vsctl: there is one datapath, and it belongs to the switch",
    ),
    (
        &["dpif-netlink/dispatch-mode"],
        "there is no datapath in the kernel: packets are decided about where they come in",
    ),
    (&["dpctl/offload-stats-show"], "flows are not offloaded to hardware"),
    (&["dpctl/cache-set-size"], "the caches take the memory that their flows need"),
    (
        &[
            "dpif-netdev/dpif-impl-get",
            "dpif-netdev/dpif-impl-set",
            "dpif-netdev/miniflow-parser-get",
            "dpif-netdev/miniflow-parser-set",
            "dpif-netdev/subtable-lookup-info-get",
            "dpif-netdev/subtable-lookup-prio-set",
            "odp-execute/action-impl-set",
            "odp-execute/action-impl-show",
        ],
        "there is one implementation, chosen when it was built",
    ),
    (
        &[
            "dpif-netdev/pmd-perf-log-set",
            "dpif-netdev/pmd-perf-show",
            "dpif-netdev/pmd-rxq-rebalance",
            "dpif-netdev/pmd-rxq-show",
            "dpif-netdev/pmd-stats-clear",
            "dpif-netdev/pmd-stats-show",
        ],
        "there are no poll mode drivers: lanes sleep when nothing comes, see coverage/show",
    ),
    (
        &["dpif-netdev/bond-show"],
        "no hash buckets of bonds are kept in the datapath: bonds forward as active-backup, see bond/show",
    ),
    (
        &["bond/hash", "bond/migrate"],
        "bonds forward as active-backup, by one member at a time: nothing is hashed, and nothing migrates",
    ),
    (
        &["bond/enable-member", "bond/enable-slave", "bond/disable-member", "bond/disable-slave"],
        "a member may be used while its link is up: set the link up or down, or choose by bond/set-active-member",
    ),
    (
        &["autoattach/show-isid", "autoattach/statistics", "autoattach/status"],
        "the switch does not speak LLDP (IEEE 802.1Q Auto Attach)",
    ),
    (&["upcall/dump-wait"], "use revalidator/wait"),
];

/// Why a command is not offered; `None`: nobody knows it.
pub(super) fn why(name: &str) -> Option<&'static str> {
    ABSENT.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why)
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ABSENT.iter().flat_map(|(names, _)| names.iter().copied())
}
