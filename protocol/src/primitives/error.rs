//! Why bytes are not a message, and why a message has no bytes in a version.

/// A frame that is not a message of its API and version.
///
/// Every variant means that the peer broke the protocol; the connection cannot be read further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches past the end of the frame.
    #[error("at byte {at}: {needed} bytes are needed, {remaining} are left")]
    Truncated {
        /// Position in the frame.
        at: usize,
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left in the frame.
        remaining: usize,
    },
    /// A varint of more bytes than its type can have.
    #[error("at byte {at}: a varint does not end")]
    VarintTooLong {
        /// Position in the frame.
        at: usize,
    },
    /// A length below zero where it does not mean null.
    #[error("at byte {at}: length {length} is negative")]
    NegativeLength {
        /// Position in the frame.
        at: usize,
        /// The length as it was sent.
        length: i32,
    },
    /// Null in a field that has no null in this version.
    #[error("at byte {at}: null where the field cannot be null")]
    UnexpectedNull {
        /// Position in the frame.
        at: usize,
    },
    /// Null in a field that may be null only in other versions.
    #[error("{message}.{field} cannot be null in version {version}")]
    NullInVersion {
        /// Structure that holds the field.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// Version of the message.
        version: i16,
    },
    /// A string of more bytes than [`MAX_STRING_BYTES`](super::decoder::MAX_STRING_BYTES).
    #[error("at byte {at}: a string of {bytes} bytes is too long")]
    StringTooLong {
        /// Position in the frame.
        at: usize,
        /// Its length.
        bytes: usize,
    },
    /// A string that is not UTF-8.
    #[error("at byte {at}: a string is not UTF-8")]
    InvalidUtf8 {
        /// Position in the frame.
        at: usize,
    },
    /// An array that claims more elements than the frame has bytes left, or than the limit.
    #[error("at byte {at}: an array claims {count} elements, at most {limit} are possible")]
    TooManyElements {
        /// Position in the frame.
        at: usize,
        /// Elements that the array claims.
        count: usize,
        /// Elements that are possible or allowed here.
        limit: usize,
    },
    /// Arrays of elements that are much larger in memory than on the wire.
    #[error("at byte {at}: the arrays need more than {limit} bytes of memory")]
    TooMuchMemory {
        /// Position in the frame.
        at: usize,
        /// Memory that a frame of this length may use.
        limit: usize,
    },
    /// More tagged fields than [`MAX_TAGGED_FIELDS`](super::decoder::MAX_TAGGED_FIELDS).
    #[error("at byte {at}: {count} tagged fields are too many")]
    TooManyTaggedFields {
        /// Position in the frame.
        at: usize,
        /// Fields that are claimed.
        count: usize,
    },
    /// Bytes after the end of a message or of a tagged field.
    #[error("at byte {at}: {bytes} bytes follow the end")]
    TrailingBytes {
        /// Position in the frame.
        at: usize,
        /// How many.
        bytes: usize,
    },
    /// A number that the field cannot have.
    #[error("{message}.{field} is {value}, which is out of range")]
    ValueOutOfRange {
        /// Structure that holds the field.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The value as it was sent.
        value: i64,
    },
    /// A version in which the message does not exist.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version as it was sent.
        version: i16,
    },
}

/// A value that cannot be said in the version that was asked for.
///
/// This is a bug of whoever built the message, never of the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A field is set that the version does not have, and that must not be dropped silently.
    #[error("{message}.{field} is set, and version {version} does not have it")]
    FieldNotInVersion {
        /// Structure that holds the field.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// Version of the message.
        version: i16,
    },
    /// A field is null that cannot be null in the version.
    #[error("{message}.{field} is null, and version {version} does not allow that")]
    NullInVersion {
        /// Structure that holds the field.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// Version of the message.
        version: i16,
    },
    /// A string, byte string or array longer than its length field can say.
    #[error("{length} is more than the length field can say")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// A version in which the message does not exist.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}
