//! How are frames given to the switch's ports, and which come out?
//!
//! Each port is one end of a veth pair; the test holds the other by a packet socket. Marked frames sent behind the one
//! in question tell when that has left every port: one lane forwards batch after batch. There are two marks, one after
//! the other, because flows of one batch may overtake each other.

use std::time::{Duration, Instant};

use weft_host::netlink::{Netlink, VethEnd};
use weft_host::netns::NetNs;
use weft_host::packet::{PacketOptions, PacketRx, PacketSocket, PacketTx};

/// EtherType of the marked frames.
pub(crate) const MARK: u16 = 0x88b5;

/// The test's ends of the ports, number 1 first.
pub(crate) struct Wires {
    sockets: Vec<PacketSocket>,
    rx: PacketRx,
    tx: PacketTx,
    marks: u32,
}

impl Wires {
    /// Makes `p1`… for the switch and holds the other ends. The devices are silent by themselves.
    pub(crate) fn make(ns: &str, ports: usize) -> Wires {
        let open = |ns: &NetNs| {
            let mut netlink = Netlink::open().expect("netlink");
            let mut sockets = Vec::new();
            for n in 1..=ports {
                let (near, far) = (format!("p{n}"), format!("x{n}"));
                for key in ["default", "all"] {
                    ns.sysctl(&format!("net.ipv6.conf.{key}.disable_ipv6"), "1").expect("no IPv6 of its own");
                }
                netlink.add_veth(&VethEnd::named(&near), &VethEnd::named(&far)).expect("veth");
                for name in [&near, &far] {
                    let index = netlink.index_of(name).expect("index");
                    netlink.set_up(index, true).expect("up");
                }
                let index = netlink.index_of(&far).expect("index");
                let options = PacketOptions { vnet_hdr: false, ..PacketOptions::default() };
                sockets.push(PacketSocket::open(index, &options).expect("packet socket"));
            }
            sockets
        };
        let ns = NetNs::open(ns).expect("namespace");
        let sockets = ns.run(|| open(&ns)).expect("inside");
        Wires { sockets, rx: PacketRx::new(32), tx: PacketTx::new(1), marks: 0 }
    }

    /// Sends a frame into port `port`.
    pub(crate) fn send(&mut self, port: usize, frame: &[u8]) {
        let sent = self.sockets[port - 1].send(&mut self.tx, &[frame]).expect("send");
        assert_eq!(sent, 1);
    }

    /// Everything that came out of each port before marked frames sent into `port` now, which the rules send to all
    /// but the `silent` ports.
    pub(crate) fn drain(&mut self, port: usize, silent: &[usize]) -> Result<Vec<(usize, Vec<u8>)>, String> {
        let mut out = self.until_mark(port, silent)?;
        out.extend(self.until_mark(port, silent)?);
        Ok(out)
    }

    fn until_mark(&mut self, port: usize, silent: &[usize]) -> Result<Vec<(usize, Vec<u8>)>, String> {
        self.marks += 1;
        let mut mark = vec![0xff; 6];
        mark.extend([2, 0, 0, 0, 0, 0xee]);
        mark.extend(MARK.to_be_bytes());
        mark.extend(self.marks.to_be_bytes());
        mark.resize(60, 0);
        self.send(port, &mark);
        let mut out = Vec::new();
        let until = Instant::now() + Duration::from_secs(30);
        for n in 1..=self.sockets.len() {
            loop {
                match self.receive(n) {
                    Some(frame) if frame.get(12..18) == mark.get(12..18) => break,
                    Some(frame) if frame.get(12..14) == Some(&MARK.to_be_bytes()[..]) => {}
                    Some(frame) => out.push((n, frame)),
                    None if silent.contains(&n) => break,
                    None if Instant::now() > until => {
                        return Err(format!("the mark does not come out of port {n}"));
                    }
                    None => std::thread::sleep(Duration::from_micros(200)),
                }
            }
        }
        Ok(out)
    }

    fn receive(&mut self, port: usize) -> Option<Vec<u8>> {
        let mut bufs = [vec![0u8; 4096]];
        let n = self.sockets[port - 1].recv(&mut self.rx, &mut bufs).ok()?;
        assert_eq!(n, 1);
        let info = self.rx.info(0);
        let mut frame = std::mem::take(&mut bufs[0]);
        frame.truncate(info.len);
        if let Some(tag) = info.vlan {
            let bytes = [tag.tpid.to_be_bytes(), tag.tci.to_be_bytes()].concat();
            frame.splice(12..12, bytes);
        }
        Some(frame)
    }
}
