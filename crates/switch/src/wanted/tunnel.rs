//! Which tunnel do the options of an interface ask for (ovs-vswitchd.conf.db(5), "Tunnel Options")?

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_flow::TunnelKind;
use weft_pipeline::{PacketTypes, TunnelAddr, TunnelByte, TunnelConfig, TunnelId};

/// The encapsulation behind an interface type.
pub(super) fn kind(type_name: &str) -> Option<TunnelKind> {
    Some(match type_name {
        "vxlan" => TunnelKind::Vxlan,
        "geneve" => TunnelKind::Geneve,
        "gre" => TunnelKind::Gre,
        _ => return None,
    })
}

/// Reads options; the error is what follows the interface's name in its `error` column.
pub(super) fn read(
    kind: TunnelKind,
    type_name: &str,
    options: &BTreeMap<&str, &str>,
) -> Result<TunnelConfig, String> {
    let bad = |option: &str| format!("bad {type_name} '{option}'");
    let remote = match options.get("remote_ip") {
        Some(&"flow") => TunnelAddr::Flow,
        Some(text) => match text.parse().ok().filter(is_peer) {
            Some(addr) => TunnelAddr::Addr(addr),
            None => return Err(bad("remote_ip")),
        },
        None => return Err(format!("{type_name} type requires valid 'remote_ip' argument")),
    };
    let mut config = TunnelConfig::new(kind, remote);
    config.local = match options.get("local_ip") {
        None => TunnelAddr::Any,
        Some(&"flow") if remote == TunnelAddr::Flow => TunnelAddr::Flow,
        Some(&"flow") => {
            return Err(format!("{type_name} type requires 'remote_ip=flow' with 'local_ip=flow'"));
        }
        Some(text) => TunnelAddr::Addr(text.parse().map_err(|_| bad("local_ip"))?),
    };
    if let (TunnelAddr::Addr(a), TunnelAddr::Addr(b)) = (config.local, remote)
        && a.is_ipv4() != b.is_ipv4()
    {
        return Err(format!("{type_name} type requires 'remote_ip' and 'local_ip' of one family"));
    }
    let max_key = if kind == TunnelKind::Gre { u64::from(u32::MAX) } else { 0xff_ffff };
    let key = |specific: &str| match options.get(specific).or_else(|| options.get("key")) {
        None | Some(&"") => Ok(TunnelId::None),
        Some(&"flow") => Ok(TunnelId::Flow),
        Some(text) => match integer(text).filter(|n| *n <= max_key) {
            Some(0) => Ok(TunnelId::None),
            Some(id) => Ok(TunnelId::Key(id)),
            None => Err(bad(specific)),
        },
    };
    (config.in_key, config.out_key) = (key("in_key")?, key("out_key")?);
    if let Some(text) = options.get("dst_port").filter(|_| kind != TunnelKind::Gre) {
        config.dst_port = text.parse().ok().filter(|p| *p != 0).ok_or_else(|| bad("dst_port"))?;
    }
    // The two lowest bits of TOS are ECN's, which is not ours to set.
    let is_whole = |tos: &TunnelByte| !matches!(tos, TunnelByte::Value(v) if v & 3 != 0);
    config.tos = byte(options.get("tos"), 0).filter(is_whole).ok_or_else(|| bad("tos"))?;
    config.ttl = match byte(options.get("ttl"), 64).ok_or_else(|| bad("ttl"))? {
        TunnelByte::Value(0) => TunnelByte::Value(64),
        ttl => ttl,
    };
    config.df = options.get("df_default") != Some(&"false");
    config.csum = options.get("csum") == Some(&"true");
    config.seq = kind == TunnelKind::Gre && options.get("seq") == Some(&"true");
    if kind == TunnelKind::Vxlan {
        for extension in options.get("exts").iter().flat_map(|text| text.split(',')) {
            match extension.trim() {
                "gbp" => config.gbp = true,
                "gpe" => config.gpe = true,
                "" => {}
                other => return Err(format!("unknown extension '{other}'")),
            }
        }
    }
    if let (TunnelKind::Vxlan | TunnelKind::Gre, Some(types)) = (kind, options.get("packet_type")) {
        config.packets = match *types {
            "legacy_l2" => PacketTypes::LegacyL2,
            "legacy_l3" => PacketTypes::LegacyL3,
            "ptap" => PacketTypes::Any,
            _ => return Err(bad("packet_type")),
        };
    }
    Ok(config)
}

/// TOS or TTL.
fn byte(option: Option<&&str>, default: u8) -> Option<TunnelByte> {
    Some(match option {
        None => TunnelByte::Value(default),
        Some(&"inherit") => TunnelByte::Inherit,
        Some(text) => TunnelByte::Value(u8::try_from(integer(text)?).ok()?),
    })
}

fn is_peer(addr: &IpAddr) -> bool {
    !addr.is_multicast() && !addr.is_unspecified()
}

/// A number, decimal or hexadecimal after `0x`.
pub(super) fn integer(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(type_name: &str, options: &[(&str, &str)]) -> Result<TunnelConfig, String> {
        let options: BTreeMap<&str, &str> = options.iter().copied().collect();
        read(kind(type_name).unwrap(), type_name, &options)
    }

    #[test]
    fn options_are_read() {
        let seed = parse("vxlan", &[("remote_ip", "192.168.1.20"), ("key", "1000")]).unwrap();
        assert_eq!(seed.remote, TunnelAddr::Addr("192.168.1.20".parse().unwrap()));
        assert_eq!((seed.in_key, seed.out_key), (TunnelId::Key(1000), TunnelId::Key(1000)));
        assert_eq!((seed.dst_port, seed.df, seed.ttl), (4789, true, TunnelByte::Value(64)));

        let flow = [
            ("remote_ip", "flow"),
            ("local_ip", "flow"),
            ("key", "flow"),
            ("dst_port", "8472"),
            ("exts", "gbp"),
        ];
        let flow = parse("vxlan", &flow).unwrap();
        assert_eq!(
            (flow.remote, flow.local, flow.in_key),
            (TunnelAddr::Flow, TunnelAddr::Flow, TunnelId::Flow)
        );
        assert!(flow.gbp && flow.dst_port == 8472);

        let six = [
            ("remote_ip", "fd00::2"),
            ("local_ip", "fd00::1"),
            ("in_key", "0x10"),
            ("tos", "inherit"),
            ("ttl", "0"),
            ("df_default", "false"),
            ("csum", "true"),
            ("seq", "true"),
        ];
        let six = parse("gre", &six).unwrap();
        assert_eq!((six.in_key, six.out_key, six.dst_port), (TunnelId::Key(16), TunnelId::None, 0));
        assert!(six.csum && six.seq && !six.df && six.tos == TunnelByte::Inherit);
    }

    /// Type, options, and the error they give.
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

    #[test]
    fn nonsense_is_refused() {
        let cases: &[Case] = &[
            ("vxlan", &[], "vxlan type requires valid 'remote_ip' argument"),
            ("vxlan", &[("remote_ip", "host")], "bad vxlan 'remote_ip'"),
            ("vxlan", &[("remote_ip", "224.0.0.1")], "bad vxlan 'remote_ip'"),
            ("vxlan", &[("remote_ip", "1.2.3.4"), ("key", "16777216")], "bad vxlan 'in_key'"),
            ("vxlan", &[("remote_ip", "1.2.3.4"), ("tos", "1")], "bad vxlan 'tos'"),
            ("vxlan", &[("remote_ip", "1.2.3.4"), ("exts", "foo")], "unknown extension 'foo'"),
            ("geneve", &[("remote_ip", "1.2.3.4"), ("dst_port", "0")], "bad geneve 'dst_port'"),
            ("geneve", &[("remote_ip", "1.2.3.4"), ("ttl", "256")], "bad geneve 'ttl'"),
        ];
        for (type_name, options, why) in cases {
            assert_eq!(parse(type_name, options).unwrap_err(), *why, "{options:?}");
        }
        assert!(parse("gre", &[("remote_ip", "1.2.3.4"), ("local_ip", "flow")]).is_err());
        assert!(parse("gre", &[("remote_ip", "1.2.3.4"), ("local_ip", "fd00::1")]).is_err());
        assert!(parse("gre", &[("remote_ip", "1.2.3.4"), ("key", "16777216")]).is_ok());
    }
}
