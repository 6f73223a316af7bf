//! Tests of configs: the registry against itself, resolution, description, alteration.

mod alter;
mod describe;
mod random;
mod registry;
mod resolve;

use crate::metadata::Configs;

fn configs(pairs: &[(&str, &str)]) -> Configs {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
