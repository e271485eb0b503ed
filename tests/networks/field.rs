//! A node as its user has it: a switch, `weft agent` beside it, the command line, and namespaces to plug in.
#![allow(dead_code, reason = "each test target uses a part")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use weft_host::netns::NetNs;

use crate::hosts::{Service, Site};
use crate::support::{Kind, Said};

/// The command line's program.
pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// A node with an agent.
pub(crate) struct Field {
    pub(crate) site: Site,
    node: String,
    spaces: Vec<String>,
}

impl Field {
    /// A switch with its agent, and hosts whose cables are on no port.
    pub(crate) fn start(kind: Kind, hosts: usize) -> Field {
        Field::node(kind, hosts, "here")
    }

    /// The same, of a node of this name.
    pub(crate) fn node(kind: Kind, hosts: usize, node: &str) -> Field {
        let site = Site::unplugged(kind, hosts);
        let mut field = Field { site, node: node.to_owned(), spaces: Vec::new() };
        field.agent();
        field
    }

    /// Starts an agent.
    pub(crate) fn agent(&mut self) {
        let dir = self.site.switch.path("");
        let datapath = if self.site.switch.kind == Kind::Ovs { "netdev" } else { "" };
        self.site.switch.daemon(&[
            WEFT,
            "agent",
            &format!("--node={}", self.node),
            &format!("--rundir={}", dir.display()),
            &format!("--store={}", dir.join("agent.redb").display()),
            &format!("--socket={}", self.socket().display()),
            &format!("--datapath-type={datapath}"),
        ]);
        self.site.switch.wait_for("the agent answers", |_| self.weft("status").code == 0);
    }

    /// Where the agent answers.
    pub(crate) fn socket(&self) -> PathBuf {
        self.site.switch.path("api.sock")
    }

    /// Runs `weft` with these words.
    pub(crate) fn weft(&self, words: &str) -> Said {
        self.site.switch.run(&format!("{WEFT} {words} --socket {}", self.socket().display()))
    }

    /// Runs `weft`, which must succeed.
    pub(crate) fn ok(&self, words: &str) -> String {
        let said = self.weft(words);
        assert_eq!(said.code, 0, "weft {words}: {}{}\n{}", said.out, said.err, self.site.switch.logs());
        said.out.trim_end().to_owned()
    }

    /// Says what is wanted.
    pub(crate) fn apply(&self, yaml: &str) {
        let file = self.file("wanted.yaml", yaml);
        self.ok(&format!("apply -f {}", file.display()));
    }

    /// A file with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.site.switch.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// A resource as JSON.
    pub(crate) fn json(&self, kind: &str, name: &str) -> serde_json::Value {
        let list: serde_json::Value =
            serde_json::from_str(&self.ok(&format!("get {kind} {name} -o json"))).expect("JSON");
        list[0].clone()
    }

    /// Waits until packets of a port pass.
    pub(crate) fn ready(&self, port: &str) {
        self.wait(&format!("port {port} is ready"), |f| f.json("port", port)["status"]["phase"] == "Ready");
    }

    /// The full name of a namespace of this node; `ip netns` knows it by that.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.site.switch.ns)
    }

    /// Makes a namespace.
    pub(crate) fn space(&mut self, name: &str) -> String {
        let full = self.name(name);
        NetNs::create(&full).expect("a namespace");
        self.spaces.push(full.clone());
        self.inside(name, "ip link set lo up");
        full
    }

    /// Runs a command in a namespace and tells how it went.
    pub(crate) fn try_inside(&self, name: &str, line: &str) -> Said {
        self.site.switch.run(&format!("nsenter --net=/run/netns/{} {line}", self.name(name)))
    }

    /// Runs a command in a namespace; it must succeed.
    pub(crate) fn inside(&self, name: &str, line: &str) -> String {
        let said = self.try_inside(name, line);
        assert_eq!(said.code, 0, "{name}: {line}\n{}{}", said.out, said.err);
        said.out
    }

    /// Starts a command in a namespace; it ends when dropped.
    pub(crate) fn serve(&self, name: &str, line: &str) -> Service {
        self.site.serve_in(&self.name(name), line)
    }

    /// Whether a namespace gets an answer to a ping.
    pub(crate) fn pings(&self, name: &str, address: &str) -> bool {
        self.try_inside(name, &format!("ping -c1 -W1 {address}")).code == 0
    }

    /// Waits until it does.
    pub(crate) fn wait_ping(&self, name: &str, address: &str) {
        let what = format!("{name} pings {address}: {}", self.weft("get all").out);
        self.site.switch.wait_for(&what, |_| self.pings(name, address));
    }

    /// Waits for something to come true.
    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut(&Field) -> bool) {
        self.site.switch.wait_for(what, |_| done(self));
    }

    /// How often something was put right for this cause.
    pub(crate) fn healed(&self, cause: &str) -> u64 {
        let status: serde_json::Value = serde_json::from_str(&self.ok("status -o json")).expect("JSON");
        let counters: BTreeMap<String, u64> =
            serde_json::from_value(status["counters"].clone()).expect("counters");
        counters.get(&format!("healed_{cause}")).copied().unwrap_or(0)
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.site.switch.kill();
        for ns in &self.spaces {
            let _ = NetNs::delete(ns);
        }
    }
}

/// A network with one subnet for each prefix.
pub(crate) fn network(name: &str, spec: &str, prefixes: &[&str]) -> String {
    let mut out =
        format!("apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n");
    for (n, prefix) in prefixes.iter().enumerate() {
        out.push_str(&format!(
            "---\napiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {{name: {name}-{n}}}\n\
             spec: {{network: {name}, cidr: '{prefix}'}}\n"
        ));
    }
    out + "---\n"
}
