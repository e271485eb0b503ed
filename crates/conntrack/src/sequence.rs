//! By how much are the sequence numbers of a stream off, when text in it was replaced by longer or shorter text?

/// The shift of one direction: `before` up to `pos`, `after` behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    pos: u32,
    before: i32,
    after: i32,
}

fn behind(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

impl Shift {
    /// Whether nothing is off.
    pub(crate) fn is_none(self) -> bool {
        self.before == 0 && self.after == 0
    }

    /// A sequence number of the sender as the receiver is to see it.
    pub(crate) fn apply(self, seq: u32) -> u32 {
        seq.wrapping_add_signed(if behind(seq, self.pos) { self.after } else { self.before })
    }

    /// An acknowledgment by the receiver as the sender is to see it.
    pub(crate) fn undo(self, ack: u32) -> u32 {
        let early = ack.wrapping_add_signed(-self.before);
        if behind(early, self.pos) { ack.wrapping_add_signed(-self.after) } else { early }
    }

    /// Notes that the segment that begins at `seq` grew by `by` bytes. One that is sent again changes nothing.
    pub(crate) fn note(&mut self, seq: u32, by: i32) {
        if by == 0 || self.before != self.after && !behind(seq, self.pos) {
            return;
        }
        if self.is_none() || behind(seq, self.pos) {
            (self.pos, self.before) = (seq, self.after);
            self.after += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_later_is_shifted_and_acknowledged_back() {
        let mut shift = Shift::default();
        shift.note(1000, 4);
        assert_eq!(shift.apply(1000), 1000, "the segment itself begins where it did");
        assert_eq!(shift.apply(1025), 1029);
        assert_eq!(shift.undo(1029), 1025);
        assert_eq!(shift.undo(1000), 1000);
        shift.note(1000, 4);
        assert_eq!(shift.apply(1025), 1029, "sent again");
        shift.note(2000, -1);
        assert_eq!((shift.apply(2000), shift.apply(2020)), (2004, 2023));
    }
}
