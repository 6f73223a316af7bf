//! Items for people: a line each, indented by what they belong to.

use std::fmt::Write;

use storage::offline::{BatchInfo, Item, LogInfo};

use super::{Totals, codec, is_control, is_transactional, records};

pub(super) fn render(item: &Item<'_>, with_records: bool) -> String {
    match item {
        Item::Checkpoint {
            shard,
            generation,
            logs,
            replay_from,
            written_ms,
            other_is_invalid,
        } => {
            let other = if *other_is_invalid {
                ", the other copy is not whole"
            } else {
                ""
            };
            format!(
                "shard {shard}: checkpoint {generation} of {written_ms} ms, {logs} logs, replay from record {replay_from}{other}\n"
            )
        }
        Item::Journal {
            shard,
            records,
            last_sequence,
            bytes_cut,
        } => format!(
            "shard {shard}: journal, {records} records to replay, through {last_sequence}; {bytes_cut} unanswered bytes at its end\n"
        ),
        Item::Log(log) => render_log(log),
        Item::Segment {
            path,
            base_offset,
            bytes,
            file_bytes,
        } => format!(
            "  segment {base_offset}: {bytes} bytes, {file_bytes} of them in {}\n",
            path.display()
        ),
        Item::Batch(batch) => render_batch(batch, with_records),
        Item::Index {
            path,
            blocks,
            wrong,
            is_repaired,
        } => {
            let end = match (wrong, is_repaired) {
                (0, _) => "right".to_owned(),
                (wrong, true) => format!("{wrong} were wrong or missing, written anew"),
                (wrong, false) => format!("{wrong} wrong or missing"),
            };
            format!("  index {}: {blocks} blocks, {end}\n", path.display())
        }
        Item::End { path, position } => format!(
            "    data ends at {position} in {} (the log is looked at alone)\n",
            path.display()
        ),
        Item::Damage {
            file,
            position,
            expected,
            found,
        } => format!(
            "DAMAGE in {} at {position}: expected {expected}, found {found}\n",
            file.display()
        ),
        _ => String::new(),
    }
}

fn render_log(log: &LogInfo) -> String {
    let mut text = format!("log {} in {}\n", log.id, log.dir.display());
    if let Some((start, end)) = log.offsets {
        let _ = writeln!(
            text,
            "  offsets {start} to {end} (exclusive), {} segments",
            log.segments
        );
    }
    for (epoch, start) in &log.epochs {
        let _ = writeln!(text, "  leader epoch {epoch} from offset {start}");
    }
    for producer in &log.producers {
        let _ = writeln!(
            text,
            "  producer {} epoch {}: last sequence {}, last timestamp {}",
            producer.producer_id, producer.epoch, producer.last_sequence, producer.last_timestamp
        );
    }
    text
}

fn render_batch(batch: &BatchInfo<'_>, with_records: bool) -> String {
    let (producer, producer_epoch, sequence) = batch.producer;
    let (first, greatest) = batch.timestamps;
    let mut text = format!(
        "    batch {}..={} at {}: {} bytes, {} records, epoch {}, timestamps {first} to {greatest}, codec {}, crc {}",
        batch.base_offset,
        batch.last_offset,
        batch.position,
        batch.bytes.len(),
        batch.record_count,
        batch.leader_epoch,
        codec(batch.attributes),
        if batch.is_whole { "ok" } else { "WRONG" },
    );
    if producer >= 0 {
        let _ = write!(
            text,
            ", producer {producer} epoch {producer_epoch} sequence {sequence}"
        );
    }
    if is_transactional(batch.attributes) {
        text += ", transactional";
    }
    if is_control(batch.attributes) {
        text += ", control";
    }
    text.push('\n');
    if with_records && batch.is_whole {
        render_records(batch.bytes, &mut text);
    }
    text
}

fn render_records(batch: &[u8], text: &mut String) {
    match records(batch) {
        Ok(records) => {
            for record in records {
                let show = |part: Option<String>| part.unwrap_or_else(|| "null".to_owned());
                let _ = writeln!(
                    text,
                    "      {} at {}: key {}, value {}, {} headers",
                    record.offset,
                    record.timestamp,
                    show(record.key),
                    show(record.value),
                    record.headers
                );
            }
        }
        Err(error) => {
            let _ = writeln!(text, "      records that cannot be read: {error}");
        }
    }
}

pub(super) fn totals(totals: &Totals) -> String {
    let Totals {
        logs,
        segments,
        batches,
        bytes,
        damage,
    } = totals;
    format!(
        "{logs} logs, {segments} segments, {batches} batches, {bytes} bytes; damage: {damage}\n"
    )
}
