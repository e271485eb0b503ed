//! `weft port`: how is something plugged into a network, and unplugged?

use std::error::Error;
use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use weft_api::{Client, ClientError};
use weft_model::{
    Attachment, Kind, MacAddr, Netns, ObjectRef, Phase, Port, PortSpec, Problem, Resource, Tap, VhostMode,
    VhostUser,
};

use super::Outcome;
use super::place::Where;
use super::resource::wait;
use crate::output::Format;

/// How often it is asked how a port fares.
const ASK: Duration = Duration::from_millis(50);

/// Arguments of `weft port`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weft port add web --network blue --netns web       eth0 in the namespace, with its addresses
  weft port add vm1 --network blue --tap tap1        for QEMU's -netdev tap,ifname=tap1,script=no
  weft port add vm2 --network blue --iface-id $UUID  for libvirt's <virtualport type='openvswitch'>
  weft port del web")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Plug something into a network, and print its addresses.
    Add(Box<AddArgs>),
    /// Unplug it, and remove what was made for it.
    Del(DelArgs),
}

/// Arguments of `weft port add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ip netns add web && weft port add web --network blue --netns web
  weft port add web --network blue --netns /proc/4711/ns/net --inside net1 --ip 10.1.0.9
  weft port add vm1 --network blue --tap tap1 --queues 4 --owner libvirt-qemu
  weft port add vm2 --network blue --vhost-user /run/vm2.sock
  weft port add nic --network blue --device eth1 -o json

The same command again changes nothing. A namespace that comes later, or is made anew, gets its
device then (--no-wait).")]
struct AddArgs {
    /// Name of the port; also its name in DNS.
    name: String,
    /// Network to plug into.
    #[arg(long, value_name = "NAME")]
    network: String,
    #[command(flatten)]
    to: Target,
    /// Name of the device in the namespace [default: eth0].
    #[arg(long, value_name = "DEVICE", requires = "netns")]
    inside: Option<String>,
    /// Pairs of queues of the TAP.
    #[arg(long, value_name = "N", requires = "tap", value_parser = clap::value_parser!(u16).range(1..=256))]
    queues: Option<u16>,
    /// User who may open the TAP.
    #[arg(long, value_name = "USER", requires = "tap")]
    owner: Option<String>,
    /// The switch listens at the vhost-user socket, not QEMU; it must be in the switch's run directory.
    #[arg(long, requires = "vhost_user")]
    switch_listens: bool,
    /// Its address, once for each; of a family without one the network gives one.
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Its hardware address [default: one that stays].
    #[arg(long, value_name = "MAC")]
    mac: Option<MacAddr>,
    /// Do not wait until packets pass.
    #[arg(long)]
    no_wait: bool,
    /// Seconds to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    place: Where,
}

/// What is plugged in.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// A network namespace: a name of `ip netns`, or a path. The device in it is made and gets its addresses.
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    /// A TAP device for QEMU, which is made if it is not there.
    #[arg(long, value_name = "DEVICE")]
    tap: Option<String>,
    /// A vhost-user socket of QEMU.
    #[arg(long, value_name = "FILE")]
    vhost_user: Option<String>,
    /// An interface of the switch with this external-ids:iface-id, as libvirt makes them.
    #[arg(long, value_name = "ID")]
    iface_id: Option<String>,
    /// A device that exists; it becomes a port of the switch.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

/// Arguments of `weft port del`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  weft port del web\n  weft port del vm1 vm2 --no-wait")]
struct DelArgs {
    /// Names of ports.
    #[arg(required = true)]
    names: Vec<String>,
    /// Do not wait until their devices are gone.
    #[arg(long)]
    no_wait: bool,
    /// Seconds to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    place: Where,
}

impl AddArgs {
    fn attachment(&self) -> Result<Attachment, Box<dyn Error>> {
        let netns = self.to.netns.as_ref().map(|text| -> Result<Netns, Box<dyn Error>> {
            let device = self.inside.clone();
            if !text.contains('/') {
                return Ok(Netns { name: Some(text.clone()), device, ..Netns::default() });
            }
            let path = std::path::absolute(Path::new(text))?;
            Ok(Netns { path: Some(path.display().to_string()), device, ..Netns::default() })
        });
        let vhost_user = self.to.vhost_user.as_ref().map(|socket| -> Result<VhostUser, Box<dyn Error>> {
            let path: PathBuf = std::path::absolute(socket)?;
            let mode = if self.switch_listens { VhostMode::Server } else { VhostMode::Client };
            Ok(VhostUser { socket: path.display().to_string(), mode })
        });
        Ok(Attachment {
            netns: netns.transpose()?,
            tap: self.to.tap.clone().map(|name| Tap {
                name,
                queues: self.queues.unwrap_or(1),
                owner: self.owner.clone(),
            }),
            vhost_user: vhost_user.transpose()?,
            iface_id: self.to.iface_id.clone(),
            device: self.to.device.clone(),
        })
    }
}

/// Runs `weft port`.
pub(crate) fn exec(args: &Args, format: Format) -> Outcome {
    match &args.verb {
        Verb::Add(args) => add(args, format),
        Verb::Del(args) => del(args, format),
    }
}

/// What is wrong with what nobody wrote in a file: the lines of the document that was sent mean nothing to anybody.
fn without_lines(error: ClientError) -> Box<dyn Error> {
    match error {
        ClientError::Refused(refused) if !refused.body.problems.is_empty() => {
            let told = refused.body.problems.into_iter().map(|p| Problem { line: None, ..p }.to_string());
            told.collect::<Vec<_>>().join("\n").into()
        }
        other => other.into(),
    }
}

fn add(args: &AddArgs, format: Format) -> Outcome {
    let spec = PortSpec {
        network: args.network.clone(),
        attachment: Some(args.attachment()?),
        mac: args.mac,
        addresses: args.addresses.clone(),
        ..PortSpec::default()
    };
    let resource = Resource::from(Port::new(&args.name, spec));
    let found = wait(async {
        let client = args.place.client()?;
        client.apply(resource.to_yaml(), false, false).await.map_err(without_lines)?;
        if args.no_wait {
            return Ok(client.get(&ObjectRef::new(Kind::Port, &args.name)).await?);
        }
        ready(&client, &args.name, Duration::from_secs(args.timeout)).await.map(Some)
    })?;
    let found = found.ok_or_else(|| format!("Port/{} was deleted meanwhile", args.name))?;
    format.print(&found, |found| match (format, found.as_port()) {
        (Format::Table, Some(port)) => {
            port.status.addresses.iter().map(|ip| format!("{ip}\n")).collect::<String>()
        }
        _ => found.reference().to_string(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Tells people what is waited for, each thing once.
struct Waiting {
    said: String,
    since: Instant,
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { said: String::new(), since: Instant::now() }
    }

    fn say(&mut self, what: &str) {
        // What takes no time needs no words.
        let long = self.since.elapsed() > Duration::from_millis(500);
        if long && what != self.said && std::io::stderr().is_terminal() {
            eprintln!("waiting: {what}");
            what.clone_into(&mut self.said);
        }
    }
}

/// The port, once packets pass.
async fn ready(client: &Client, name: &str, timeout: Duration) -> Result<Resource, Box<dyn Error>> {
    let object = ObjectRef::new(Kind::Port, name);
    let mut waiting = Waiting::new();
    loop {
        let found = client.get(&object).await?.ok_or_else(|| format!("{object} was deleted meanwhile"))?;
        let port = found.as_port().ok_or("the server's answer is not a port")?;
        let why = port.status.conditions.iter().find(|c| c.kind == "Ready").map(|c| c.message.as_str());
        let why = why.filter(|w| !w.is_empty()).unwrap_or("the agent has not seen it yet").to_owned();
        match port.status.phase {
            _ if port.status.observed_generation != port.metadata.generation => {}
            Phase::Ready => return Ok(found),
            Phase::Error => return Err(format!("{object} is declared, and does not work: {why}").into()),
            Phase::Pending => {}
        }
        if waiting.since.elapsed() > timeout {
            return Err(format!("{object} is declared, and not ready in {timeout:?}: {why}").into());
        }
        waiting.say(&why);
        tokio::time::sleep(ASK).await;
    }
}

fn del(args: &DelArgs, format: Format) -> Outcome {
    let objects: Vec<ObjectRef> = args.names.iter().map(|n| ObjectRef::new(Kind::Port, n)).collect();
    let deleted = wait(async {
        let client = args.place.client()?;
        let deleted = client.delete(&objects, false).await?;
        let mut waiting = Waiting::new();
        loop {
            if args.no_wait || client.node().await?.programmed_version >= deleted.resource_version {
                return Ok(deleted);
            }
            if waiting.since.elapsed() > Duration::from_secs(args.timeout) {
                let why =
                    format!("deleted, and the switch was not told in {} s; see `weft status`", args.timeout);
                return Err(why.into());
            }
            waiting.say("the switch has not been told yet");
            tokio::time::sleep(ASK).await;
        }
    })?;
    format.print(&deleted, |d| d.deleted.iter().map(|o| format!("{o} deleted\n")).collect())?;
    Ok(ExitCode::SUCCESS)
}
