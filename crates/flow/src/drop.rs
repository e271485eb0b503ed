//! Why does a packet die? One enum that counters, command line, trace and tests all speak.

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $text:literal,)*) => {
        /// A reason for which a packet is not forwarded (any further).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }
        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            /// Number of reasons: the length of an array of counters.
            pub const COUNT: usize = Self::ALL.len();
            /// Stable name, kebab case: what counters, JSON and tests use.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }
            /// One sentence for people.
            pub fn describe(self) -> &'static str {
                match self { $(DropReason::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    // Tables and actions.
    TableMiss "table-miss" "No rule matched and the table's miss action is to drop.",
    RuleDrop "rule-drop" "A rule matched whose actions send the packet nowhere.",
    TtlExceeded "ttl-exceeded" "The time to live ran out.",
    ResubmitTooDeep "resubmit-too-deep" "The rules resubmit to each other too deeply.",
    TooManyResubmits "too-many-resubmits" "The rules resubmit one packet too many times.",
    BadAction "bad-action" "An action does not fit the packet.",
    MeterExceeded "meter-exceeded" "A meter's rate was exceeded and its band drops.",
    PacketType "packet-type" "The port, or the action, does not take packets of this type.",
    GroupGone "group-gone" "The rule sends to a group that does not exist.",
    GroupNoBucket "group-no-bucket" "No bucket of the group is live.",
    RecircGone "recirc-gone" "The frozen walk that the packet resumes is no longer known.",
    Paused "paused" "The packet waits for a controller to resume it.",
    // Connection tracking.
    CtTableFull "ct-table-full" "The connection table is full.",
    CtZoneFull "ct-zone-full" "The zone's limit of connections is reached.",
    NatExhausted "nat-exhausted" "No address and port is left to translate to.",
    CtFragment "ct-fragment" "A fragment overlapped, was too many, or its datagram was not complete in time.",
    // NORMAL switching.
    InputVlanNotAllowed "input-vlan-not-allowed" "The input port does not carry this VLAN.",
    TaggedOnAccessPort "tagged-on-access-port" "A tagged frame came in by an access port.",
    HairpinRefused "hairpin-refused" "The destination was learned on the input port.",
    ReservedMulticast "reserved-multicast" "A link-local multicast (01:80:c2:00:00:0x) is not forwarded.",
    NoOtherPort "no-other-port" "Flooding found no other port in the VLAN.",
    LoopSuspected "loop-suspected" "The frame came back by a port of a bond or a mirror's output.",
    // Ports.
    PortDown "port-down" "The output port is down or has no carrier.",
    PortGone "port-gone" "The output port no longer exists.",
    PortNoForward "port-no-forward" "The port is configured not to forward.",
    PortNoReceive "port-no-receive" "The port is configured not to receive.",
    PolicingExceeded "policing-exceeded" "The input port's ingress policing rate was exceeded.",
    MtuExceeded "mtu-exceeded" "The frame is larger than the output port's MTU and may not be cut.",
    TxQueueFull "tx-queue-full" "The output queue was full.",
    TxError "tx-error" "The kernel refused the frame.",
    FailSecure "fail-secure" "No controller, and the bridge's fail-mode is secure.",
    NotAttached "not-attached" "The port belongs to no bridge.",
    // Frames.
    MalformedFrame "malformed-frame" "The frame is too short or its headers contradict each other.",
    BadOffloadHeader "bad-offload-header" "The virtio_net_hdr does not fit the frame.",
    FrameTooLong "frame-too-long" "The frame is longer than the datapath carries.",
    // Tunnels.
    TunnelWrongVni "tunnel-wrong-vni" "No tunnel port takes this VNI or key.",
    TunnelWrongPeer "tunnel-wrong-peer" "No tunnel port takes this peer or local address.",
    TunnelMalformed "tunnel-malformed" "The tunnel header is malformed or truncated.",
    TunnelFlags "tunnel-flags" "The tunnel header sets flags that the port's options do not allow.",
    TunnelUnknownCritical "tunnel-unknown-critical" "A Geneve option marked critical is not known (RFC 8926 §3.5.1).",
    TunnelBadChecksum "tunnel-bad-checksum" "The outer checksum is wrong.",
    TunnelNoRemote "tunnel-no-remote" "The port is remote_ip=flow and no rule set the remote address.",
    TunnelNoRoute "tunnel-no-route" "No route leads to the remote address.",
    TunnelNeighbourPending "tunnel-neighbour-pending" "The next hop's link-layer address is not resolved yet.",
    TunnelEcn "tunnel-ecn" "The outer header is marked for congestion and the inner packet cannot be (RFC 6040 §4.2).",
    TunnelLoop "tunnel-loop" "The encapsulated packet would leave by the tunnel it is in.",
    // Limits of the switch itself.
    UpcallOverload "upcall-overload" "More packets missed the cache than may be handled.",
    RecursionTooDeep "recursion-too-deep" "The packet crossed too many bridges or tunnels.",
    ControllerUnreachable "controller-unreachable" "The packet was for a controller and none is connected.",
    ControllerRateLimited "controller-rate-limited" "The packet was for a controller that takes no more now.",
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
