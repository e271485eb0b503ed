//! Which flows does the bridge have whatever its networks are?

use weft_flow::Action;

use crate::cookie::{Cookie, Kind, Purpose};
use crate::flow::Flow;
use crate::stage::{Register, Stage};

/// What leads from stage to stage when nothing else does.
pub(crate) fn flows() -> Vec<Flow> {
    let flow = |stage, purpose| Flow::new(stage, 0, Cookie { kind: Kind::Node, purpose, key: 0 });
    let out = Action::OutputReg { src: Register::OutPort.subfield(), max_len: 0 };
    vec![
        flow(Stage::Classify, Purpose::NoNetwork),
        flow(Stage::Neighbour, Purpose::Forward).goto(Stage::Service),
        flow(Stage::Service, Purpose::Forward).goto(Stage::Route),
        flow(Stage::Route, Purpose::Forward).goto(Stage::Bridge),
        flow(Stage::Flood, Purpose::Forward).goto(Stage::Output),
        flow(Stage::Output, Purpose::Forward).act([out]),
    ]
}
