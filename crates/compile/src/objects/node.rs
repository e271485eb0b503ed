//! Which flows does the bridge have whatever its networks are?

use weft_flow::Action;

use super::vlan::STRANGER;
use crate::cookie::{Cookie, Kind, Purpose};
use crate::flow::Flow;
use crate::stage::{Register, Stage};

/// What leads from stage to stage when nothing else does.
pub(crate) fn flows() -> Vec<Flow> {
    let flow = |stage, purpose| Flow::new(stage, 0, Cookie { kind: Kind::Node, purpose, key: 0 });
    let mut pass_by =
        flow(Stage::Neighbour, Purpose::Forward).on_register(Register::Direct, 1).goto(Stage::Bridge);
    pass_by.priority = 200;
    let mut stranger = flow(Stage::Output, Purpose::OtherVlan).on_register(Register::Tagged, 1);
    stranger.priority = STRANGER;
    let out = Action::OutputReg { src: Register::OutPort.subfield(), max_len: 0 };
    vec![
        flow(Stage::Classify, Purpose::NoNetwork),
        flow(Stage::Neighbour, Purpose::Forward).goto(Stage::Service),
        pass_by,
        flow(Stage::Service, Purpose::Forward).goto(Stage::Route),
        flow(Stage::Route, Purpose::Forward).goto(Stage::Bridge),
        flow(Stage::Flood, Purpose::Forward).goto(Stage::Output),
        stranger,
        flow(Stage::Output, Purpose::Forward).act([out]),
    ]
}
