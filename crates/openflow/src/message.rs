//! Which messages are there, in every version?

use weft_flow::OfPort;

use crate::error::ErrorMessage;
use crate::msg::bundle::{BundleAdd, BundleControl};
use crate::msg::control::{AsyncConfig, FlowFormat, RoleMessage};
use crate::msg::ct_flush::CtFlush;
use crate::msg::flow::FlowMod;
use crate::msg::flow_removed::FlowRemoved;
use crate::msg::group::GroupMod;
use crate::msg::handshake::{Features, Hello, SwitchConfig};
use crate::msg::meter::MeterMod;
use crate::msg::notify::{ControllerStatus, RoleStatus};
use crate::msg::packet_in::{PacketIn, PacketInFormat};
use crate::msg::packet_out::PacketOut;
use crate::msg::port::{PortMod, PortStatus};
use crate::msg::queue::QueueConfig;
use crate::msg::table::{TableMod, TableStatus};
use crate::msg::tlv::{TlvTableMod, TlvTableReply};
use crate::stats::{MultipartReply, MultipartRequest};

/// A message of OpenFlow or of the Nicira extensions, whatever the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message of either end.
    Hello(Hello),
    /// Something went wrong.
    Error(ErrorMessage),
    /// Are you there? With bytes to send back.
    EchoRequest(Vec<u8>),
    /// Yes, with the bytes of the request.
    EchoReply(Vec<u8>),
    /// Who are you and what can you do?
    FeaturesRequest,
    /// Answer to that.
    FeaturesReply(Features),
    /// How are fragments and misses treated?
    GetConfigRequest,
    /// Answer to that.
    GetConfigReply(SwitchConfig),
    /// Treat fragments and misses so.
    SetConfig(SwitchConfig),
    /// A packet for the controller.
    PacketIn(Box<PacketIn>),
    /// A rule went.
    FlowRemoved(Box<FlowRemoved>),
    /// A port changed.
    PortStatus(Box<PortStatus>),
    /// A packet from the controller.
    PacketOut(Box<PacketOut>),
    /// Change of the flow tables.
    FlowMod(Box<FlowMod>),
    /// Change of a group (OpenFlow 1.1; Nicira extension in 1.0).
    GroupMod(Box<GroupMod>),
    /// Change of a meter (OpenFlow 1.3).
    MeterMod(Box<MeterMod>),
    /// Change of a port.
    PortMod(PortMod),
    /// Change of a table's configuration (OpenFlow 1.1).
    TableMod(TableMod),
    /// Question with a long answer.
    MultipartRequest(MultipartRequest),
    /// Answer to that, or a part of it.
    MultipartReply(MultipartReply),
    /// Tell me when everything before is done.
    BarrierRequest,
    /// It is.
    BarrierReply,
    /// Change my role.
    RoleRequest(RoleMessage),
    /// Your role is.
    RoleReply(RoleMessage),
    /// Which asynchronous messages do I get (OpenFlow 1.3)?
    GetAsyncRequest,
    /// Answer to that.
    GetAsyncReply(AsyncConfig),
    /// Send me these asynchronous messages.
    SetAsync(AsyncConfig),
    /// Your role changed without your asking (OpenFlow 1.4; ONF extension in 1.3).
    RoleStatus(RoleStatus),
    /// A table fills up, or empties (OpenFlow 1.4).
    TableStatus(TableStatus),
    /// Another controller changed a group or a meter: its message, header included (OpenFlow 1.4; extensions before).
    RequestForward(Vec<u8>),
    /// A controller came, went or changed (OpenFlow 1.5).
    ControllerStatus(ControllerStatus),
    /// Which queues has a port (up to OpenFlow 1.3)?
    QueueGetConfigRequest(OfPort),
    /// Answer to that.
    QueueGetConfigReply(QueueConfig),
    /// Tell nothing more to this flow monitor (Nicira in 1.0, ONF in 1.3).
    FlowMonitorCancel(u32),
    /// Too much waits: changes of rules are not told for now (Nicira in 1.0, ONF in 1.3).
    FlowMonitorPaused,
    /// What changed meanwhile was told.
    FlowMonitorResumed,
    /// A step in the life of a bundle (OpenFlow 1.4; ONF extension in 1.3).
    BundleControl(BundleControl),
    /// A message for a bundle.
    BundleAdd(BundleAdd),
    /// Write matches so (Nicira, OpenFlow 1.0).
    SetFlowFormat(FlowFormat),
    /// The high byte of a flow-mod's command is a table (Nicira, OpenFlow 1.0).
    FlowModTableId(bool),
    /// Write packet-ins so (Nicira).
    SetPacketInFormat(PacketInFormat),
    /// I am controller number … (Nicira).
    SetControllerId(u16),
    /// Let a paused packet go on (Nicira).
    Resume(Box<PacketIn>),
    /// Change which tunnel options are which fields (Nicira).
    TlvTableMod(TlvTableMod),
    /// Which tunnel options are which fields (Nicira)?
    TlvTableRequest,
    /// Answer to that.
    TlvTableReply(TlvTableReply),
    /// Forget the tracked connections of a zone (Nicira).
    CtFlushZone(u16),
    /// Forget tracked connections (Nicira).
    CtFlush(Box<CtFlush>),
    /// Tell idle times of rules from now on (Nicira); they are always told.
    FlowAge,
}

impl Message {
    /// Name as the standard spells it, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Hello(_) => "OFPT_HELLO",
            Message::Error(_) => "OFPT_ERROR",
            Message::EchoRequest(_) => "OFPT_ECHO_REQUEST",
            Message::EchoReply(_) => "OFPT_ECHO_REPLY",
            Message::FeaturesRequest => "OFPT_FEATURES_REQUEST",
            Message::FeaturesReply(_) => "OFPT_FEATURES_REPLY",
            Message::GetConfigRequest => "OFPT_GET_CONFIG_REQUEST",
            Message::GetConfigReply(_) => "OFPT_GET_CONFIG_REPLY",
            Message::SetConfig(_) => "OFPT_SET_CONFIG",
            Message::PacketIn(_) => "OFPT_PACKET_IN",
            Message::FlowRemoved(_) => "OFPT_FLOW_REMOVED",
            Message::PortStatus(_) => "OFPT_PORT_STATUS",
            Message::PacketOut(_) => "OFPT_PACKET_OUT",
            Message::FlowMod(_) => "OFPT_FLOW_MOD",
            Message::GroupMod(_) => "OFPT_GROUP_MOD",
            Message::MeterMod(_) => "OFPT_METER_MOD",
            Message::PortMod(_) => "OFPT_PORT_MOD",
            Message::TableMod(_) => "OFPT_TABLE_MOD",
            Message::MultipartRequest(_) => "OFPT_MULTIPART_REQUEST",
            Message::MultipartReply(_) => "OFPT_MULTIPART_REPLY",
            Message::BarrierRequest => "OFPT_BARRIER_REQUEST",
            Message::BarrierReply => "OFPT_BARRIER_REPLY",
            Message::RoleRequest(_) => "OFPT_ROLE_REQUEST",
            Message::RoleReply(_) => "OFPT_ROLE_REPLY",
            Message::GetAsyncRequest => "OFPT_GET_ASYNC_REQUEST",
            Message::GetAsyncReply(_) => "OFPT_GET_ASYNC_REPLY",
            Message::SetAsync(_) => "OFPT_SET_ASYNC",
            Message::RoleStatus(_) => "OFPT_ROLE_STATUS",
            Message::TableStatus(_) => "OFPT_TABLE_STATUS",
            Message::RequestForward(_) => "OFPT_REQUESTFORWARD",
            Message::ControllerStatus(_) => "OFPT_CONTROLLER_STATUS",
            Message::QueueGetConfigRequest(_) => "OFPT_QUEUE_GET_CONFIG_REQUEST",
            Message::QueueGetConfigReply(_) => "OFPT_QUEUE_GET_CONFIG_REPLY",
            Message::FlowMonitorCancel(_) => "NXT_FLOW_MONITOR_CANCEL",
            Message::FlowMonitorPaused => "NXT_FLOW_MONITOR_PAUSED",
            Message::FlowMonitorResumed => "NXT_FLOW_MONITOR_RESUMED",
            Message::BundleControl(_) => "OFPT_BUNDLE_CONTROL",
            Message::BundleAdd(_) => "OFPT_BUNDLE_ADD_MESSAGE",
            Message::SetFlowFormat(_) => "NXT_SET_FLOW_FORMAT",
            Message::FlowModTableId(_) => "NXT_FLOW_MOD_TABLE_ID",
            Message::SetPacketInFormat(_) => "NXT_SET_PACKET_IN_FORMAT",
            Message::SetControllerId(_) => "NXT_SET_CONTROLLER_ID",
            Message::Resume(_) => "NXT_RESUME",
            Message::TlvTableMod(_) => "NXT_TLV_TABLE_MOD",
            Message::TlvTableRequest => "NXT_TLV_TABLE_REQUEST",
            Message::TlvTableReply(_) => "NXT_TLV_TABLE_REPLY",
            Message::CtFlushZone(_) => "NXT_CT_FLUSH_ZONE",
            Message::CtFlush(_) => "NXT_CT_FLUSH",
            Message::FlowAge => "NXT_FLOW_AGE",
        }
    }
}
