//! The threads of a run and its conductor.
//!
//! ```text
//! threads: connect ── ready ──────────────── go ── work until the end ── tally
//! main:               ready ── start clock ─ go ── progress, CPU readings ── join
//! ```
//! Core: each thread runs its jobs on a single-threaded tokio runtime; nothing is shared on the hot
//! path but the counters for the progress line.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::LocalSet;

use crate::args::RunArgs;
use crate::consume::{ConsumeJob, Consumer};
use crate::cpu::CpuTime;
use crate::error::LoadError;
use crate::produce::{ProduceJob, Producer};
use crate::progress::ProgressLine;
use crate::run::Run;
use crate::tally::Tally;
use crate::verify::{CheckJob, Checker, VerifyJob, VerifyProducer};

/// How often the conductor looks whether the threads are done.
const JOIN_PAUSE: Duration = Duration::from_millis(20);

/// The work of one connection.
#[derive(Debug)]
pub(crate) enum Job {
    Produce(Box<ProduceJob>),
    Consume(Box<ConsumeJob>),
    VerifyProduce(Box<VerifyJob>),
    Check(Box<CheckJob>),
}

/// A job that is connected.
enum Worker {
    Produce(Box<Producer>),
    Consume(Box<Consumer>),
    VerifyProduce(Box<VerifyProducer>),
    Check(Box<Checker>),
}

impl Job {
    async fn prepare(self) -> Result<Worker, LoadError> {
        Ok(match self {
            Job::Produce(job) => Worker::Produce(Box::new(job.prepare().await?)),
            Job::Consume(job) => Worker::Consume(Box::new(job.prepare().await?)),
            Job::VerifyProduce(job) => Worker::VerifyProduce(Box::new(job.prepare().await?)),
            Job::Check(job) => Worker::Check(Box::new(job.prepare().await?)),
        })
    }
}

impl Worker {
    async fn run(self, run: &Run, tally: &RefCell<Tally>) -> Result<(), LoadError> {
        let outcome = match self {
            Worker::Produce(worker) => worker.run(run, tally).await,
            Worker::Consume(worker) => worker.run(run, tally).await,
            Worker::VerifyProduce(worker) => worker.run(run, tally).await,
            Worker::Check(worker) => worker.run(run, tally).await,
        };
        if outcome.is_err() {
            // What the others would measure now is another load than was asked for.
            run.stop();
        }
        outcome
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After `--duration`.
    Timed,
    /// When all jobs are done.
    WhenDone,
}

/// A run's results.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) elapsed_s: f64,
    pub(crate) broker_cpu: Option<CpuTime>,
    pub(crate) client_cpu: Option<CpuTime>,
    /// Whether the run ended before its time.
    pub(crate) is_cut_short: bool,
    /// The first error that ended a job.
    pub(crate) error: Option<LoadError>,
}

/// What threads and conductor wait for.
struct Gate {
    ready: Barrier,
    go: Barrier,
    is_broken: AtomicBool,
}

/// Runs the jobs and measures.
pub(crate) async fn conduct(
    jobs: Vec<Job>,
    args: &RunArgs,
    ending: Ending,
) -> Result<Measured, LoadError> {
    let run = Arc::new(Run::new());
    let threads = usize::from(args.threads).clamp(1, jobs.len().max(1));
    let gate = Arc::new(Gate {
        ready: Barrier::new(threads + 1),
        go: Barrier::new(threads + 1),
        is_broken: AtomicBool::new(false),
    });
    let mut shares: Vec<Vec<Job>> = (0..threads).map(|_| Vec::new()).collect();
    for (number, job) in jobs.into_iter().enumerate() {
        shares[number % threads].push(job);
    }
    let spawn = |share| {
        let (run, gate) = (Arc::clone(&run), Arc::clone(&gate));
        std::thread::spawn(move || work(share, &run, &gate))
    };
    let handles: Vec<_> = shares.into_iter().map(spawn).collect();
    gate.ready.wait();
    match ending {
        Ending::Timed => run.start(args.warmup, args.duration),
        Ending::WhenDone => run.start(Duration::ZERO, Duration::MAX),
    }
    gate.go.wait();
    let readings = watch(&run, args, &handles).await;
    let mut measured = readings.finish(&run, ending, args);
    for handle in handles {
        match handle.join().map_err(|_| LoadError::ThreadPanicked)? {
            Ok((tally, error)) => {
                measured.tally.add(&tally);
                measured.error = measured.error.take().or(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(measured)
}

type ThreadResult = Result<(Tally, Option<LoadError>), LoadError>;

/// One thread: connects its jobs, waits for the others, works.
fn work(jobs: Vec<Job>, run: &Arc<Run>, gate: &Gate) -> ThreadResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::io("cannot start a runtime"));
    let prepared = runtime.and_then(|runtime| {
        let workers = runtime.block_on(async {
            let mut workers = Vec::with_capacity(jobs.len());
            for job in jobs {
                workers.push(job.prepare().await?);
            }
            Ok::<_, LoadError>(workers)
        });
        workers.map(|workers| (runtime, workers))
    });
    if prepared.is_err() {
        gate.is_broken.store(true, Relaxed);
    }
    gate.ready.wait();
    gate.go.wait();
    let (runtime, workers) = prepared?;
    let tally = Rc::new(RefCell::new(Tally::default()));
    if gate.is_broken.load(Relaxed) {
        return Ok((Tally::default(), None));
    }
    let local = LocalSet::new();
    let error = local.block_on(&runtime, async {
        let spawn = |worker: Worker| {
            let (run, tally) = (Arc::clone(run), Rc::clone(&tally));
            tokio::task::spawn_local(async move { worker.run(&run, &tally).await })
        };
        let tasks: Vec<_> = workers.into_iter().map(spawn).collect();
        let mut first = None;
        for task in tasks {
            let outcome = task.await.unwrap_or(Err(LoadError::ThreadPanicked));
            first = first.or(outcome.err());
        }
        first
    });
    let tally = tally.take();
    Ok((tally, error))
}

/// CPU readings at the ends of the measurement.
struct Readings {
    broker: [Option<CpuTime>; 2],
    client: [Option<CpuTime>; 2],
}

impl Readings {
    fn read(&mut self, at: usize, args: &RunArgs) {
        self.broker[at] = args.broker_pid.and_then(CpuTime::of);
        self.client[at] = CpuTime::of(std::process::id());
    }

    fn finish(self, run: &Run, ending: Ending, args: &RunArgs) -> Measured {
        let end_ns = match ending {
            Ending::Timed => run.end_ns(),
            Ending::WhenDone => run.done_ns(),
        };
        let elapsed_s = end_ns.saturating_sub(run.measure_ns()) as f64 / 1e9;
        let spent = |[start, end]: [Option<CpuTime>; 2]| Some(end?.since(start?));
        Measured {
            tally: Tally::default(),
            elapsed_s,
            broker_cpu: spent(self.broker),
            client_cpu: spent(self.client),
            is_cut_short: run.is_stopped() && elapsed_s < args.duration.as_secs_f64(),
            error: None,
        }
    }
}

/// Watches the run until the threads are done: progress, CPU readings, Ctrl-C.
async fn watch<T>(run: &Run, args: &RunArgs, handles: &[JoinHandle<T>]) -> Readings {
    let mut readings = Readings {
        broker: [None; 2],
        client: [None; 2],
    };
    let mut line = ProgressLine::new(args.json);
    // The second reading is taken at the end of the measurement, or of the run.
    let mut taken = 0;
    loop {
        let now_ns = run.now_ns();
        if taken == 0 && now_ns >= run.measure_ns() {
            readings.read(0, args);
            taken = 1;
        }
        if taken == 1 && now_ns >= run.end_ns() {
            readings.read(1, args);
            taken = 2;
        }
        if handles.iter().all(JoinHandle::is_finished) {
            break;
        }
        line.show(run, now_ns);
        let next_ns = [run.measure_ns(), run.end_ns()];
        let wait = next_ns
            .iter()
            .filter(|at_ns| **at_ns > now_ns)
            .map(|at_ns| at_ns - now_ns);
        let wait = wait
            .min()
            .map_or(JOIN_PAUSE, Duration::from_nanos)
            .min(JOIN_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = tokio::signal::ctrl_c() => {
                if run.is_stopped() {
                    // The user does not want to wait for the last answers.
                    std::process::exit(130);
                }
                run.stop();
            }
        }
    }
    if taken < 2 {
        readings.read(1, args);
    }
    line.finish();
    readings
}
