//! How do resources fare, and who is told?

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{Kind, ObjectRef, Port, Resource};
use weft_store::{Expect, Op, Store, StoreError, Transaction};

use super::{Node, NodeError, Question, now};
use crate::resolve;
use crate::status::{self, Fault};

impl<S: Store> Node<S> {
    /// Tells how resources fare.
    pub(super) async fn report(
        &self,
        nets: &BTreeSet<String>,
        ports: &BTreeSet<String>,
        mut written: BTreeMap<ObjectRef, Resource>,
    ) -> Result<(), NodeError> {
        let switch = (!self.in_line)
            .then(|| ("SwitchGone", "the switch is not there, or did not take its flows".to_owned()));
        for port in ports.iter().filter_map(|name| self.catalog.port(name)) {
            if port.spec.node.as_ref().is_some_and(|n| *n != self.config.node) {
                continue;
            }
            let (fault, at) = self.fares(port, &switch);
            let new = status::port(
                port,
                self.catalog.network(&port.spec.network),
                &fault,
                at,
                &self.config.node,
                now(),
            );
            if new != *port || written.contains_key(&port.reference()) {
                written.insert(port.reference(), Resource::from(new));
            }
        }
        for network in nets.iter().filter_map(|name| self.catalog.network(name)) {
            let fault = self.host.fault(&resolve::cable_device(network.name())).or_else(|| switch.clone());
            let new = status::network(network, &self.catalog, &fault, self.config.underlay_mtu, now());
            if new != *network || written.contains_key(&network.reference()) {
                written.insert(network.reference(), Resource::from(new));
            }
        }
        if written.is_empty() {
            return Ok(());
        }
        let op = |resource| Op::PutStatus { resource, expect: Expect::Any };
        let ops: Vec<Op> = written.into_values().map(op).collect();
        match self.store.commit(Transaction { ops: ops.clone(), dry_run: false }).await {
            Ok(_) => Ok(()),
            Err(e @ (StoreError::Disk(_) | StoreError::Closed)) => Err(e.into()),
            // One of them is gone, or changed, meanwhile: the others are told one by one.
            Err(_) => {
                for op in ops {
                    let one = Transaction { ops: vec![op], dry_run: false };
                    if let Err(e @ (StoreError::Disk(_) | StoreError::Closed)) = self.store.commit(one).await
                    {
                        return Err(e.into());
                    }
                }
                Ok(())
            }
        }
    }

    /// Why a port is not ready, and where it is plugged in.
    pub(super) fn fares(&self, port: &Port, switch: &Fault) -> (Fault, Option<(String, u32)>) {
        let interface = resolve::interface_of(port, &self.view);
        let there = interface.as_ref().and_then(|name| self.view.interfaces.get(name));
        let at = interface.clone().zip(there.and_then(|i| i.ofport));
        let fault = self.faults.get(port.name()).cloned();
        let fault = fault.or_else(|| self.contested(port));
        let fault = fault.or_else(|| self.host.fault(interface.as_ref()?));
        let unplugged = || {
            let why = there.and_then(|i| i.error.clone());
            let waits = "nothing is plugged in yet".to_owned();
            at.is_none().then(|| ("NotPlugged", why.unwrap_or(waits)))
        };
        (fault.or_else(unplugged).or_else(|| switch.clone()), at)
    }

    /// Answers a question.
    pub(super) fn tell_name(&self, question: Question) {
        let name = match question.kind {
            Kind::Network => self.resolver.nets.name(question.key),
            Kind::Port => self.resolver.ports.name(question.key),
            _ => None,
        };
        // Who does not wait any more is not told.
        let _ = question.answer.send(name.map(str::to_owned));
    }
}
