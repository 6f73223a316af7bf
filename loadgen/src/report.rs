//! The result of a run: one structure, printed as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use protocol::ErrorCode;
use serde::Serialize;

use crate::cpu::CpuTime;
use crate::crew::Measured;
use crate::tally::{ErrorCounts, Flow, Latency};

const MIB: f64 = 1_048_576.0;

/// A run's report. Times are in the unit their name says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) mode: &'static str,
    pub(crate) elapsed_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) produce: Option<FlowReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fetch: Option<FlowReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_to_end: Option<LatencyReport>,
    /// Longest time a request waited for room among the unanswered ones.
    pub(crate) lateness_max_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_cpu: Option<CpuReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_cpu: Option<CpuReport>,
    pub(crate) reconnects: u64,
    pub(crate) is_cut_short: bool,
}

/// Requests of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct FlowReport {
    pub(crate) requests: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) requests_per_s: f64,
    pub(crate) records_per_s: f64,
    pub(crate) mib_per_s: f64,
    pub(crate) latency: LatencyReport,
    /// Longest latency in each second of the measurement: what a percentile over all of it does not tell is
    /// whether one second was bad or every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) slowest_by_second_us: Vec<f64>,
    /// Errors by name.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// Percentiles in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct LatencyReport {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    pub(crate) mean_us: f64,
}

/// CPU of a process over the measurement.
#[derive(Debug, Serialize)]
pub(crate) struct CpuReport {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
    pub(crate) cores: f64,
    pub(crate) us_per_record: f64,
    pub(crate) us_per_request: f64,
    pub(crate) us_per_kib: f64,
}

/// Which flows a mode has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parts {
    pub(crate) produce: bool,
    pub(crate) fetch: bool,
    pub(crate) end_to_end: bool,
}

impl Report {
    pub(crate) fn new(mode: &'static str, measured: &Measured, parts: Parts) -> Report {
        let elapsed_s = measured.elapsed_s;
        let tally = &measured.tally;
        // CPU is told per record of the flow that the mode is about.
        let main = if parts.produce {
            &tally.produce
        } else {
            &tally.fetch
        };
        let flow = |flow: &Flow| FlowReport::new(flow, elapsed_s);
        let cpu = |cpu: CpuTime| CpuReport::new(cpu, main, elapsed_s);
        Report {
            mode,
            elapsed_s,
            produce: parts.produce.then(|| flow(&tally.produce)),
            fetch: parts.fetch.then(|| flow(&tally.fetch)),
            end_to_end: parts
                .end_to_end
                .then(|| LatencyReport::new(&tally.end_to_end)),
            lateness_max_us: tally.lateness_max_ns as f64 / 1e3,
            broker_cpu: measured.broker_cpu.map(cpu),
            client_cpu: measured.client_cpu.map(cpu),
            reconnects: tally.reconnects,
            is_cut_short: measured.is_cut_short,
        }
    }
}

impl FlowReport {
    fn new(flow: &Flow, elapsed_s: f64) -> FlowReport {
        let rate = |count: u64| {
            if elapsed_s > 0.0 {
                count as f64 / elapsed_s
            } else {
                0.0
            }
        };
        FlowReport {
            requests: flow.requests,
            records: flow.records,
            bytes: flow.bytes,
            requests_per_s: rate(flow.requests),
            records_per_s: rate(flow.records),
            mib_per_s: rate(flow.bytes) / MIB,
            latency: LatencyReport::new(&flow.latency),
            slowest_by_second_us: flow.slowest_ns.iter().map(|ns| *ns as f64 / 1e3).collect(),
            errors: name_errors(&flow.errors),
        }
    }
}

fn name_errors(errors: &ErrorCounts) -> BTreeMap<String, u64> {
    let name = |code: i16| match ErrorCode::from_i16(code) {
        Some(known) => known.name().to_owned(),
        None => format!("error {code}"),
    };
    errors
        .iter()
        .map(|(code, count)| (name(*code), *count))
        .collect()
}

impl LatencyReport {
    fn new(latency: &Latency) -> LatencyReport {
        LatencyReport {
            count: latency.count(),
            p50_us: latency.percentile_us(50.0),
            p99_us: latency.percentile_us(99.0),
            p999_us: latency.percentile_us(99.9),
            max_us: latency.max_us(),
            mean_us: latency.mean_us(),
        }
    }
}

impl CpuReport {
    fn new(cpu: CpuTime, flow: &Flow, elapsed_s: f64) -> CpuReport {
        let total_us = cpu.total_s() * 1e6;
        let per = |count: f64| if count > 0.0 { total_us / count } else { 0.0 };
        CpuReport {
            user_s: cpu.user_s,
            system_s: cpu.system_s,
            cores: if elapsed_s > 0.0 {
                cpu.total_s() / elapsed_s
            } else {
                0.0
            },
            us_per_record: per(flow.records as f64),
            us_per_request: per(flow.requests as f64),
            us_per_kib: per(flow.bytes as f64 / 1024.0),
        }
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flows = [("produce", &self.produce), ("fetch", &self.fetch)];
        for (name, flow) in flows
            .iter()
            .filter_map(|(name, flow)| Some((name, flow.as_ref()?)))
        {
            writeln!(
                formatter,
                "{name:<11} {:>12.0} records/s  {:>9.1} MiB/s  {:>9.0} requests/s  over {:.1} s",
                flow.records_per_s, flow.mib_per_s, flow.requests_per_s, self.elapsed_s
            )?;
        }
        writeln!(
            formatter,
            "{:<11} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12}",
            "latency", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "mean ms", "count"
        )?;
        for (name, flow) in flows
            .iter()
            .filter_map(|(name, flow)| Some((name, flow.as_ref()?)))
        {
            write_latency(formatter, name, &flow.latency)?;
        }
        if let Some(latency) = &self.end_to_end {
            write_latency(formatter, "end-to-end", latency)?;
        }
        let cpus = [
            ("broker cpu", &self.broker_cpu),
            ("client cpu", &self.client_cpu),
        ];
        for (name, cpu) in cpus
            .iter()
            .filter_map(|(name, cpu)| Some((name, cpu.as_ref()?)))
        {
            writeln!(
                formatter,
                "{name:<11} {:>8.3} µs/record  {:>8.2} µs/request  {:>7.3} µs/KiB  {:.2} cores ({:.2} user, {:.2} system)",
                cpu.us_per_record,
                cpu.us_per_request,
                cpu.us_per_kib,
                cpu.cores,
                cpu.user_s / self.elapsed_s,
                cpu.system_s / self.elapsed_s,
            )?;
        }
        for (name, flow) in flows
            .iter()
            .filter_map(|(name, flow)| Some((name, flow.as_ref()?)))
        {
            for (error, count) in &flow.errors {
                writeln!(formatter, "{name:<11} {count} × {error}")?;
            }
        }
        if self.reconnects > 0 {
            writeln!(
                formatter,
                "connections lost and opened again: {}",
                self.reconnects
            )?;
        }
        if self.is_cut_short {
            writeln!(formatter, "cut short: the figures cover the part that ran")?;
        }
        Ok(())
    }
}

fn write_latency(
    formatter: &mut fmt::Formatter<'_>,
    name: &str,
    latency: &LatencyReport,
) -> fmt::Result {
    let ms = |us: f64| us / 1e3;
    writeln!(
        formatter,
        "{name:<11} {:>12.3} {:>12.3} {:>12.3} {:>12.3} {:>12.3} {:>12}",
        ms(latency.p50_us),
        ms(latency.p99_us),
        ms(latency.p999_us),
        ms(latency.max_us),
        ms(latency.mean_us),
        latency.count
    )
}
