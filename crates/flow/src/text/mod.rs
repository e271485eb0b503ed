//! How do people write matches, actions and flows?
//!
//! The syntax of `ovs-ofctl` (`ovs-fields(7)`, `ovs-actions(7)`) for OpenFlow, and the one of `ovs-appctl dpctl` for
//! cached flows and datapath actions. Reading accepts what Open vSwitch 3.1 accepts; writing gives what it prints.

mod action_format;
mod action_parse;
mod controller;
mod ct;
mod encap;
mod error;
mod flow;
mod learn;
mod lex;
mod links;
mod match_format;
mod match_parse;
mod odp;
mod odp_action;
mod odp_action_parse;
mod odp_parse;
mod subfield;
mod value;

pub use action_format::{format_action, format_actions, format_instructions};
pub use action_parse::{parse_actions, parse_instructions};
pub use error::ParseError;
pub use flow::{FlowText, parse_addition, parse_flow};
pub use links::format_hash_fields;
pub use match_format::{format_key, format_match, format_megaflow};
pub use match_parse::{parse_key, parse_match};
pub use odp::{format_dp_flow, format_dp_flow_options, format_dp_flow_stats};
pub use odp_action::format_dp_actions;
pub use odp_action_parse::parse_dp_actions;
pub use odp_parse::parse_dp_flow;
pub use subfield::parse_subfield;

use crate::{OfPort, TlvTable};

/// Which of several ways of writing the same action is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `set_field:80->tcp_dst`, as for OpenFlow 1.5.
    #[default]
    OpenFlow15,
    /// `mod_tp_dst:80`, `load:0x1->NXM_NX_REG0[]`, as for OpenFlow 1.0 with the Nicira extensions.
    OpenFlow10,
}

/// What reading and writing depend on besides the text.
#[derive(Clone, Copy)]
pub struct Syntax<'a> {
    /// Number of the port with a name, as far as ports have names here.
    pub port_by_name: &'a dyn Fn(&str) -> Option<OfPort>,
    /// Name of a port, if it shall be written instead of its number.
    pub port_name: &'a dyn Fn(OfPort) -> Option<String>,
    /// How actions are written.
    pub style: Style,
    /// Which tunnel options the fields `tun_metadata0` to `tun_metadata63` are.
    pub tlv: &'a TlvTable,
}

/// The table that knows no option.
static NO_OPTIONS: TlvTable = TlvTable::new();

impl Default for Syntax<'_> {
    /// Ports are numbers.
    fn default() -> Self {
        Syntax { port_by_name: &|_| None, port_name: &|_| None, style: Style::default(), tlv: &NO_OPTIONS }
    }
}

impl<'a> Syntax<'a> {
    /// Ports may be named in what is read, and are numbers in what is written.
    pub fn reading(port_by_name: &'a dyn Fn(&str) -> Option<OfPort>) -> Self {
        Syntax { port_by_name, ..Syntax::default() }
    }
    /// Ports are written by name.
    pub fn writing(port_name: &'a dyn Fn(OfPort) -> Option<String>) -> Self {
        Syntax { port_name, ..Syntax::default() }
    }

    /// Reads a port: a number of 16 or 32 bits, a reserved name in any case, or the name of a port (in quotes if it
    /// must be).
    pub fn parse_port(&self, text: &str) -> Option<OfPort> {
        if let Some(n) = value::number(text) {
            let n = u32::try_from(n).ok()?;
            return match n {
                // OpenFlow 1.0's numbers of the reserved ports.
                0..=0xffff => Some(OfPort::from_u16(n as u16)),
                0xffff_ff00.. => Some(OfPort(n)),
                _ => None,
            };
        }
        let reserved = (0xffff_fff7..=u32::MAX)
            .map(OfPort)
            .chain([OfPort::ANY])
            .find(|p| p.reserved_name().is_some_and(|name| name.eq_ignore_ascii_case(text)));
        if reserved.is_some() {
            return reserved;
        }
        if text.eq_ignore_ascii_case("none") {
            return Some(OfPort::ANY);
        }
        let name = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        (self.port_by_name)(name)
    }

    /// Writes a port.
    pub(crate) fn port(&self, port: OfPort) -> String {
        if let Some(name) = port.reserved_name() {
            return name.to_owned();
        }
        match (self.port_name)(port) {
            Some(name) if needs_quotes(&name) => format!("{name:?}"),
            Some(name) => name,
            None => port.0.to_string(),
        }
    }
}

/// Whether a name could be mistaken for something else: anything but a C identifier.
fn needs_quotes(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    !first || chars.any(|c| !c.is_ascii_alphanumeric() && c != '_')
}
