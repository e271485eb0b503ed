//! Machines of libvirt: an unmodified libvirtd and virsh define and run one on a network of Weft's.
//!
//! libvirtd keeps to places that are its own here: directories it writes to are laid over, in a mount namespace.

use std::path::Path;

use crate::field::Field;
use crate::hosts::Site;
use crate::machine::{self, Vm};
use crate::support::{Kind, Said};
use crate::taps::mac;

/// What libvirt calls the port.
const INTERFACE: &str = "5f1c9d0a-8f2e-4c53-9a57-0f0d1f7a6b11";

/// Lays directories over those that libvirtd writes to, and becomes libvirtd. `$1`: a directory of ours.
const START: &str = r#"set -e
mkdir -p "$1/over" "$1/sockets"
mount -t tmpfs none "$1/over"
for d in etc var/lib var/cache; do
  mkdir -p "$1/over/$d.upper" "$1/over/$d.work"
  mount -t overlay overlay -o "lowerdir=/$d,upperdir=$1/over/$d.upper,workdir=$1/over/$d.work" "/$d"
done
mount -t tmpfs none /run
mkdir -p /etc/libvirt
getent passwd libvirt-qemu >/dev/null || echo "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin" >>/etc/passwd
getent group libvirt-qemu >/dev/null || echo "libvirt-qemu:x:64055:" >>/etc/group
rm -rf /etc/libvirt/qemu/autostart /etc/libvirt/qemu/networks
cat >/etc/libvirt/qemu.conf <<E
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
E
cat >/etc/libvirt/libvirtd.conf <<E
unix_sock_dir = "$1/sockets"
auth_unix_rw = "none"
log_outputs = "2:stderr"
E
exec libvirtd
"#;

const NETWORK: &str = "
apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue}
spec: {mode: nat, domain: {name: blue.example}}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue4}
spec: {network: blue, cidr: 10.1.0.0/24}
---
";

/// A domain as any tool writes it.
fn domain(dir: &Path) -> String {
    let guest = machine::guest();
    let (kernel, initramfs) = (guest.kernel.display(), guest.initramfs.display());
    let (mac, dir) = (mac(1), dir.display());
    format!(
        "<domain type='qemu'><name>vm1</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kernel}</kernel><initrd>{initramfs}</initrd>
<cmdline>console=ttyS0 quiet panic=-1</cmdline></os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<serial type='file'><source path='{dir}/kernel.log'/><target port='0'/></serial>
<serial type='unix'><source mode='bind' path='{dir}/console'/><target port='1'/></serial>
<interface type='bridge'><mac address='{mac}'/><source bridge='br-int'/>
<virtualport type='openvswitch'><parameters interfaceid='{INTERFACE}'/></virtualport>
<bandwidth><inbound average='4000' peak='8000' burst='512'/><outbound average='64' burst='16'/></bandwidth>
<model type='virtio'/><driver name='qemu'/><rom enabled='no'/></interface>
</devices></domain>"
    )
}

/// What the machine may send is limited by the switch, as libvirt tells it, until it is told otherwise.
fn bandwidth(site: &Site, virsh: &dyn Fn(&str) -> Said, vm: &mut Vm, device: &str) {
    let policing = || {
        let get = |column: &str| site.switch.ok(&format!("ovs-vsctl get Interface {device} {column}"));
        (get("ingress_policing_rate"), get("ingress_policing_burst"))
    };
    // Kilobytes and KiB are kilobits there.
    assert_eq!(policing(), ("512".to_owned(), "128".to_owned()));
    let queues = site.switch.ok("ovs-vsctl --columns=type,other_config,external_ids list qos");
    assert!(queues.contains("linux-htb") && queues.contains(device), "what it may get: {queues}");
    let classes = || site.switch.run(&format!("tc class show dev {device}")).out;
    site.switch
        .wait_for("the kernel shapes what it may get", |_| classes().contains("rate 32Mbit ceil 64Mbit"));
    let large = "ping -c1 -W1 -s 60000 10.1.0.1";
    site.switch.wait_for("what is too much is dropped, and it is told", |s| {
        vm.run(large).code != 0 && s.ok("ovs-appctl weft/drops").contains("policing-exceeded")
    });
    vm.wait_for("ping -c1 -W1 10.1.0.1");
    let said = virsh(&format!("domiftune vm1 {device} --outbound 0 --live"));
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(policing(), ("0".to_owned(), "0".to_owned()));
    assert_eq!(virsh(&format!("domiftune vm1 {device} --inbound 0 --live")).code, 0);
    site.switch.wait_for("it does no more", |_| !classes().contains("64Mbit"));
    vm.wait_for(large);
}

#[test]
fn libvirt_runs_a_machine_on_a_network() {
    let mut field = Field::start(Kind::Weft, 0);
    let dir = field.site.switch.path("");
    field.site.switch.daemon(&["bash", "-c", START, "libvirtd", &dir.display().to_string()]);
    let (site, call) = (&field.site, |words: &str| field.weft(words));
    let virsh = |words: &str| -> Said {
        let socket = dir.join("sockets/libvirt-sock");
        site.switch.run(&format!("virsh -q -c qemu:///system?socket={} {words}", socket.display()))
    };
    let port = format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: vm1}}\n\
         spec: {{network: blue, mac: '{}', attachment: {{ifaceId: {INTERFACE}}}}}\n",
        mac(1)
    );
    field.apply(&format!("{NETWORK}{port}"));
    site.switch.wait_for("br-int is there", |s| s.run("ovs-vsctl br-exists br-int").code == 0);
    site.switch.wait_for("libvirtd answers", |_| virsh("version").code == 0);

    let xml = dir.join("vm1.xml");
    std::fs::write(&xml, domain(&dir)).expect("a file");
    for words in [format!("define {}", xml.display()), "start vm1".to_owned()] {
        let said = virsh(&words);
        assert_eq!(said.code, 0, "{words}: {}{}", said.err, site.switch.logs());
    }
    let mut vm = Vm::on_console(&dir);
    vm.booted();
    field.ready("vm1");
    let list = virsh("domiflist vm1").out;
    assert!(list.contains("br-int") && list.contains(&mac(1)), "{list}");
    let device = list.split_whitespace().next().expect("its device").to_owned();

    let address = |vm: &mut Vm| {
        let told = vm.ok("ip link set eth0 up; udhcpc -i eth0 -n -q -t 20 -T 1");
        assert!(told.contains("ip=10.1.0.") && told.contains("domain=blue.example"), "{told}");
        vm.wait_for("ping -c1 -W1 10.1.0.1");
        told.split("ip=").nth(1).and_then(|t| t.split(' ').next()).expect("an address").to_owned()
    };
    let first = address(&mut vm);
    assert!(call("get port vm1").out.contains(&first));
    assert!(call("leases").out.contains(&first));
    bandwidth(site, &virsh, &mut vm, &device);
    // Numbers that libvirt reads from the switch's database, and the cable that it pulls and plugs.
    site.switch.wait_for("libvirt sees packets", |_| {
        let stats = virsh(&format!("domifstat vm1 {device}")).out;
        stats.lines().any(|l| l.contains("rx_packets") && !l.ends_with(" 0"))
    });
    assert_eq!(virsh(&format!("domif-setlink vm1 {device} down")).code, 0);
    assert_ne!(vm.run("ping -c1 -W1 10.1.0.1").code, 0, "the cable is out");
    assert_eq!(virsh(&format!("domif-setlink vm1 {device} up")).code, 0);
    vm.wait_for("ping -c1 -W1 10.1.0.1");

    // The machine is reset, and is who it was.
    assert_eq!(virsh("reset vm1").code, 0);
    vm.booted();
    assert_eq!(address(&mut vm), first);
    // It ends, and its cable with it; the port waits for the next one.
    assert_eq!(virsh("destroy vm1").code, 0);
    site.switch.wait_for("the port waits", |_| call("get port vm1").out.contains("Pending"));
    assert!(!site.switch.ok("ovs-vsctl list-ports br-int").contains(&device));
    assert_eq!(virsh("start vm1").code, 0);
    let mut vm = Vm::on_console(&dir);
    vm.booted();
    assert_eq!(address(&mut vm), first);
    assert_eq!(virsh("destroy vm1").code, 0);
    assert_eq!(virsh("undefine vm1").code, 0);
}
