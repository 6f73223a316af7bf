//! Which partition of `__consumer_offsets` keeps a group.
//!
//! *Source*: Kafka hashes the group id as Java's `String.hashCode` does and takes the absolute value
//! modulo the partition count. Tools compute the same, so this may never change.

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// The partition of `__consumer_offsets` whose leader coordinates `group_id`.
pub fn partition_for(group_id: &str, partition_count: i32) -> i32 {
    assert!(
        partition_count > 0,
        "__consumer_offsets has {partition_count} partitions"
    );
    // Kafka's `Utils.abs`: the one value without a positive twin becomes 0.
    let hash = java_string_hash(group_id);
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partition_count
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected hashes are those of a Java virtual machine.
    #[test]
    fn hashes_as_java_does() {
        assert_eq!(java_string_hash(""), 0);
        assert_eq!(java_string_hash("a"), 97);
        assert_eq!(java_string_hash("console-consumer-12345"), JAVA_CONSOLE);
        assert_eq!(java_string_hash("größe"), JAVA_UMLAUT);
        assert_eq!(java_string_hash("🦀"), JAVA_CRAB);
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
    }

    #[test]
    fn stays_inside_the_partition_count() {
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("", 50), 0);
        for count in [1, 3, 50] {
            for group in ["a", "b", "some-group", "größe"] {
                let partition = partition_for(group, count);
                assert!(
                    (0..count).contains(&partition),
                    "{group} of {count}: {partition}"
                );
            }
        }
    }

    const JAVA_CONSOLE: i32 = 158_455_506;
    const JAVA_UMLAUT: i32 = 98_762_257;
    const JAVA_CRAB: i32 = 1_772_802;
}
