//! Where do UUIDs come from, when a pure room may not ask the system for randomness?

use sha1::{Digest, Sha1};

pub use uuid::Uuid;

/// An endless stream of version 4 UUIDs grown from a seed the caller drew at random.
///
/// Two streams of one seed are equal, which makes tests and simulations repeatable;
/// a server seeds it with 32 bytes of the system's randomness at start.
#[derive(Debug, Clone)]
pub struct UuidStream {
    seed: [u8; 32],
    counter: u64,
}

impl UuidStream {
    /// A stream that starts at the beginning of `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next UUID.
    pub fn draw(&mut self) -> Uuid {
        let mut hash = Sha1::new();
        hash.update(self.seed);
        hash.update(self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

/// Reads the 36-character form of RFC 4122, and only that.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_do_not_collide() {
        let mut a = UuidStream::new([7; 32]);
        let mut b = UuidStream::new([7; 32]);
        let first: Vec<_> = (0..100).map(|_| a.draw()).collect();
        let again: Vec<_> = (0..100).map(|_| b.draw()).collect();
        assert_eq!(first, again);
        let mut sorted = first;
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 100);
    }

    #[test]
    fn only_the_long_form_is_read() {
        assert!(parse_uuid("550e8400-e29b-41d4-a716-446655440000").is_some());
        assert!(parse_uuid("550e8400e29b41d4a716446655440000").is_none());
        assert!(parse_uuid("{50e8400-e29b-41d4-a716-44665544000}").is_none());
        assert!(parse_uuid("550e8400-e29b-41d4-a716-44665544000g").is_none());
    }
}
