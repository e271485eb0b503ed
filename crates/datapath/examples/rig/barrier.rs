//! How long does a barrier take, lanes asleep or at work?

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_datapath::{Datapath, UserDatapath, UserOptions};
use weft_pipeline::Pipeline;

use crate::{Rig, forward, port_match};

pub(crate) fn run() {
    println!("\n{:<28} {:>10} {:>10}", "barrier", "p50 us", "p99 us");
    let pipeline = Arc::new(Pipeline::new());
    let options = UserOptions { lanes: Some(2), ..UserOptions::default() };
    let idle = UserDatapath::new(pipeline.clone(), Arc::new(|_| true), &options).expect("datapath");
    std::thread::sleep(Duration::from_millis(50));
    report("lanes asleep", || idle.sync());
    let rig: Rig = forward(1, port_match);
    rig.start();
    std::thread::sleep(Duration::from_millis(50));
    report("a lane at work", || rig.datapath.sync());
}

fn report(name: &str, barrier: impl Fn()) {
    let mut times: Vec<f64> = (0..2_000)
        .map(|_| {
            let start = Instant::now();
            barrier();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<28} {:>10.1} {:>10.1}", times[1_000], times[1_980]);
}
