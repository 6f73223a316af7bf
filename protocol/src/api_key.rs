//! The APIs that this project speaks: keys, names, version ranges.
//!
//! Place: the one table from which `ApiVersions` answers, headers take their format, metrics take
//! their names. `docs/compatibility.md` is checked against it.
//! Invariants: I1 keys ascend. I2 ranges are those of Apache Kafka 4.3.1.
//! Source: Kafka protocol guide, "Api Keys".

macro_rules! api_keys {
    ($($variant:ident = $key:literal, versions $min:literal..=$max:literal, flexible $flexible:expr;)*) => {
        /// An API of the Kafka protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("`", stringify!($variant), "`, key ", $key, ".")]
                $variant = $key,
            )*
        }

        /// Every API that is served, with its versions, by ascending key.
        pub const SERVED: &[ServedApi] = &[
            $(ServedApi { key: ApiKey::$variant, min_version: $min, max_version: $max },)*
        ];

        impl ApiKey {
            /// The API with this key, if it is one of ours.
            pub const fn from_i16(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// First version with compact types and tagged fields; `i16::MAX` if there is none.
            pub const fn first_flexible_version(self) -> i16 {
                match self {
                    $(Self::$variant => $flexible,)*
                }
            }

            /// The versions that `ApiVersions` tells.
            pub const fn served(self) -> ServedApi {
                match self {
                    $(Self::$variant => ServedApi { key: self, min_version: $min, max_version: $max },)*
                }
            }
        }
    };
}

/// No version of the API is flexible.
const NEVER: i16 = i16::MAX;

api_keys! {
    Produce = 0, versions 0..=13, flexible 9;
    Fetch = 1, versions 4..=18, flexible 12;
    ListOffsets = 2, versions 1..=11, flexible 6;
    Metadata = 3, versions 0..=13, flexible 9;
    OffsetCommit = 8, versions 2..=10, flexible 8;
    OffsetFetch = 9, versions 1..=10, flexible 6;
    FindCoordinator = 10, versions 0..=6, flexible 3;
    JoinGroup = 11, versions 0..=9, flexible 6;
    Heartbeat = 12, versions 0..=4, flexible 4;
    LeaveGroup = 13, versions 0..=5, flexible 4;
    SyncGroup = 14, versions 0..=5, flexible 4;
    DescribeGroups = 15, versions 0..=6, flexible 5;
    ListGroups = 16, versions 0..=5, flexible 3;
    ApiVersions = 18, versions 0..=4, flexible 3;
    CreateTopics = 19, versions 2..=7, flexible 5;
    DeleteTopics = 20, versions 1..=6, flexible 4;
    DeleteRecords = 21, versions 0..=2, flexible 2;
    InitProducerId = 22, versions 0..=5, flexible 2;
    OffsetForLeaderEpoch = 23, versions 2..=4, flexible 4;
    DescribeConfigs = 32, versions 1..=4, flexible 4;
    AlterConfigs = 33, versions 0..=2, flexible 2;
    DescribeLogDirs = 35, versions 1..=5, flexible 2;
    CreatePartitions = 37, versions 0..=3, flexible 2;
    DeleteGroups = 42, versions 0..=2, flexible 2;
    IncrementalAlterConfigs = 44, versions 0..=1, flexible 1;
    OffsetDelete = 47, versions 0..=0, flexible NEVER;
    DescribeCluster = 60, versions 0..=2, flexible 0;
    DescribeProducers = 61, versions 0..=0, flexible 0;
    DescribeTopicPartitions = 75, versions 0..=0, flexible 0;
}

/// One API and the versions of it that are told to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedApi {
    /// The API.
    pub key: ApiKey,
    /// Oldest version, inclusive.
    pub min_version: i16,
    /// Newest version, inclusive.
    pub max_version: i16,
}

/// Oldest Produce version with a format that is still spoken.
///
/// Versions 0 to 2 carry message formats from before record batches. Kafka 4 tells them in
/// `ApiVersions` all the same, because old librdkafka takes a broker without them for one that cannot
/// compress (KAFKA-18659), and closes the connection of whoever uses them.
const PRODUCE_MIN_VERSION: i16 = 3;

impl ServedApi {
    /// Whether a request of this version can be decoded and answered.
    pub const fn accepts(self, version: i16) -> bool {
        let min = match self.key {
            ApiKey::Produce => PRODUCE_MIN_VERSION,
            _ => self.min_version,
        };
        min <= version && version <= self.max_version
    }
}

impl ApiKey {
    /// The key as it is on the wire.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// Whether requests of this version have compact types and tagged fields.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.first_flexible_version()
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ascends_and_is_read_back() {
        assert!(SERVED.is_sorted_by_key(|api| api.key.as_i16()));
        for api in SERVED {
            assert_eq!(ApiKey::from_i16(api.key.as_i16()), Some(api.key));
            assert_eq!(api.key.served(), *api);
            assert!(api.accepts(api.max_version));
        }
        assert_eq!(ApiKey::from_i16(-1), None);
        assert_eq!(ApiKey::from_i16(17), None);
    }

    #[test]
    fn produce_is_told_from_0_and_accepted_from_3() {
        let produce = ApiKey::Produce.served();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        assert!(!produce.accepts(2));
        assert!(produce.accepts(3));
        assert!(!produce.accepts(14));
    }
}
