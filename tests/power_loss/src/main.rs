//! `volatile-disk`: a disk that keeps, after a power loss, what was flushed, and of the rest what chance leaves.
//!
//! It is one file, `image`, in a directory of its own (FUSE): a loop device on it sends its flushes as fsync, and
//! the file system on that is then on a disk with a volatile cache.
//! Place: `tests/power_loss/run.sh` starts it and speaks to it on its standard input.
//!
//! ```text
//! lie     from now on flushes are answered and not carried out
//! lose    after one of the next writes the power goes: the image is what is left, and nothing is answered any more
//! ```
//! It never unmounts. Who kills it has every request fail that is under way or comes later; then all can be unmounted.

#![forbid(unsafe_code)]

mod disk;
mod file_system;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use fuser::{Config, MountOption, SessionACL};

use self::disk::Disk;
use self::file_system::OneFile;

/// A disk to which nothing is written for so long loses its power all the same.
const WRITES_WAIT: Duration = Duration::from_millis(500);

/// A disk that forgets what was not flushed when it loses power.
#[derive(Debug, Parser)]
struct CommandLine {
    /// The medium: a file with what is durable; its size is the disk's.
    image: PathBuf,
    /// Empty directory in which the disk shows as the file `image`.
    directory: PathBuf,
    /// What is left after a power loss depends on the requests and on this number.
    #[arg(long)]
    seed: u64,
}

fn main() -> io::Result<()> {
    let arguments = CommandLine::parse();
    let disk = Arc::new(Mutex::new(Disk::open(&arguments.image, arguments.seed)?));
    let mut config = Config::default();
    // A loop device's requests come from threads of the kernel.
    config.acl = SessionACL::All;
    config.mount_options = vec![MountOption::FSName("volatile-disk".to_owned())];
    let files = OneFile::new(Arc::clone(&disk));
    let session = fuser::spawn_mount(files, &arguments.directory, &config)?;
    say("mounted")?;
    for line in io::stdin().lines() {
        match line?.as_str() {
            "lie" => lock(&disk).lie(),
            "lose" => {
                lock(&disk).fail_soon();
                std::thread::sleep(WRITES_WAIT);
                lose_power(lock(&disk));
            }
            other => return Err(io::Error::other(format!("neither lie nor lose: {other}"))),
        }
    }
    // Its end would unmount, which is for those who mounted something on it.
    std::mem::forget(session);
    Ok(())
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(text: &str) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{text}")?;
    output.flush()
}

/// A fault of the image's own disk would look like one of what is tested: better no disk at all.
fn sound<T>(result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("volatile-disk: {error}");
        std::process::exit(1)
    })
}

/// Takes the power away. Every request waits for the lock from now on, as a machine without power does: nothing fails
/// that could be told to anybody.
fn lose_power(mut disk: MutexGuard<'_, Disk>) -> ! {
    let loss = sound(disk.lose_power());
    sound(say(&loss.to_string()));
    loop {
        std::thread::park();
    }
}
