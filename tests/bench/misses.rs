//! What do cache misses and masks cost? New flows through the slow path, hits under many masks, exploding tuple space.

use std::collections::HashMap;
use std::time::Duration;

use crate::cycles::{self, Case, Way, udp};
use crate::lab;
use crate::replay::play;
use crate::report::Table;
use crate::rules::churn;
use crate::sheet::{Better, Scale, Sheet, Step, Who};
use crate::weft;

const NOTE: &str = "Misses: a pcap file of flows that are all new is played once (OVS-DPDK's polling thread and Weft's lane), \
the rules read addresses and ports. Explosion: a flood of 20,000 allowed flows by veth through three allow rules and a default drop, \
with and without 5,000 packets a second that each want a mask of their own (8,192 of them). \
Delay: 5,000 datagrams a second by veth, from the sender's clock to the receiver's kernel. These two with Debian's openvswitch-switch on AF_PACKET.";
/// Attack packets a second.
const ATTACK: u32 = 5_000;

/// Datagrams a second whose delay is measured.
const PACE: &str = "5000";

/// Every row, round by round.
pub(crate) fn table(rounds: usize, scale: &Scale) -> Table {
    let mut sheet = Sheet::new("Misses, masks, delay", NOTE);
    let steps: [(&str, Step); 3] = [("misses", misses), ("explosion", explosion), ("delay", delay)];
    sheet.rounds(rounds, &steps, scale);
    sheet.table()
}

/// Each packet is of a new flow; the rules move its addresses and ports into registers, so each needs a walk.
fn misses(who: Who, sheet: &mut Sheet, scale: &Scale) -> Result<(), String> {
    let frames: Vec<_> =
        (0..scale.packets).map(|i| udp(1 + (i >> 14), 1, 1024 + (i & 0x3fff) as u16, 2000)).collect();
    let mut rules: Vec<String> =
        (0..1000).map(|i| format!("table=1,priority=10,reg0={i},reg1=0x0a010000,actions=drop")).collect();
    rules.push("table=1,priority=1,actions=output:2".to_owned());
    rules.push(
        "udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],move:NXM_OF_IP_SRC[]->NXM_NX_REG1[],\
         resubmit(,1)"
            .to_owned(),
    );
    let played = play(who, "m", &frames, &rules)?;
    sheet.put(who, "slow-path misses", "packets/s", Better::More, played.rate);
    sheet.put(who, "slow-path misses, by CPU time", "packets/CPU s", Better::More, played.per_cpu);
    sheet.put(who, "share forwarded of those", "of 1", Better::More, played.share);
    if !played.lost.is_empty() {
        sheet.note(format!("Weft dropped of the misses: {}", played.lost));
    }
    Ok(())
}

/// Victim flows flood one port; an attacker behind the same port makes masks.
fn explosion(who: Who, sheet: &mut Sheet, scale: &Scale) -> Result<(), String> {
    let mut lab = lab::veths(who, "x")?;
    let rules = [
        "priority=40,udp,in_port=1,tp_dst=80,actions=output:2",
        "priority=30,udp,in_port=1,tp_src=12345,actions=output:2",
        "priority=20,udp,in_port=1,nw_src=10.0.0.10,actions=output:2",
        "priority=1,actions=drop",
    ];
    lab.rules(&rules.map(str::to_owned))?;
    let me = std::env::current_exe().map_err(|e| e.to_string())?.display().to_string();
    let mut ofp = lab.openflow()?;
    let mut forwarded = [0.0; 2];
    for (i, attack) in [0, ATTACK].into_iter().enumerate() {
        let pps = attack.to_string();
        let length = scale.seconds + 4;
        let argv = [&me, "--tool", "flood", "eth0", &length.to_string(), &pps].map(str::to_owned);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let flood = lab.world.spawn("c1", &HashMap::new(), &argv, &format!("flood{i}"))?;
        // Time for each of the masks to come once.
        std::thread::sleep(Duration::from_millis(2500));
        let count = |ofp: &mut crate::ofp::Ofp| -> Result<(u64, f64), String> {
            Ok((ofp.sent(2)?, weft::cpu_exact(lab.pid).ok_or("the switch is gone")?))
        };
        let ((p0, c0), start) = (count(&mut ofp)?, std::time::Instant::now());
        std::thread::sleep(Duration::from_secs(scale.seconds));
        let ((p1, c1), elapsed) = (count(&mut ofp)?, start.elapsed().as_secs_f64());
        let packets = (p1 - p0) as f64;
        let what = if attack == 0 { "victims alone" } else { "victims under attack" };
        sheet.put(who, &format!("{what}: forwarded"), "packets/s", Better::More, packets / elapsed);
        forwarded[i] = packets / (c1 - c0);
        sheet.put(who, &format!("{what}, by CPU time"), "packets/CPU s", Better::More, forwarded[i]);
        if attack != 0 {
            let flows = lab.dump_flows(who)?.lines().count();
            sheet.put(who, "cached flows under attack", "flows", Better::Neither, flows as f64);
        }
        lab.world.wait(flood, 10.0);
    }
    let left = forwarded[1] / forwarded[0];
    sheet.put(who, "share left under attack, by CPU time", "of 1", Better::More, left);
    Ok(())
}

/// How long packets take from one host's socket to the other's kernel, quiet and while rules change.
fn delay(who: Who, sheet: &mut Sheet, scale: &Scale) -> Result<(), String> {
    let mut lab = lab::veths(who, "p")?;
    let me = std::env::current_exe().map_err(|e| e.to_string())?.display().to_string();
    let none = HashMap::new();
    let length = scale.seconds.to_string();
    let mut ofp = lab.openflow()?;
    for rate in [0, 10_000] {
        let out = format!("ages{rate}");
        let ages = lab.world.spawn("c2", &none, &[&me, "--tool", "ages", "10.9.0.2:7"], &out)?;
        std::thread::sleep(Duration::from_millis(100));
        let done = std::sync::atomic::AtomicBool::new(rate == 0);
        let (ofp, done) = (&mut ofp, &done);
        let (sent, applied) = std::thread::scope(|scope| {
            let stop = || done.load(std::sync::atomic::Ordering::Acquire);
            let churn = scope.spawn(move || churn(ofp, rate, stop));
            let argv = [&me, "--tool", "pace", "10.9.0.2:7", PACE, &length];
            let sent = lab.world.exec("c1", &none, &argv);
            done.store(true, std::sync::atomic::Ordering::Release);
            (sent, churn.join().map_err(|_| "the churn panicked".to_owned()))
        });
        sent?;
        lab.world.wait(ages, 10.0);
        let text = lab.world.output(&out);
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let what = if rate == 0 { "quiet" } else { "10,000 flow-mods/s" };
        for (i, quantile) in [(1, "p50"), (2, "p90"), (3, "p99")] {
            let value = *numbers.get(i).unwrap_or(&f64::NAN);
            sheet.put(who, &format!("delay {quantile}, {what}"), "µs", Better::Less, value);
        }
        if rate != 0 {
            sheet.put(who, "flow-mods applied meanwhile", "flow-mods/s", Better::More, applied??);
        }
    }
    Ok(())
}

/// Hits under 1, 10 and 100 masks, in cycles a packet.
pub(crate) fn masks(rounds: usize, seconds: u64) -> Table {
    let cases = [
        Case { name: "1 mask", frames, flows: rules::<1>, way: Way::Plain },
        Case { name: "10 masks", frames, flows: rules::<10>, way: Way::Plain },
        Case { name: "100 masks", frames, flows: rules::<100>, way: Way::Plain },
    ];
    cycles::compare("Cycles per hit under many masks, 10k flows", &cases, rounds, seconds)
}

fn frames() -> Vec<Vec<u8>> {
    (0..10_000u32).map(|i| udp(1, i % 100, 1000 + (i >> 2) as u16, 2000)).collect()
}

/// The last byte of the destination picks one of `N` tables; in each the rule has a mask of its own.
fn rules<const N: u32>() -> Vec<String> {
    let mut lines = Vec::new();
    for i in 0..100u32 {
        lines.push(format!(
            "table=0,priority=10,ip,in_port=IN,nw_dst=10.2.0.{i},actions=resubmit(,{})",
            1 + i % N
        ));
    }
    for t in 1..=N {
        let mask = std::net::Ipv4Addr::from(0xffff_0000 | (t << 1));
        let value = std::net::Ipv4Addr::from(0x0a01_0000 | (1 & (t << 1)));
        lines.push(format!("table={t},priority=10,ip,nw_src={value}/{mask},actions=output:OUT"));
    }
    lines
}
