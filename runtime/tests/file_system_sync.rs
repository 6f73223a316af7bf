//! A sync of a whole file system, on the simulated disk and on a real one.

use std::path::Path;

use runtime::sim::{Disk, Simulation};
use runtime::{AlignedBuf, BLOCK_BYTES, Durability, File, OpenMode, dir};

const FILES: [&str; 2] = ["/a/one", "/a/two"];

async fn write_files() {
    dir::create_dir_all(Path::new("/a")).await.expect("mkdir");
    for path in FILES {
        let file = File::open(Path::new(path), OpenMode::CreateNew).await;
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
        block.fill(7);
        let file = file.expect("create");
        let written = file.write_at(0, block.freeze(), Durability::Buffered);
        written.await.expect("write");
    }
}

fn survivors(is_synced: bool) -> usize {
    let disk = Disk::new();
    let program = async move {
        write_files().await;
        if is_synced {
            let file_system = dir::FileSystem::open(Path::new(FILES[0])).await;
            let synced = file_system.expect("open").sync().await;
            assert!(synced.expect("sync"));
        }
    };
    Simulation::new(1).disk(&disk).run(program).value();
    let is_whole =
        |disk: &Disk, path: &str| disk.read(Path::new(path)) == Some(vec![7; BLOCK_BYTES]);
    let crashed = (0..20).map(|seed| disk.crash(seed));
    crashed
        .map(|disk| FILES.iter().filter(|path| is_whole(&disk, path)).count())
        .sum()
}

#[test]
fn every_file_and_name_is_durable_afterwards() {
    assert!(survivors(false) < 40, "without it, something is lost");
    assert_eq!(survivors(true), 40);
}

#[test]
fn a_missing_file_is_an_error() {
    let ask = async {
        let opened = dir::FileSystem::open(Path::new("/none")).await;
        opened.map(drop).map_err(|e| e.kind())
    };
    let answer = Simulation::new(1).disk(&Disk::new()).run(ask).value();
    assert_eq!(answer, Err(std::io::ErrorKind::NotFound));
}
