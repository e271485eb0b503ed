//! Processes, pid files, mount namespaces, epoll and threads. Mount namespaces need root.

use std::fs;
use std::process::{Command, Stdio};

use weft_host::mountns::{self, MountNs};
use weft_host::netns::{NetNs, inside};
use weft_host::poll::{Epoll, Event, EventFd, interest};
use weft_host::procfs::{Pidfile, ProcessId, processes};
use weft_host::{Error, thread};

#[test]
fn processes_are_told_apart_and_signalled() {
    let mut child = Command::new("sleep").arg("100").env("WEFT_TEST", "yes").spawn().unwrap();
    let id = ProcessId::of(child.id() as i32).unwrap();
    assert!(id.alive() && processes().contains(&id));
    assert_eq!(id.parent(), Some(std::process::id() as i32));
    assert_eq!(id.net_ns(), Some(NetNs::current().unwrap().id().unwrap()));
    let later = ProcessId { start: id.start + 1, ..id };
    assert!(!later.alive() && !later.signal(libc::SIGKILL).unwrap(), "another process of the same number");
    assert!(id.alive());
    assert!(id.signal(libc::SIGKILL).unwrap());
    while id.alive() {
        std::thread::yield_now();
    }
    assert!(!id.signal(libc::SIGKILL).unwrap(), "a zombie is gone");
    child.wait().unwrap();
    let me = ProcessId::of(std::process::id() as i32).unwrap();
    assert!(me.resident().unwrap() > 100_000 && me.cpu_ticks().is_some());
}

#[test]
fn pid_files_are_locked_by_live_processes_only() {
    let dir = std::env::temp_dir().join(format!("weft-pidfile-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("x.pid");
    fs::write(&path, "12345 left behind\n").unwrap();
    assert_eq!(Pidfile::read(&path), None, "not locked");
    let pidfile = Pidfile::create(&path).unwrap();
    // fcntl locks do not hold against their own process, and go when it closes the file: ask another.
    let text = Command::new("cat").arg(&path).output().unwrap().stdout;
    assert_eq!(String::from_utf8(text).unwrap(), format!("{}\n", std::process::id()));
    let script = format!(
        "import fcntl,sys\ntry:\n fcntl.lockf(open({path:?},'r+'),fcntl.LOCK_EX|fcntl.LOCK_NB)\nexcept OSError: sys.exit(3)"
    );
    let other = Command::new("python3").arg("-c").arg(script).stderr(Stdio::null()).status().unwrap();
    assert_eq!(other.code(), Some(3), "another process could lock it");
    drop(pidfile);
    assert!(!path.exists());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_pid_file_held_by_another_process_names_it() {
    let dir = std::env::temp_dir().join(format!("weft-pidfile2-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("x.pid");
    let script = format!(
        "import fcntl,sys\nf=open({path:?},'w')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint('locked',flush=True)\nsys.stdin.read()"
    );
    let mut other = Command::new("python3")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0u8; 7];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut line).unwrap();
    let pid = other.id() as i32;
    assert!(matches!(Pidfile::create(&path), Err(Error::PidfileLocked { pid: p, .. }) if p == pid));
    assert_eq!(Pidfile::read(&path), Some(pid));
    other.kill().unwrap();
    other.wait().unwrap();
    drop(Pidfile::create(&path).unwrap());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn mount_namespaces_are_kept_by_a_file() {
    let dir = std::path::PathBuf::from(format!("/run/weft-host-test-{}", std::process::id()));
    mountns::mount_private_tmpfs(&dir).unwrap();
    assert!(mountns::is_mount_point(&dir));
    let blank = dir.join("a b");
    mountns::mount_private_tmpfs(&blank).unwrap();
    assert_eq!(mountns::mount_points_below(&dir).unwrap(), [dir.clone(), blank]);
    let ns = NetNs::unnamed("t").unwrap();
    let mounts = MountNs::create(&dir.join("mnt"), &ns, || {
        mountns::mount_private_tmpfs("/run".as_ref())?;
        fs::write("/run/mark", "inside")?;
        mountns::mount_sysfs()
    })
    .unwrap();
    assert!(!std::path::Path::new("/run/mark").exists());
    let look = || {
        let mark = fs::read_to_string("/run/mark").unwrap();
        let child = Command::new("sh").args(["-c", "cat /run/mark; ls /sys/class/net"]).output().unwrap();
        (mark, String::from_utf8(child.stdout).unwrap())
    };
    let (mark, child) = inside(Some(&ns), Some(&mounts), look).unwrap();
    assert_eq!(mark, "inside");
    assert!(child.starts_with("inside") && child.contains("lo") && !child.contains("eth0"), "{child}");
    drop(mounts);
    let again = MountNs::open(&dir.join("mnt")).unwrap();
    assert_ne!(again.id().unwrap(), ProcessId::of(std::process::id() as i32).unwrap().mount_ns().unwrap());
    assert!(mountns::unmount(&dir.join("mnt")).unwrap());
    assert!(mountns::unmount(&dir).unwrap());
    assert!(!mountns::unmount(&dir).unwrap());
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn doorbells_wake_sleepers() {
    let (epoll, bell) = (Epoll::new().unwrap(), EventFd::new().unwrap());
    epoll.add(&bell, interest::READ, 42).unwrap();
    let mut events = [Event::EMPTY; 4];
    assert!(epoll.wait(&mut events, Some(0)).unwrap().is_empty());
    std::thread::scope(|s| {
        s.spawn(|| {
            bell.ring();
            bell.ring();
        });
        let got = epoll.wait(&mut events, Some(2000)).unwrap();
        assert!(got.len() == 1 && got[0].token() == 42 && got[0].readable() && !got[0].failed());
    });
    assert!(bell.clear() && !bell.clear());
    epoll.remove(&bell).unwrap();
}

#[test]
fn threads_are_named_and_pinned() {
    std::thread::spawn(|| {
        thread::set_name("a-long-thread-name");
        assert_eq!(fs::read_to_string("/proc/thread-self/comm").unwrap().trim(), "a-long-thread-n");
        let cpus = thread::allowed_cpus().unwrap();
        thread::pin(&cpus[..1]).unwrap();
        assert_eq!(thread::allowed_cpus().unwrap(), cpus[..1]);
    })
    .join()
    .unwrap();
}
