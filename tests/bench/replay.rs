//! How fast does a switch take packets each of which is new? A pcap file played once, counted at a null sink.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cycles::write_pcap;
use crate::lab::{self, Lab};
use crate::ofp::Ofp;
use crate::ovs;
use crate::sheet::Who;
use crate::weft;

/// What a replay showed.
pub(crate) struct Played {
    /// Packets forwarded a second, while they flowed.
    pub(crate) rate: f64,
    /// Packets forwarded in a second of CPU time of the whole process.
    pub(crate) per_cpu: f64,
    /// Packets forwarded, of those played.
    pub(crate) share: f64,
    /// Growth of the resident memory, in bytes a packet.
    pub(crate) bytes: f64,
    /// What Weft says of the packets it dropped.
    pub(crate) lost: String,
}

struct Sample {
    at: Instant,
    packets: u64,
    cpu: f64,
}

/// Plays these frames once through these rules; before that through one that forwards all, so that the memory for
/// the frames themselves is there already.
pub(crate) fn play(who: Who, label: &str, frames: &[Vec<u8>], rules: &[String]) -> Result<Played, String> {
    let lab = lab::replay(who, label)?;
    let pcap = lab.world.dir.join("f.pcap");
    write_pcap(&pcap, frames)?;
    lab.rules(&["in_port=1,actions=output:2".to_owned()])?;
    once(&lab, who, &pcap, frames.len(), 1)?;
    lab.rules(rules)?;
    once(&lab, who, &pcap, frames.len(), 2)
}

fn once(lab: &Lab, who: Who, pcap: &Path, frames: usize, time: u32) -> Result<Played, String> {
    std::thread::sleep(Duration::from_millis(300));
    let before = weft::rss_mb(lab.pid).ok_or("the switch is gone")?;
    let added = AtomicBool::new(false);
    let mut ofp = lab.openflow()?;
    let had = ofp.sent(2)?;
    // The first packets flow before the tool that adds the source has returned.
    let samples = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&mut ofp, lab.pid, had, frames as u64, &added));
        let done = lab::source(lab, who, pcap, time);
        added.store(true, Ordering::Release);
        let samples = watch.join().map_err(|_| "the watch panicked".to_owned())?;
        done.and(samples)
    })?;
    std::thread::sleep(Duration::from_millis(300));
    let after = weft::rss_mb(lab.pid).ok_or("the switch is gone")?;
    let mut played = result(&samples, frames, (after - before) * 1024.0 * 1024.0)?;
    if played.share < 1.0 && who == Who::Weft {
        played.lost = ovs::tool(&lab.world, "sw", "ovs-appctl", "weft/drops")?;
    }
    ovs::vsctl(&lab.world, "sw", "del-port br0 src")?;
    Ok(played)
}

/// Reads the sink's counter until all came or nothing more comes.
fn watch(ofp: &mut Ofp, pid: u32, had: u64, all: u64, added: &AtomicBool) -> Result<Vec<Sample>, String> {
    let mut samples: Vec<Sample> = Vec::new();
    let (start, mut moved) = (Instant::now(), Instant::now());
    loop {
        let packets = ofp.sent(2)? - had;
        let cpu = weft::cpu_exact(pid).ok_or("the switch is gone")?;
        if samples.last().is_none_or(|s| s.packets != packets) {
            moved = Instant::now();
        }
        samples.push(Sample { at: Instant::now(), packets, cpu });
        let ended = added.load(Ordering::Acquire) && moved.elapsed() > Duration::from_secs(2);
        if packets >= all || ended || start.elapsed() > Duration::from_secs(60) {
            return Ok(samples);
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Rates between the last sample before the packets began to flow and the first with all of them.
fn result(samples: &[Sample], played: usize, grown: f64) -> Result<Played, String> {
    let most = samples.last().map_or(0, |s| s.packets);
    if most == 0 {
        return Err("no packets moved".to_owned());
    }
    let first = samples.iter().rposition(|s| s.packets == 0).unwrap_or(0);
    let end = samples.iter().position(|s| s.packets == most).unwrap_or(samples.len() - 1);
    let (a, b) = (&samples[first], &samples[end]);
    let packets = (b.packets - a.packets) as f64;
    Ok(Played {
        rate: packets / (b.at - a.at).as_secs_f64(),
        per_cpu: packets / (b.cpu - a.cpu),
        share: most as f64 / played as f64,
        bytes: grown / most as f64,
        lost: String::new(),
    })
}
