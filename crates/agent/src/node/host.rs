//! What did others change in the kernel, and how is it put right?

use tokio::time::Instant;
use weft_store::Store;

use super::{LOOK, Node};
use crate::{links, nat};

impl<S: Store> Node<S> {
    /// The host's ends of networks: what others changed is put right.
    pub(super) async fn host(&mut self) {
        self.look = Instant::now() + LOOK;
        let wanted = links::wanted(&self.catalog);
        let rules = nat::rules(&self.catalog);
        let mut installed = std::mem::take(&mut self.installed);
        let work = move || {
            let mut done = links::ensure(&wanted);
            match installed.ensure(rules) {
                Ok(true) => done.mended.push("the table inet weft".into()),
                Ok(false) => {}
                Err(why) => done.wrong.push(why),
            }
            (done, installed)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((done, installed)) => {
                self.installed = installed;
                done.mended.iter().for_each(|what| tracing::info!(what, "put right"));
                // Said once, however long it stays so.
                let new = done.wrong.iter().filter(|why| !self.wrong.contains(why));
                new.for_each(|why| tracing::warn!(why, "the host's part of the networks"));
                self.wrong = done.wrong;
            }
            Err(why) => tracing::error!(%why, "looking at the kernel failed"),
        }
    }
}
