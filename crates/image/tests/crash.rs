//! A process that is killed while it loads, and a disk that is full: the store opens again with
//! what it had acknowledged, complete, and with nothing half-made.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Fixture, config, names, needs_root, open, reference};
use wharf_image::archive::{ArchiveImage, Layer, LayerCompression, write_docker};
use wharf_image::{Error, Limits, LoadOptions};

/// Set in the process that is to be killed.
const STORE_VARIABLE: &str = "WHARF_IMAGE_TEST_STORE";
const KILLS: usize = 12;

fn archive(name: &str, files: usize) -> Vec<u8> {
    let mut layer = Layer::new();
    for number in 0..files {
        let path = format!("{}/{number}", number % 10);
        layer = layer.file(&path, 0o644, format!("{name} {number}").repeat(20).as_bytes()).unwrap();
    }
    let image = ArchiveImage::new(reference(name), config())
        .layer(Layer::new().file("base", 0o644, b"base").unwrap())
        .layer(layer.compressed(LayerCompression::Gzip));
    let mut archive = Vec::new();
    write_docker(&mut archive, &image).unwrap();
    archive
}

/// Not a test of its own: what the tests below run and kill. It loads archives that come on stdin,
/// each behind its length, and says on stdout when one is in the store.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(STORE_VARIABLE) else {
        return;
    };
    let store = open(Path::new(&directory), Limits::default());
    let mut input = std::io::stdin().lock();
    let mut length = [0; 8];
    while input.read_exact(&mut length).is_ok() {
        let archive = input.by_ref().take(u64::from_le_bytes(length));
        let loaded = store.load(archive, &LoadOptions::default()).unwrap();
        println!("\nloaded {}", loaded[0].references[0].familiar());
    }
}

/// Everything that the store names is whole, and nothing is in progress.
fn assert_consistent(directory: &Path, acknowledged: &[String]) {
    let store = open(directory, Limits::default());
    assert_eq!(names(&directory.join("ingest")), [""; 0]);
    let listed: Vec<String> =
        store.list().unwrap().into_iter().map(|line| line.reference.familiar()).collect();
    for name in acknowledged {
        assert!(listed.contains(name), "{name} was acknowledged, and is not among {listed:?}");
    }
    for name in &listed {
        let resolved = store.resolve_blocking(&reference(name)).unwrap();
        assert_eq!(resolved.layers.len(), 2);
        let files: usize =
            names(&resolved.layers[0]).iter().map(|name| names(&resolved.layers[0].join(name)).len()).sum();
        assert_eq!(files, 200, "{name}");
    }
    for blob in names(&directory.join("blobs/sha256")) {
        let bytes = std::fs::read(directory.join("blobs/sha256").join(&blob)).unwrap();
        assert_eq!(wharf_image::Digest::of(&bytes).hex(), blob);
    }
    store.collect(&[]).unwrap();
    assert_eq!(
        names(&directory.join("snapshots")).len(),
        if listed.is_empty() { 0 } else { listed.len() + 1 }
    );
}

#[test]
fn a_process_killed_at_any_moment_of_a_load_leaves_the_store_whole() {
    needs_root!();
    let fixture = Fixture::new();
    let directory = fixture.root();
    let mut acknowledged = Vec::new();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--nocapture"])
            .env(STORE_VARIABLE, &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // One load that is acknowledged, and a second that is cut short: by a share of its bytes,
        // and, when it has all of them, by a number of names that have appeared in the store.
        let mut send = |name: &str, share: usize| {
            let archive = archive(name, 200);
            input.write_all(&(archive.len() as u64).to_le_bytes()).unwrap();
            input.write_all(&archive[..archive.len() * share / KILLS]).unwrap();
        };
        send(&format!("whole:{kill}"), KILLS);
        let done = format!("loaded whole:{kill}");
        assert!(lines.any(|line| line.unwrap() == done));
        acknowledged.push(format!("whole:{kill}"));
        let blobs = names(&directory.join("blobs/sha256")).len();
        send(&format!("cut:{kill}"), ((kill + 1) * 2).min(KILLS));
        if kill >= KILLS / 2 {
            let wanted = blobs + kill % 4;
            while names(&directory.join("blobs/sha256")).len() < wanted && child.try_wait().unwrap().is_none()
            {
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_consistent(&directory, &acknowledged);
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    needs_root!();
    // A file system of two megabytes, mounted in a namespace of its own that ends with the child.
    const MOUNTED: &str = "WHARF_IMAGE_TEST_MOUNTED";
    let Some(mounted) = std::env::var_os(MOUNTED) else {
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount -t tmpfs -o size=2m none \"$1\" && WHARF_IMAGE_TEST_MOUNTED=\"$1\" exec \"$2\" --exact \"$3\" --nocapture")
            .arg("sh")
            .arg(directory.path())
            .arg(std::env::current_exe().unwrap())
            .arg("a_full_disk_is_told_and_leaves_nothing")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(names(directory.path()), [""; 0]);
        return;
    };
    let directory = Path::new(&mounted).join("images");
    let store = open(&directory, Limits::default());
    let small = archive("small", 200);
    let fits = |bytes: usize| {
        let layer =
            Layer::new().file("big", 0o644, &vec![7; bytes]).unwrap().compressed(LayerCompression::Gzip);
        let mut archive = Vec::new();
        write_docker(&mut archive, &ArchiveImage::new(reference("big"), config()).layer(layer)).unwrap();
        archive
    };
    // The archive fits, what is in it does not.
    let error = store.load(&fits(4 << 20)[..], &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert!(error.to_string().starts_with("no space left on the device that holds "), "{error}");
    // Not even the archive fits.
    let layer = Layer::new().file("big", 0o644, &vec![7; 4 << 20]).unwrap();
    let mut plain = Vec::new();
    write_docker(&mut plain, &ArchiveImage::new(reference("big"), config()).layer(layer)).unwrap();
    assert!(matches!(store.load(&plain[..], &LoadOptions::default()), Err(Error::NoSpace { .. })));
    for directory in [directory.join("ingest"), directory.join("blobs/sha256"), directory.join("snapshots")] {
        assert_eq!(names(&directory), [""; 0]);
    }
    // And everything else goes on.
    store.load(&small[..], &LoadOptions::default()).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert_consistent(&directory, &["small:latest".to_owned()]);
}
