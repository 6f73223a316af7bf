//! Items for programs: a JSON object a line, told apart by `type`.

use serde_json::{Value, json};
use storage::offline::{BatchInfo, Item, LogInfo};

use super::{Totals, codec, is_control, is_transactional, records};

pub(super) fn render(item: &Item<'_>, with_records: bool) -> String {
    let value = match item {
        Item::Checkpoint {
            shard,
            generation,
            logs,
            replay_from,
            written_ms,
            other_is_invalid,
        } => json!({
            "type": "checkpoint", "shard": shard, "generation": generation, "logs": logs,
            "replay_from": replay_from, "written_ms": written_ms, "other_is_invalid": other_is_invalid,
        }),
        Item::Journal {
            shard,
            records,
            last_sequence,
            bytes_cut,
        } => json!({
            "type": "journal", "shard": shard, "records": records, "last_sequence": last_sequence,
            "bytes_cut": bytes_cut,
        }),
        Item::Log(log) => render_log(log),
        Item::Segment {
            path,
            base_offset,
            bytes,
            file_bytes,
        } => json!({
            "type": "segment", "file": path.display().to_string(), "base_offset": base_offset,
            "bytes": bytes, "file_bytes": file_bytes,
        }),
        Item::Batch(batch) => render_batch(batch, with_records),
        Item::Index {
            path,
            blocks,
            wrong,
            is_repaired,
        } => json!({
            "type": "index", "file": path.display().to_string(), "blocks": blocks, "wrong": wrong,
            "is_repaired": is_repaired,
        }),
        Item::End { path, position } => json!({
            "type": "end", "file": path.display().to_string(), "position": position,
        }),
        Item::Damage {
            file,
            position,
            expected,
            found,
        } => json!({
            "type": "damage", "file": file.display().to_string(), "position": position,
            "expected": expected, "found": found,
        }),
        _ => return String::new(),
    };
    format!("{value}\n")
}

fn render_log(log: &LogInfo) -> Value {
    let (start, end) = log.offsets.unzip();
    let epochs = log.epochs.iter();
    let epochs = epochs.map(|(epoch, start)| json!({"epoch": epoch, "start_offset": start}));
    let producers = log.producers.iter().map(|producer| {
        json!({
            "producer_id": producer.producer_id, "epoch": producer.epoch,
            "last_sequence": producer.last_sequence, "last_timestamp": producer.last_timestamp,
        })
    });
    json!({
        "type": "log", "log": log.id.to_string(), "incarnation": format!("{:016x}", log.incarnation),
        "dir": log.dir.display().to_string(), "log_start_offset": start, "log_end_offset": end,
        "segments": log.segments, "leader_epochs": epochs.collect::<Vec<_>>(),
        "producers": producers.collect::<Vec<_>>(),
    })
}

fn render_batch(batch: &BatchInfo<'_>, with_records: bool) -> Value {
    let (producer, producer_epoch, sequence) = batch.producer;
    let (first, greatest) = batch.timestamps;
    let mut value = json!({
        "type": "batch", "base_offset": batch.base_offset, "last_offset": batch.last_offset,
        "position": batch.position, "bytes": batch.bytes.len(), "records": batch.record_count,
        "leader_epoch": batch.leader_epoch, "producer_id": producer, "producer_epoch": producer_epoch,
        "base_sequence": sequence, "base_timestamp": first, "max_timestamp": greatest,
        "codec": codec(batch.attributes), "is_transactional": is_transactional(batch.attributes),
        "is_control": is_control(batch.attributes), "crc_ok": batch.is_whole,
    });
    if with_records && batch.is_whole {
        match records(batch.bytes) {
            Ok(records) => {
                let records = records.into_iter().map(|record| {
                    json!({
                        "offset": record.offset, "timestamp": record.timestamp, "key": record.key,
                        "value": record.value, "headers": record.headers,
                    })
                });
                value["content"] = records.collect();
            }
            Err(error) => value["content_error"] = error.into(),
        }
    }
    value
}

pub(super) fn totals(totals: &Totals) -> String {
    let Totals {
        logs,
        segments,
        batches,
        bytes,
        damage,
    } = totals;
    let value = json!({
        "type": "totals", "logs": logs, "segments": segments, "batches": batches, "bytes": bytes,
        "damage": damage,
    });
    format!("{value}\n")
}
