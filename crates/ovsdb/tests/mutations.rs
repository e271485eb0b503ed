//! Do mutated messages and files do harm?
//!
//! The fuzz targets look deeper; this runs the same checks with every test, on messages a
//! real client sends (the dialogues of `tests/conformance`) with bytes changed.

mod hostile;

use serde_json::json;
use weft_ovsdb::{Uuid, UuidStream};

/// Numbers from a seed, so that a failure repeats.
struct Dice(UuidStream);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        let (high, low) = Uuid::as_u64_pair(&self.0.draw());
        ((high ^ low.rotate_left(17)) % sides.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, donor: &[u8]) {
        for _ in 0..=self.roll(3) {
            let at = self.roll(bytes.len());
            match self.roll(5) {
                0 if !bytes.is_empty() => bytes[at] = self.roll(256) as u8,
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"[]{}\",:0-e\\~\0"[self.roll(13)]),
                3 => bytes.truncate(at),
                _ => {
                    let from = self.roll(donor.len());
                    let to = from + self.roll(donor.len() - from);
                    bytes.splice(at..at, donor[from..to].iter().copied());
                }
            }
        }
    }
}

#[test]
fn mutated_sessions() {
    let messages = hostile::requests();
    let mut dice = Dice(UuidStream::new([77; 32]));
    // Unchanged, every dialogue is fine.
    for (i, message) in messages.iter().enumerate() {
        hostile::session(&[&[i as u8 | 1][..], message].concat());
    }
    for _ in 0..400 {
        let mut data = Vec::new();
        for _ in 0..1 + dice.roll(6) {
            let mut message = messages[dice.roll(messages.len())].clone();
            if dice.roll(3) > 0 {
                let donor = &messages[dice.roll(messages.len())];
                dice.mutate(&mut message, donor);
            }
            data.push(b"ab~"[dice.roll(3)]);
            data.append(&mut message);
            data.push(0);
        }
        hostile::session(&data);
    }
}

#[test]
fn mutated_files_and_updates() {
    let mut dice = Dice(UuidStream::new([78; 32]));
    let uuid = "11111111-1111-4111-8111-111111111111";
    let record = json!({"_date": 1, "_is_diff": true, "_comment": "x", "QoS": {
        uuid: {"type": "linux-htb", "other_config": ["map", [["a", "b"]]], "queues": ["map", []]}}});
    let update = json!({"id": null, "method": "update2", "params": ["m", {"Bridge": {
        uuid: {"insert": {"name": "br0", "flood_vlans": ["set", [1, 2]]}}}}]});
    let (record, update) = (record.to_string().into_bytes(), update.to_string().into_bytes());
    hostile::file(&record);
    hostile::client(&update);
    for _ in 0..2_000 {
        let (mut r, mut u) = (record.clone(), [&update[..], &update].concat());
        dice.mutate(&mut r, &record);
        dice.mutate(&mut u, &update);
        hostile::file(&r);
        hostile::client(&u);
    }
}
