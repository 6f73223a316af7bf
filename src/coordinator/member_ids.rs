//! Random text for the ids of members.
//!
//! *Source*: Kafka appends a random UUID to the client's name; the form is the same here.

use std::cell::Cell;

/// Draws from a seed, so that a simulation repeats itself.
///
/// Nobody is protected by these ids: they only must not repeat among the members of a group, across
/// restarts too. So the seed must be a new one at each start.
#[derive(Debug)]
pub(super) struct MemberIds {
    state: Cell<u64>,
}

impl MemberIds {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: Cell::new(seed),
        }
    }

    /// A UUID of version 4, in the usual form.
    pub(super) fn next(&self) -> String {
        let bits = u128::from(self.draw()) << 64 | u128::from(self.draw());
        // Version 4, variant 1.
        let bits = bits & !(0xf << 76) | (4 << 76);
        let bits = bits & !(0b11 << 62) | (0b10 << 62);
        let hex = format!("{bits:032x}");
        let parts = [
            hex.get(..8),
            hex.get(8..12),
            hex.get(12..16),
            hex.get(16..20),
            hex.get(20..),
        ];
        parts.map(|part| part.expect("32 digits")).join("-")
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn draw(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_random_uuids_and_do_not_repeat() {
        let ids = MemberIds::new(7);
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first, second);
        assert_eq!(MemberIds::new(7).next(), first);
        assert_ne!(MemberIds::new(8).next(), first);
        let parts: Vec<_> = first.split('-').collect();
        assert_eq!(
            parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
        assert!(
            parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]),
            "{first}"
        );
    }
}
