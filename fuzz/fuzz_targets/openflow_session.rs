//! Can a peer, saying anything in pieces of any size, make either end of an OpenFlow connection panic or queue
//! without bound?
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_openflow::ErrorCode;
use weft_openflow::session::{ControllerSession, Event, Options, Request, SwitchSession};
use weft_openflow::stats::{StatsReply, StatsRequest};

fuzz_target!(|data: &[u8]| {
    let Some((choice, stream)) = data.split_first_chunk::<2>() else { return };
    let mut bytes = vec![choice[0] % 6 + 1, 0, 0, 8, 0, 0, 0, 0];
    bytes.extend_from_slice(stream);
    let mut switch = SwitchSession::new(Options::default(), 0);
    let mut controller = ControllerSession::new(Options::default(), 0);
    for (now, chunk) in bytes.chunks(usize::from(choice[1]) + 1).enumerate() {
        for event in switch.receive(chunk, now as u64) {
            let Event::Request(to, request) = event else { continue };
            match request {
                Request::BundleCommit(commit) => {
                    assert!(commit.iter().count() <= commit.len());
                    switch.reply_commit(&to, Ok(()));
                }
                Request::Barrier => switch.reply_barrier(&to),
                Request::Role(role) => {
                    switch.set_role(role.role);
                    switch.reply_role(&to, 1);
                }
                Request::Stats(StatsRequest::FlowMonitor(list)) => {
                    // A message has room for so many at most.
                    assert!(list.len() <= 4096);
                    switch.reply_stats(&to, StatsReply::FlowMonitor(Vec::new()), false);
                }
                _ => switch.refuse(&to, ErrorCode::OFPBRC_EPERM),
            }
        }
        controller.receive(chunk, now as u64);
        // Nothing that is said makes more than an error of 84 bytes, an echo of itself, or the 136 bytes that say which
        // asynchronous messages are wanted.
        assert!(switch.backlog() <= 64 + 17 * bytes.len());
    }
});
