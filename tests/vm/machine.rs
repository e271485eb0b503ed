//! How is a virtual machine booted and talked to? QEMU, Debian's cloud kernel, and a busybox that does as it is told.
//!
//! Depends on nothing of the other test modules, so that any test target can include it by `#[path]`.
//!
//! The machine has two serial lines: the kernel writes to the first (a file), and on the second a loop of its shell
//! takes numbered lines, runs them, and says what they said and how they ended.
#![allow(dead_code, reason = "each test target uses a part")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a machine may take to boot: three seconds where nothing else runs.
const BOOT: Duration = Duration::from_secs(120);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);

/// Modules the machine needs, in the order of their needs.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

/// Process 1 of the machine.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /tmp /var/run
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for m in $(cat /modules/order); do insmod /modules/$m; done
ip link set lo up
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
# Never ends, and never says anything: the input of those that end with their input, `<&9`.
mkfifo /tmp/silence
exec 9<>/tmp/silence
echo "@@ready"
while read -r number line; do
  eval "$line" </dev/null >/tmp/said 2>&1
  code=$?
  cat /tmp/said
  echo "@@$number $code"
done
poweroff -f
"#;

/// What a device is told by DHCP becomes its address.
const UDHCPC: &str = r#"#!/bin/busybox sh
case $1 in
  deconfig) ip addr flush dev $interface scope global ;;
  bound|renew)
    ip addr flush dev $interface scope global
    ip addr add $ip/$mask dev $interface
    [ -n "$router" ] && ip route replace default via $router dev $interface
    : > /etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf; done
    [ -n "$domain" ] && echo "search $domain" >> /etc/resolv.conf
    echo "told: ip=$ip mask=$mask router=$router dns=$dns domain=$domain mtu=$mtu lease=$lease" ;;
esac
"#;

/// What machines boot: a kernel, and what is in its memory then.
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

/// The kernel and the initramfs, made when first asked for.
pub(crate) fn guest() -> &'static Guest {
    static GUEST: OnceLock<Guest> = OnceLock::new();
    GUEST.get_or_init(|| {
        make_guest("plain", &[]).unwrap_or_else(|e| panic!("a guest to boot: {e}; see scripts/guest"))
    })
}

/// `programs` are put beside busybox.
fn make_guest(name: &str, programs: &[PathBuf]) -> io::Result<Guest> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory").join("guest");
    let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, format!("no {what}"));
    let (kernel, modules) = [Path::new("/"), own.as_path()]
        .into_iter()
        .find_map(|root| {
            let entries = fs::read_dir(root.join("boot")).ok()?.flatten();
            let mut names: Vec<_> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
            names.sort();
            let release = names
                .iter()
                .rev()
                .filter_map(|n| n.strip_prefix("vmlinuz-"))
                .find(|n| n.ends_with("-cloud-amd64"))?;
            let modules = root.join("lib/modules").join(release).join("kernel");
            modules.is_dir().then(|| (root.join("boot").join(format!("vmlinuz-{release}")), modules))
        })
        .ok_or_else(|| missing("kernel of linux-image-cloud-amd64"))?;
    let busybox = [own.join("bin/busybox"), "/bin/busybox".into(), "/usr/bin/busybox".into()]
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| missing("busybox"))?;

    let mut archive = Cpio::default();
    for dir in ["bin", "dev", "etc", "etc/udhcpc", "modules"] {
        archive.add(dir, 0o040_755, &[]);
    }
    archive.add("init", 0o100_755, INIT.as_bytes());
    archive.add("bin/busybox", 0o100_755, &fs::read(busybox)?);
    archive.add("etc/udhcpc/default.script", 0o100_755, UDHCPC.as_bytes());
    let mut order = String::new();
    for path in MODULES {
        let name = path.rsplit('/').next().unwrap_or(path);
        archive.add(&format!("modules/{name}"), 0o100_644, &fs::read(modules.join(format!("{path}.ko")))?);
        order += &format!("{name}\n");
    }
    archive.add("modules/order", 0o100_644, order.as_bytes());
    for program in programs {
        add_program(&mut archive, program)?;
    }
    // Other processes may be making the same: each puts a whole file in place.
    let initramfs = own.join(format!("initramfs-{name}.cpio"));
    fs::create_dir_all(&own)?;
    let mine = own.join(format!("initramfs-{name}.{}", std::process::id()));
    fs::write(&mine, archive.finish())?;
    fs::rename(&mine, &initramfs)?;
    Ok(Guest { kernel, initramfs })
}

/// A program of this machine, and the libraries that ldd(1) finds, where they are here.
fn add_program(archive: &mut Cpio, program: &Path) -> io::Result<()> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    archive.add(&format!("bin/{name}"), 0o100_755, &fs::read(program)?);
    let said = Command::new("ldd").arg(program).output()?.stdout;
    for library in String::from_utf8_lossy(&said).split_whitespace().filter(|word| word.starts_with('/')) {
        let parents: Vec<&Path> = Path::new(library).ancestors().skip(1).collect();
        for dir in parents.iter().rev().filter_map(|dir| dir.strip_prefix("/").ok()?.to_str()) {
            if !dir.is_empty() {
                archive.add(dir, 0o040_755, &[]);
            }
        }
        archive.add(&library[1..], 0o100_755, &fs::read(library)?);
    }
    Ok(())
}

/// An archive in the kernel's format, "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    count: u32,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.count += 1;
        let (names, size) = (name.len() as u32 + 1, content.len() as u32);
        // Magic; inode, mode, owner, group, links, time, size; device and own device; length of the name, checksum.
        let fields = [self.count, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, names, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

/// QEMU's words for a network device on a TAP; QEMU makes the TAP if there is none of that name. `queues`: of each
/// direction.
pub(crate) fn tap(number: usize, ifname: &str, mac: &str, queues: usize) -> Vec<String> {
    let netdev =
        format!("tap,id=n{number},ifname={ifname},script=no,downscript=no,vhost=off,queues={queues}");
    device(number, &netdev, mac, queues)
}

/// QEMU's words for a network device on a vhost-user socket. `server`: QEMU listens, and boots without waiting.
pub(crate) fn vhost_user(
    number: usize,
    socket: &Path,
    server: bool,
    mac: &str,
    queues: usize,
) -> Vec<String> {
    let role = if server { "server=on,wait=off" } else { "reconnect=1" };
    let mut words = vec!["-chardev".into(), format!("socket,id=c{number},path={},{role}", socket.display())];
    let netdev = format!("vhost-user,id=n{number},chardev=c{number},queues={queues}");
    words.extend(device(number, &netdev, mac, queues));
    words
}

fn device(number: usize, netdev: &str, mac: &str, queues: usize) -> Vec<String> {
    let mq = if queues > 1 { ",mq=on" } else { "" };
    // Without vectors: MSI-X of vhost-user devices needs an accelerator that tells irqfd apart.
    let device = format!("virtio-net-pci,netdev=n{number},mac={mac},vectors=0,romfile={mq}");
    vec!["-netdev".into(), netdev.into(), "-device".into(), device]
}

/// Has the machines of these words compute checksums and cut segments before packets leave: for switches that do neither.
pub(crate) fn finish_packets(words: &mut [String]) {
    for word in words.iter_mut().filter(|word| word.starts_with("virtio-net-pci,")) {
        word.push_str(",csum=off,gso=off,host_tso4=off,host_tso6=off,host_ufo=off");
    }
}

/// How a command on the machine ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
}

/// A running machine. It is killed when dropped.
pub(crate) struct Vm {
    /// QEMU, if it is ours.
    child: Option<Child>,
    /// What it boots, if nobody else does. It has read it when the machine is up, and may have no earlier.
    initramfs: Option<PathBuf>,
    dir: PathBuf,
    console: UnixStream,
    unread: Vec<u8>,
    number: u32,
}

impl Vm {
    /// Starts QEMU by `command`, which runs the words it is given where the machine is to be (a network namespace).
    /// `words` say which network devices there are. Does not wait for the machine to boot.
    pub(crate) fn start(
        dir: &Path,
        name: &str,
        words: &[String],
        command: impl FnOnce(&[&str]) -> Command,
    ) -> Vm {
        Vm::start_with(dir, name, 1, words, command)
    }

    /// [`Vm::start`] with these programs of this machine on it, and the libraries they need.
    pub(crate) fn start_equipped(
        dir: &Path,
        name: &str,
        programs: &[PathBuf],
        words: &[String],
        command: impl FnOnce(&[&str]) -> Command,
    ) -> Vm {
        let made = make_guest(&format!("{name}-{}", std::process::id()), programs);
        let guest = made.unwrap_or_else(|e| panic!("a guest to boot: {e}; see scripts/guest"));
        let mut vm = Vm::boot(&guest, dir, name, 1, words, command);
        vm.initramfs = Some(guest.initramfs);
        vm
    }

    /// [`Vm::start`] with that many processors.
    pub(crate) fn start_with(
        dir: &Path,
        name: &str,
        cpus: usize,
        words: &[String],
        command: impl FnOnce(&[&str]) -> Command,
    ) -> Vm {
        Vm::boot(guest(), dir, name, cpus, words, command)
    }

    fn boot(
        guest: &Guest,
        dir: &Path,
        name: &str,
        cpus: usize,
        words: &[String],
        command: impl FnOnce(&[&str]) -> Command,
    ) -> Vm {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).expect("a directory of the machine's own");
        let socket = dir.join("console");
        let mut all: Vec<String> = vec!["qemu-system-x86_64".into()];
        let basics = format!(
            "-name {name} -accel tcg -machine pc,memory-backend=mem -cpu max -smp {cpus} -m 128 -nodefaults \
             -no-user-config -display none -object memory-backend-memfd,id=mem,size=128M,share=on -kernel {} -initrd {} \
             -serial file:{} -serial unix:{},server=on,wait=off",
            guest.kernel.display(),
            guest.initramfs.display(),
            dir.join("kernel.log").display(),
            socket.display(),
        );
        all.extend(basics.split_whitespace().map(str::to_owned));
        all.extend(["-append".into(), "console=ttyS0 quiet panic=-1".into()]);
        all.extend(words.iter().cloned());
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let log = File::create(dir.join("qemu.log")).expect("a log");
        let mut child = command(&all)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("start qemu-system-x86_64");
        let until = Instant::now() + COMMAND;
        let console = loop {
            if let Ok(console) = UnixStream::connect(&socket) {
                break console;
            }
            let ended = child.try_wait().expect("ask for the process");
            let said = fs::read_to_string(dir.join("qemu.log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < until, "{name} did not start: {ended:?}\n{said}");
            std::thread::sleep(Duration::from_millis(10));
        };
        Vm { child: Some(child), initramfs: None, dir, console, unread: Vec::new(), number: 0 }
    }

    /// A machine that somebody else started, whose second serial line is the socket `console` in `dir`.
    pub(crate) fn on_console(dir: &Path) -> Vm {
        let console = UnixStream::connect(dir.join("console")).expect("the machine's console");
        Vm { child: None, initramfs: None, dir: dir.to_owned(), console, unread: Vec::new(), number: 0 }
    }

    /// Waits until the machine takes commands: after it was started, or began to reboot.
    pub(crate) fn booted(&mut self) {
        let _ = self.read_until("@@ready\n", BOOT);
    }

    /// Runs a line of shell and tells how it went.
    pub(crate) fn run(&mut self, line: &str) -> Answer {
        self.send(line);
        let mark = format!("@@{} ", self.number);
        let mut out = self.read_until(&mark, COMMAND);
        out.truncate(out.len() - mark.len());
        let code = self.read_until("\n", COMMAND);
        Answer { code: code.trim().parse().unwrap_or(-1), out }
    }

    /// Runs a line of shell that must succeed; what it said.
    pub(crate) fn ok(&mut self, line: &str) -> String {
        let answer = self.run(line);
        assert_eq!(answer.code, 0, "{}: {line}\n{}", self.dir.display(), answer.out);
        answer.out.trim_end().to_owned()
    }

    /// Runs a line until it succeeds, or fails when it never does.
    pub(crate) fn wait_for(&mut self, line: &str) {
        let until = Instant::now() + COMMAND;
        loop {
            let answer = self.run(line);
            if answer.code == 0 {
                return;
            }
            assert!(Instant::now() < until, "{}: {line}\n{}", self.dir.display(), answer.out);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has the machine reboot, and waits until it takes commands again; everything on it is as at first.
    pub(crate) fn reboot(&mut self) {
        self.send("reboot -f");
        self.booted();
    }

    /// Has the machine turn itself off, and waits for its end.
    pub(crate) fn power_off(mut self) {
        self.send("poweroff -f");
        let until = Instant::now() + COMMAND;
        let child = self.child.as_mut().expect("QEMU is ours");
        while child.try_wait().expect("ask for the process").is_none() {
            assert!(Instant::now() < until, "{} did not power off", self.dir.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills QEMU without warning.
    pub(crate) fn kill(self) {
        drop(self);
    }

    fn send(&mut self, line: &str) {
        assert!(!line.contains('\n'), "one line at a time: {line}");
        self.number += 1;
        let text = format!("{} {line}\n", self.number);
        self.console.write_all(text.as_bytes()).expect("the console takes a line");
    }

    /// What comes until `mark`, with it.
    fn read_until(&mut self, mark: &str, patience: Duration) -> String {
        let until = Instant::now() + patience;
        let mut looked_at = 0;
        loop {
            let from = usize::min(looked_at, self.unread.len());
            let found = self.unread[from..].windows(mark.len()).position(|w| w == mark.as_bytes());
            if let Some(at) = found {
                let all: Vec<u8> = self.unread.drain(..from + at + mark.len()).collect();
                return String::from_utf8_lossy(&all).into_owned();
            }
            looked_at = self.unread.len().saturating_sub(mark.len());
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {mark:?} in {patience:?}\n{}", self.story());
            self.console.set_read_timeout(Some(left)).expect("set a timeout");
            let mut buf = [0u8; 4096];
            match self.console.read(&mut buf) {
                Ok(0) => panic!("the machine is gone\n{}", self.story()),
                Ok(n) => self.unread.extend_from_slice(&buf[..n]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => panic!("{e}\n{}", self.story()),
            }
        }
    }

    /// What is known when something is wrong.
    fn story(&self) -> String {
        let read = |name| fs::read(self.dir.join(name)).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (kernel, qemu) = (read("kernel.log"), read("qemu.log"));
        format!(
            "{}: the console said {:?}\nkernel: {}\nqemu: {}",
            self.dir.display(),
            text(&self.unread),
            text(&kernel[kernel.len().saturating_sub(2000)..]),
            text(&qemu)
        )
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(initramfs) = &self.initramfs {
            let _ = fs::remove_file(initramfs);
        }
    }
}
