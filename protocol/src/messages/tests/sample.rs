//! Values for tests, from a seed: every field set that the version has, defaults among them.

use std::borrow::Cow;

use crate::primitives::wire::Format;
use crate::primitives::{Records, Uuid};

/// Most elements of a generated array.
const ELEMENTS_MAX: u64 = 3;

/// Pseudo-random numbers (xorshift64*), the same for the same seed on every machine.
#[derive(Debug)]
pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds shall not give neighbouring sequences, nor any of them zeros.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A small number, an extreme one, or any.
    fn integer(&mut self) -> i64 {
        match self.below(6) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 => self.below(1000) as i64,
            _ => (self.next() << 32 ^ self.next()) as i64,
        }
    }

    pub(crate) fn bytes(&mut self, bytes_max: u64) -> Vec<u8> {
        (0..self.below(bytes_max + 1))
            .map(|_| self.next() as u8)
            .collect()
    }
}

/// A type that has values for tests.
pub(crate) trait Sample: Sized {
    fn sample(generator: &mut Generator, format: Format) -> Self;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(generator: &mut Generator, _: Format) -> Self {
                let value = generator.integer();
                Self::try_from(value).unwrap_or_else(|_| match generator.below(3) {
                    0 => Self::MIN,
                    1 => Self::MAX,
                    _ => value as Self,
                })
            }
        }
    )*};
}

integers!(i8, i16, i32, i64);

impl Sample for bool {
    fn sample(generator: &mut Generator, _: Format) -> Self {
        generator.below(2) == 1
    }
}

impl Sample for Uuid {
    fn sample(generator: &mut Generator, _: Format) -> Self {
        match generator.below(4) {
            0 => Self::ZERO,
            _ => Self(std::array::from_fn(|_| generator.next() as u8)),
        }
    }
}

impl Sample for Cow<'_, str> {
    fn sample(generator: &mut Generator, _: Format) -> Self {
        match generator.below(5) {
            0 => Cow::Borrowed(""),
            1 => Cow::Borrowed("größe"),
            2 => Cow::Owned("long-".repeat(40)), // A compact length of two bytes.
            _ => Cow::Owned(format!("name-{}", generator.below(1000))),
        }
    }
}

impl Sample for Cow<'_, [u8]> {
    fn sample(generator: &mut Generator, _: Format) -> Self {
        Cow::Owned(generator.bytes(150))
    }
}

impl Sample for Records<'_> {
    fn sample(generator: &mut Generator, _: Format) -> Self {
        match generator.below(4) {
            0 => Self::Null,
            _ => Self::from(generator.bytes(300)),
        }
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(generator: &mut Generator, format: Format) -> Self {
        (generator.below(4) != 0).then(|| T::sample(generator, format))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(generator: &mut Generator, format: Format) -> Self {
        (0..generator.below(ELEMENTS_MAX + 1))
            .map(|_| T::sample(generator, format))
            .collect()
    }
}
