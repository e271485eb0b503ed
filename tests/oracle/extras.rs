//! Which further actions and fields do generated rules have? Those that Open vSwitch got after its first years.

use super::{Any, BIT, IPS, Ip, LABELS, LEARNED, MACS, Maker, Mpls, TABLES, Tcp, Udp};

impl Maker<'_> {
    /// Fields beyond those of packets.
    pub(super) fn newer_fields(&mut self) -> Vec<String> {
        let d = &mut *self.dice;
        let mut f = vec![
            format!("xxreg0={:#x}/0xf", d.below(3)),
            format!("xxreg1={:#x}/{:#x}", u128::from(d.below(2)) << 32, 0xf_u128 << 32),
            format!("tun_metadata0={:#x}", d.below(2)),
            "tun_metadata0=0x1/0x1".to_owned(),
            format!("tun_id={}", d.pick(&[0, 5])),
        ];
        if self.class.v4() {
            f.push(format!("ct_state=+trk-inv,ct_nw_src={}", d.pick(&IPS)));
            f.push("ct_state=+trk-inv,ct_nw_dst=10.0.0.0/16,ct_nw_proto=6".to_owned());
            f.push(format!("ct_zone={}", d.below(2)));
        }
        f
    }

    /// One of twelve kinds of actions.
    pub(super) fn newer(&mut self, choice: u64) -> String {
        match choice {
            0 if self.dice.once_in(2) => "exit".to_owned(),
            1 if self.class.l4() == Some("tcp") => {
                "fin_timeout(idle_timeout=3000,hard_timeout=6000)".to_owned()
            }
            2 => self.options(),
            3 => self.long_registers(),
            4 => format!(
                "sample(probability={},collector_set_id={},obs_domain_id=2,obs_point_id={})",
                self.dice.pick(&[1, 30_000, 65_535]),
                self.dice.pick(&[1, 1, 2]),
                self.dice.below(4)
            ),
            5 if self.depth == 0 && self.dice.once_in(2) => "controller(pause)".to_owned(),
            6 => self.headers_around(),
            7 | 11 => self.mpls(),
            8 if self.table < BIT => format!("resubmit(,{BIT})"),
            9 if self.learns => self.learn(),
            10 if self.learns && self.table < LEARNED => format!("resubmit(,{LEARNED})"),
            _ => String::new(),
        }
    }

    /// Options of tunnels, which a packet may have without a tunnel.
    fn options(&mut self) -> String {
        match self.dice.below(4) {
            0 | 1 => format!("set_field:{:#x}->tun_metadata0", self.dice.below(3)),
            2 => "delete_field:tun_metadata0".to_owned(),
            _ => "move:NXM_NX_TUN_METADATA0[0..15]->NXM_NX_REG0[0..15]".to_owned(),
        }
    }

    fn long_registers(&mut self) -> String {
        match self.dice.below(4) {
            0 => format!("set_field:{:#x}/0xf->xxreg0", self.dice.below(3)),
            1 => "move:NXM_NX_XXREG0[0..31]->NXM_NX_XXREG1[32..63]".to_owned(),
            2 => format!("set_field:{:#x}->xxreg1", u128::from(self.dice.below(3)) << 32),
            _ => format!("set_field:{:#x}->xreg0", self.dice.below(3) << 32 | self.dice.below(3)),
        }
    }

    /// Headers put around the packet, and taken off.
    fn headers_around(&mut self) -> String {
        let si = self.dice.below(3);
        let mac = *self.dice.pick(&MACS);
        let to = self.port();
        let nsh = format!("encap(nsh(md_type=1)),set_field:0x1234->nsh_spi,set_field:{si}->nsh_si");
        match self.dice.below(5) {
            0 => format!("clone({nsh},encap(ethernet),set_field:{mac}->eth_dst,output:{to})"),
            1 if self.depth == 0 => {
                (self.class, self.tags) = (Any, 0);
                format!("{nsh},encap(ethernet),set_field:{mac}->eth_dst")
            }
            2 => format!("clone(decap(),encap(ethernet),set_field:{mac}->eth_src,output:{to})"),
            3 => format!("clone({nsh},decap(),output:{to})"),
            _ => format!("clone(decap(),{nsh},encap(ethernet),output:{to})"),
        }
    }

    /// Rules for the last table. Those of one kind have one priority, and differ in what they match.
    pub(super) fn learn(&mut self) -> String {
        let head = format!("learn(table={LEARNED},idle_timeout=6000");
        match self.dice.below(4) {
            0 if self.class.v4() => format!(
                "{head},priority=1001,cookie=0x99,delete_learned,eth_type=0x800,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],\
                 load:NXM_OF_IN_PORT[]->NXM_NX_REG2[0..15],output:NXM_OF_IN_PORT[])"
            ),
            1 => format!(
                "{head},priority=1002,limit=2,result_dst=NXM_NX_REG3[0],NXM_OF_VLAN_TCI[0..11],\
                 load:{:#x}->NXM_NX_REG1[0..3],output:NXM_NX_REG2[0..15])",
                self.dice.below(3)
            ),
            2 => format!(
                "{head},priority=1003,fin_idle_timeout=3000,in_port=2,NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"
            ),
            _ => format!("{head},priority=1000,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"),
        }
    }

    pub(super) fn ct(&mut self) -> String {
        let zone = self.dice.below(3);
        let onward = self.table + 1 < TABLES;
        match self.dice.below(6) {
            0 => format!("ct(commit,zone={zone})"),
            1 => format!("ct(commit,zone={zone},exec(set_field:{}->ct_mark))", self.dice.below(4)),
            2 if self.class.v4() => format!("ct(commit,zone={zone},nat(src=10.0.0.100-10.0.0.110))"),
            4 => "ct(commit,force,zone=NXM_NX_REG0[0..15],exec(move:NXM_NX_REG1[]->NXM_NX_CT_MARK[]))"
                .to_owned(),
            _ if onward && self.depth == 0 => format!("ct(table={},zone={zone})", self.table + 1),
            _ => "ct_clear".to_owned(),
        }
    }

    pub(super) fn choose_link(&mut self) -> String {
        let fields =
            *self.dice.pick(&["eth_src", "symmetric_l4", "symmetric_l3l4", "nw_src", "symmetric_l3"]);
        match self.dice.below(3) {
            0 => {
                let algorithm = *self.dice.pick(&["modulo_n", "hash_threshold", "hrw", "iter_hash"]);
                format!("multipath({fields},50,{algorithm},3,0,NXM_NX_REG2[0..15])")
            }
            1 => format!(
                "bundle({fields},7,{},ofport,members:1,2,3)",
                self.dice.pick(&["hrw", "active_backup"])
            ),
            _ => format!("bundle_load({fields},7,hrw,ofport,NXM_NX_REG2[0..15],members:4,5)"),
        }
    }

    pub(super) fn mpls(&mut self) -> String {
        match self.class {
            Mpls => match self.dice.below(6) {
                0 => format!("set_field:{}->mpls_label", self.dice.pick(&LABELS)),
                1 => "dec_mpls_ttl".to_owned(),
                2 => {
                    self.bottom = false;
                    "push_mpls:0x8847".to_owned()
                }
                3 if !self.bottom => "pop_mpls:0x8847".to_owned(),
                // Of several labels Open vSwitch takes all off.
                4 if self.bottom => {
                    self.class = Ip;
                    "pop_mpls:0x0800".to_owned()
                }
                _ => "set_field:3->mpls_tc".to_owned(),
            },
            Ip | Tcp | Udp if self.depth == 0 => {
                self.class = Mpls;
                "push_mpls:0x8847,set_field:17->mpls_label".to_owned()
            }
            _ => String::new(),
        }
    }
}
