//! Pings that go on while something else happens: not one may be missing.

use crate::hosts::{Service, Site};

/// Pings from one host to an address, without an end.
pub(crate) struct Pings {
    service: Service,
}

impl Pings {
    /// Begins, from host `n`, with so many seconds between two.
    pub(crate) fn start(site: &Site, n: usize, to: &str, seconds: f32) -> Pings {
        Pings { service: site.serve(n, &format!("ping -i {seconds} {to}")) }
    }

    /// The sequence numbers that were answered.
    fn answered(&self) -> Vec<u32> {
        let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
        // The last line may not be whole yet.
        let log = self.service.log();
        log.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().filter_map(number).collect()
    }

    /// Panics unless every ping up to now was answered, once; there were `least` or more. One that was just sent may
    /// still be under way (ping does not wait for it when it is ended): so all before a later one are looked at.
    pub(crate) fn unbroken(self, site: &Site, least: usize) {
        let until = self.answered().last().map_or(0, |n| n + 5).max(least as u32);
        site.switch.wait_for("later pings are answered", |_| self.answered().last() >= Some(&until));
        let mut answered = self.answered();
        answered.sort_unstable();
        let sent: Vec<u32> = (1..=answered.len() as u32).collect();
        assert!(answered == sent, "a ping is missing: {}", self.service.log());
    }
}
