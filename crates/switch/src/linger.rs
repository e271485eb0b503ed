//! How long does the main loop look for a controller's next message before it sleeps?
//!
//! A controller that changes one flow at a time and waits for each barrier sends the next message some microseconds
//! after it has the answer. To sleep and be woken takes longer than all the work in between, so the loop looks again for
//! a moment after it has answered a barrier; when that does not pay it does so ever more rarely. After flow-mods alone it
//! does not: whoever streams those needs no answer soon, and lanes want the processor.

use std::time::Duration;

/// How long it looks again.
pub(crate) const MOMENT: Duration = Duration::from_micros(50);
/// Times at most that it does not look after it did in vain.
const MOST_SKIPPED: u32 = 63;

/// Whether looking again pays.
#[derive(Debug, Default)]
pub(crate) struct Linger {
    /// Times that are skipped after the next one in vain.
    skip: u32,
    /// Times still to be skipped.
    left: u32,
}

impl Linger {
    /// Whether to look this time.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        due
    }

    /// Says whether something came.
    pub(crate) fn paid(&mut self, paid: bool) {
        self.skip = if paid { 0 } else { (2 * self.skip + 1).min(MOST_SKIPPED) };
        self.left = self.skip;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the next `times` it looks.
    fn looks(linger: &mut Linger, times: u32, paid: bool) -> u32 {
        let mut looks = 0;
        for _ in 0..times {
            if linger.is_due() {
                linger.paid(paid);
                looks += 1;
            }
        }
        looks
    }

    #[test]
    fn what_pays_is_done_each_time_and_what_does_not_ever_more_rarely() {
        let mut linger = Linger::default();
        assert_eq!(looks(&mut linger, 100, true), 100);
        let vain = looks(&mut linger, 6_400, false);
        assert!((100..=110).contains(&vain), "{vain}");
        // One that pays, within as many times as are skipped at most, and it is done each time again.
        assert!(looks(&mut linger, 64, true) >= 1);
        assert_eq!(looks(&mut linger, 100, true), 100);
    }
}
