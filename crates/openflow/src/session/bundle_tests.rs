//! Bundles, as both ends see them.

use super::tests::{Pair, error_of, offer};
use super::*;
use crate::msg::bundle::{BundleAdd, BundleControl, BundleStep};
use crate::msg::flow::FlowMod;
use crate::{Codec, ErrorCode, Message, Version};

fn control(step: BundleStep) -> Message {
    Message::BundleControl(BundleControl { id: 5, step, flags: 3 })
}

#[test]
fn bundles_come_as_one_request() {
    for version in [Version::V13, Version::V14, Version::V15] {
        let mut pair = Pair::connected(version);
        pair.controller.send(&control(BundleStep::OpenRequest)).unwrap();
        assert_eq!(pair.heard(), control(BundleStep::OpenReply));
        for cookie in 0..3 {
            let flow = FlowMod { table: Some(0), new_cookie: Some(cookie), ..FlowMod::default() };
            // The message has the transaction of the one that carries it, which is the next.
            let mut message = Vec::new();
            Codec::new(version)
                .encode(3 + cookie as u32, &Message::FlowMod(Box::new(flow)), &mut message)
                .unwrap();
            let add = BundleAdd { id: 5, flags: 3, message };
            assert_eq!(pair.controller.send(&Message::BundleAdd(add)), Ok(3 + cookie as u32));
        }
        let (to, request) = pair.ask(&control(BundleStep::CommitRequest));
        let Request::BundleCommit(commit) = request else { panic!() };
        let cookies: Vec<_> = commit
            .iter()
            .map(|(_, request)| match request {
                Request::FlowMod(f) => f.new_cookie,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((commit.len(), cookies), (3, vec![Some(0), Some(1), Some(2)]));
        pair.switch.reply_commit(&to, Ok(()));
        assert_eq!(pair.heard(), control(BundleStep::CommitReply));
        pair.controller.send(&control(BundleStep::CommitRequest)).unwrap();
        assert_eq!(error_of(pair.heard()), ErrorCode::OFPBFC_BAD_ID);
    }
}

/// Adds a flow-mod with as much to say as `bytes` of notes, and returns what is said of it.
fn add(pair: &mut Pair, id: u32, notes: usize) -> Option<ErrorCode> {
    let note = weft_flow::Action::Note(vec![0; notes]);
    let flow = FlowMod {
        table: Some(0),
        instructions: weft_flow::Instructions::apply(vec![note]),
        ..FlowMod::default()
    };
    let told = pair.controller.send_bundled(id, 0, &Message::FlowMod(Box::new(flow))).map(|_| pair.run().1);
    told.unwrap().pop().map(|event| match event {
        ControllerEvent::Message(_, message) => error_of(message),
        other => panic!("{other:?}"),
    })
}

fn step(pair: &mut Pair, id: u32, step: BundleStep) -> Message {
    pair.controller.send(&Message::BundleControl(BundleControl { id, step, flags: 0 })).unwrap();
    pair.heard()
}

#[test]
fn bundles_of_a_connection_are_bounded() {
    let options = Options { max_bundle_bytes: 10_000, ..Options::default() };
    let mut pair = Pair::new(options.clone(), offer(&[Version::V14]));
    pair.run();
    let refused: Vec<_> = (0..100).filter_map(|n| add(&mut pair, n % 2, 100)).collect();
    assert!((40..70).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|code| *code == ErrorCode::OFPBFC_MSG_TOO_MANY));
    assert!(options.bundles.used() <= 10_000);
    drop(pair);
    assert_eq!(options.bundles.used(), 0, "a connection that ends gives all back");
}

#[test]
fn what_a_large_bundle_holds_is_given_back() {
    let options = Options::default();
    let mut pair = Pair::new(options.clone(), offer(&[Version::V14]));
    pair.run();
    // More than 64 MiB, as hundreds of thousands of rules are.
    for _ in 0..1400 {
        assert_eq!(add(&mut pair, 5, 50_000), None);
    }
    assert!((70 << 20..80 << 20).contains(&options.bundles.used()), "{}", options.bundles.used());
    assert_eq!(add(&mut pair, 6, 50_000), None);
    let commit = Message::BundleControl(BundleControl { id: 5, step: BundleStep::CommitRequest, flags: 0 });
    let (_, Request::BundleCommit(commit)) = pair.ask(&commit) else { panic!() };
    assert_eq!((commit.len(), commit.iter().count()), (1400, 1400));
    assert!(options.bundles.used() > 70 << 20, "what is to be done is there still");
    drop(commit);
    assert!(options.bundles.used() < 1 << 20);
    step(&mut pair, 6, BundleStep::DiscardRequest);
    assert_eq!(options.bundles.used(), 0);
}

#[test]
fn connections_share_a_budget() {
    let options = Options { bundles: std::sync::Arc::new(BundleBudget::new(1 << 20)), ..Options::default() };
    let mut pairs: Vec<Pair> = (0..8).map(|_| Pair::new(options.clone(), offer(&[Version::V14]))).collect();
    let mut held = Vec::new();
    for pair in &mut pairs {
        pair.run();
        let before = options.bundles.used();
        let refused = (0..1100).find_map(|_| add(pair, 1, 1000));
        assert!(
            refused == Some(ErrorCode::OFPBFC_MSG_TOO_MANY)
                || refused == Some(ErrorCode::OFPBFC_OUT_OF_BUNDLES)
        );
        held.push(options.bundles.used() - before);
        assert!(options.bundles.used() <= 1 << 20);
    }
    // The second gets its part of what the first, who would have it all, has to leave.
    assert!(held[0] > 500 << 10 && held[1] > 20 << 10, "{held:?}");
    assert_eq!(error_of(step(&mut pairs[7], 2, BundleStep::OpenRequest)), ErrorCode::OFPBFC_OUT_OF_BUNDLES);
    // Where one goes, others have room again.
    pairs.swap_remove(0);
    assert_eq!(add(&mut pairs[3], 3, 1000), None);
}

#[test]
fn idle_bundles_are_forgotten() {
    let options = Options::default();
    let mut pair = Pair::new(options.clone(), offer(&[Version::V14]));
    pair.run();
    for id in [1, 2] {
        step(&mut pair, id, BundleStep::OpenRequest);
        assert_eq!(add(&mut pair, id, 10), None);
    }
    // All that happened, happened at 1.
    pair.switch.tick(10_000);
    assert!(pair.run().1.is_empty());
    options.bundles.set_idle_ms(Some(4000));
    pair.switch.tick(4_000);
    assert!(pair.run().1.is_empty());
    pair.switch.tick(4_001);
    let errors = pair.run().1;
    assert_eq!(errors.len(), 2);
    for (event, id) in errors.into_iter().zip(1u8..) {
        let ControllerEvent::Message(_, Message::Error(error)) = event else { panic!("{event:?}") };
        // The message that opened it is quoted.
        assert_eq!((error.data[1], &error.data[8..12]), (33, &[0, 0, 0, id][..]));
        assert_eq!(error_of(Message::Error(error)), ErrorCode::OFPBFC_TIMEOUT);
    }
    assert_eq!(options.bundles.used(), 0);
    assert_eq!(error_of(step(&mut pair, 1, BundleStep::CommitRequest)), ErrorCode::OFPBFC_BAD_ID);
}
