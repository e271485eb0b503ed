//! Protocols that announce connections: FTP and TFTP, through the firewall and through translation.

use crate::hosts::{Service, Site};
use crate::{FAMILIES, Family, NEIGHBOURS, neighbour, site};

/// Only control connections may begin; data connections pass because they are related.
fn rules(zone: u16, nat: Option<&str>) -> String {
    let (first, later) = match nat {
        Some(to) => (format!("nat(src={to}),"), "nat,"),
        None => (String::new(), ""),
    };
    let mut text = NEIGHBOURS.to_owned();
    for (ip, tcp, udp) in [("ip", "tcp", "udp"), ("ipv6", "tcp6", "udp6")] {
        // A translation is of one family.
        if nat.is_some_and(|n| n.contains(':') != (ip == "ipv6")) {
            continue;
        }
        text.push_str(&format!(
            "table=0,priority=10,{ip},actions=ct({later}table=1,zone={zone})
table=1,priority=20,{tcp},ct_state=+trk+new,in_port=1,tp_dst=21,actions=ct(commit,{first}alg=ftp,zone={zone},table=2)
table=1,priority=20,{udp},ct_state=+trk+new,in_port=1,tp_dst=69,actions=ct(commit,{first}alg=tftp,zone={zone},table=2)
table=1,priority=15,{ip},ct_state=+trk+new+rel,actions=ct(commit,{later}zone={zone},table=2)
table=1,priority=10,{ip},ct_state=+trk+est,actions=goto_table:2
table=1,priority=10,{ip},ct_state=+trk+rel,actions=goto_table:2
table=2,{ip},in_port=1,actions=output:2
table=2,{ip},in_port=2,actions=output:1
"
        ));
    }
    text
}

fn ftp_server(site: &Site) -> Service {
    let root = site.switch.path("ftp");
    std::fs::create_dir_all(&root).expect("a directory");
    std::fs::write(root.join("file"), vec![b'f'; 100_000]).expect("a file");
    let config = site.switch.path("vsftpd.conf");
    let text = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\nrun_as_launching_user=NO\nsecure_chroot_dir={}\nseccomp_sandbox=NO\nconnect_from_port_20=YES\n",
        root.display(),
        root.display()
    );
    std::fs::write(&config, text).expect("a configuration");
    let service = site.serve(2, &format!("/usr/sbin/vsftpd {}", config.display()));
    site.switch.wait_for("the FTP server answers", |_| {
        site.try_on(2, "curl -sS -m 2 -o /dev/null ftp://127.0.0.1/file").code == 0
    });
    service
}

/// Fetches the file with these options of curl, and checks its length.
fn fetch(site: &Site, family: Family, options: &str) {
    let line = format!(
        "curl -gsS -m 5 {options} -o /dev/null -w '%{{size_download}}' ftp://{}/file",
        family.bracketed(2)
    );
    let said = site.try_on(1, &line);
    let dump = site.switch.ok("ovs-appctl dpctl/dump-conntrack");
    assert_eq!((said.code, said.out.as_str()), (0, "100000"), "{family:?} {options}: {}\n{dump}", said.err);
}

#[test]
fn ftp_through_the_firewall() {
    let site = site(2);
    let _server = ftp_server(&site);
    site.rules(&rules(21, None));
    site.switch.wait_for("the control connection is let through", |_| {
        site.try_on(1, "curl -sS -m 2 -o /dev/null ftp://10.0.0.2/file").code == 0
    });
    // Extended passive, passive, extended active, active.
    for family in FAMILIES {
        fetch(&site, family, "");
        fetch(&site, family, "--ftp-port -");
    }
    fetch(&site, FAMILIES[0], "--disable-epsv");
    fetch(&site, FAMILIES[0], "--disable-eprt --ftp-port -");
}

#[test]
fn ftp_through_translation() {
    let site = site(2);
    let _server = ftp_server(&site);
    for family in FAMILIES {
        neighbour(&site, 2, &family.addr(100), 1);
        site.rules(&rules(22, Some(&family.addr(100))));
        let url = format!("ftp://{}/file", family.bracketed(2));
        site.switch.wait_for("the control connection is let through", |_| {
            site.try_on(1, &format!("curl -gsS -m 2 -o /dev/null {url}")).code == 0
        });
        fetch(&site, family, "");
        // The client's own address in its command has to be translated as well.
        fetch(&site, family, "--ftp-port -");
    }
    fetch_v4_old(&site);
}

/// PORT and PASV, which carry IPv4 addresses in six numbers.
fn fetch_v4_old(site: &Site) {
    site.rules(&rules(23, Some("10.0.0.100")));
    fetch(site, FAMILIES[0], "--disable-eprt --ftp-port -");
    fetch(site, FAMILIES[0], "--disable-epsv");
}

#[test]
fn tftp_through_the_firewall() {
    let site = site(2);
    let root = site.switch.path("tftp");
    std::fs::create_dir_all(&root).expect("a directory");
    std::fs::write(root.join("file"), vec![b't'; 20_000]).expect("a file");
    for path in [site.switch.path(""), root.clone()] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, open).expect("readable to the server");
    }
    let _server = site.serve(2, &format!("/usr/sbin/in.tftpd -L -s {}", root.display()));
    site.rules(&rules(24, None));
    let got = |family: Family| {
        let line = format!(
            "curl -gsS -m 3 -o /dev/null -w '%{{size_download}}' tftp://{}/file",
            family.bracketed(2)
        );
        site.try_on(1, &line).out == "20000"
    };
    for family in FAMILIES {
        site.switch.wait_for("the file comes", |_| got(family));
    }
}
