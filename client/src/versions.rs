//! Which version of each API to speak: the newest that broker and client both know.

use protocol::messages::api_versions::ApiVersion;
use protocol::{ApiKey, SERVED};

use crate::error::ClientError;

/// From these versions on topics are named by id only; this client names them by name.
const PRODUCE_VERSION_MAX: i16 = 12;
const FETCH_VERSION_MAX: i16 = 12;

/// The broker's version ranges.
#[derive(Debug, Clone, Default)]
pub struct ApiRanges {
    ranges: Vec<(i16, i16, i16)>,
}

impl ApiRanges {
    pub(crate) fn new(keys: &[ApiVersion]) -> ApiRanges {
        let ranges = keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        ApiRanges { ranges }
    }

    /// Key, lowest and highest version of every API, as the broker told them.
    pub fn all(&self) -> &[(i16, i16, i16)] {
        &self.ranges
    }

    /// The version to speak.
    ///
    /// # Errors
    /// [`ClientError::VersionMissing`].
    pub fn version(&self, key: ApiKey) -> Result<i16, ClientError> {
        let missing = ClientError::VersionMissing { key };
        let Some(ours) = SERVED.iter().find(|served| served.key == key) else {
            return Err(missing);
        };
        let ours_max = match key {
            ApiKey::Produce => PRODUCE_VERSION_MAX,
            ApiKey::Fetch => FETCH_VERSION_MAX,
            _ => ours.max_version,
        };
        let theirs = self
            .ranges
            .iter()
            .find(|(theirs, _, _)| *theirs == key.as_i16());
        theirs
            .map(|(_, min, max)| (ours_max.min(*max), *min))
            .filter(|(version, min)| version >= min && ours.accepts(*version))
            .map(|(version, _)| version)
            .ok_or(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(min_version: i16, max_version: i16, expected: Option<i16>) {
        let api_key = ApiKey::Produce.as_i16();
        let ranges = ApiRanges::new(&[ApiVersion {
            api_key,
            min_version,
            max_version,
        }]);
        assert_eq!(ranges.version(ApiKey::Produce).ok(), expected);
    }

    #[test]
    fn newest_common_version_is_spoken() {
        check(0, 13, Some(12));
        check(0, 9, Some(9));
        check(13, 13, None);
        check(0, 2, None);
        assert!(ApiRanges::default().version(ApiKey::Fetch).is_err());
    }
}
