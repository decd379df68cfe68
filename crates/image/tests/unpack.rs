//! What a layer holds is what its directory holds, in overlayfs's terms.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use common::{Fixture, Tar, names, needs_root};
use tar::EntryType;

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let count = rustix::fs::lgetxattr(path, name, &mut buffer[..]).ok()?;
    buffer.truncate(count);
    Some(buffer)
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[test]
fn owners_modes_and_times_are_kept() {
    needs_root!();
    let tar = Tar::default()
        .entry(EntryType::Directory, "./", &[], |header| header.set_mode(0o711))
        .entry(EntryType::Directory, "home/", &[], |header| {
            header.set_mode(0o1770);
            header.set_uid(1000);
            header.set_gid(1001);
        })
        .entry(EntryType::Regular, "home/su", b"x", |header| {
            header.set_mode(0o4755);
            header.set_uid(7);
        })
        .entry(EntryType::Fifo, "home/pipe", &[], |header| header.set_mode(0o666))
        .pax(&[("mtime", b"-1.5"), ("uid", b"3000000")])
        .file("home/old", b"")
        .device(EntryType::Char, "dev/null", 1, 3)
        .finish();
    let layer = Fixture::new();
    let root = layer.load_layer(tar).unwrap();
    let metadata = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    assert_eq!(metadata("").mode() & 0o7777, 0o711);
    assert_eq!(metadata("home").mode() & 0o7777, 0o1770);
    assert_eq!((metadata("home").uid(), metadata("home").gid()), (1000, 1001));
    assert_eq!(metadata("home").mtime(), 1_600_000_000);
    assert_eq!(metadata("home/su").mode() & 0o7777, 0o4755);
    assert_eq!(metadata("home/su").uid(), 7);
    assert_eq!(metadata("home/su").mtime(), 1_600_000_000);
    assert!(metadata("home/pipe").file_type().is_fifo());
    assert_eq!(metadata("home/pipe").mode() & 0o777, 0o666);
    assert_eq!((metadata("home/old").mtime(), metadata("home/old").mtime_nsec()), (-2, 500_000_000));
    assert_eq!(metadata("home/old").uid(), 3_000_000);
    assert_eq!(metadata("dev").mode() & 0o777, 0o755);
    assert_eq!(metadata("dev/null").rdev(), rustix::fs::makedev(1, 3));
}

#[test]
fn whiteouts_become_what_overlayfs_understands() {
    needs_root!();
    let tar = Tar::default()
        .file(".wh.gone", b"")
        .file("never/was/.wh.there", b"")
        .directory("emptied")
        .file("emptied/.wh..wh..opq", b"")
        .file("emptied/new", b"new")
        // Of its own layer a whiteout hides nothing, in either order.
        .file("kept", b"kept")
        .file(".wh.kept", b"")
        .file(".wh.replaced", b"")
        .file("replaced", b"replaced")
        .directory("remade")
        .file("remade/a", b"a")
        .file(".wh.remade", b"")
        .file(".wh.remade2", b"")
        .directory("remade2")
        .file(".wh..wh.plnk", b"")
        .finish();
    let layer = Fixture::new();
    let root = layer.load_layer(tar).unwrap();
    assert!(is_whiteout(&root.join("gone")));
    assert!(is_whiteout(&root.join("never/was/there")));
    assert_eq!(xattr(&root.join("emptied"), "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(fs::read(root.join("emptied/new")).unwrap(), b"new");
    assert_eq!(fs::read(root.join("kept")).unwrap(), b"kept");
    assert_eq!(fs::read(root.join("replaced")).unwrap(), b"replaced");
    for remade in ["remade", "remade2"] {
        assert_eq!(xattr(&root.join(remade), "trusted.overlay.opaque").unwrap(), b"y", "{remade}");
    }
    assert_eq!(fs::read(root.join("remade/a")).unwrap(), b"a");
    assert_eq!(xattr(&root.join("never"), "trusted.overlay.opaque"), None);
    assert_eq!(names(&root), ["emptied", "gone", "kept", "never", "remade", "remade2", "replaced"]);
}

#[test]
fn links_are_kept_as_they_are_and_followed_within_the_layer_only() {
    needs_root!();
    let tar = Tar::default()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("lib64", "/usr/lib")
        .symlink("up", "../../../../usr")
        .file("lib/a", b"a")
        .file("lib64/b", b"b")
        .file("up/lib/c", b"c")
        .hard_link("hard", "usr/lib/a")
        .hard_link("hard2", "/lib/b")
        .symlink("passwd", "/etc/passwd")
        .hard_link("passwd2", "passwd")
        .finish();
    let layer = Fixture::new();
    let root = layer.load_layer(tar).unwrap();
    assert_eq!(names(&root.join("usr/lib")), ["a", "b", "c"]);
    assert_eq!(fs::read_link(root.join("lib64")).unwrap(), Path::new("/usr/lib"));
    assert_eq!(fs::read_link(root.join("up")).unwrap(), Path::new("../../../../usr"));
    assert_eq!(fs::read_link(root.join("passwd2")).unwrap(), Path::new("/etc/passwd"));
    let inode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().ino();
    assert_eq!(inode("hard"), inode("usr/lib/a"));
    assert_eq!(inode("hard2"), inode("usr/lib/b"));
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one() {
    needs_root!();
    let tar = Tar::default()
        .file("a", b"first")
        .file("a", b"second")
        .directory("d")
        .file("d/x", b"x")
        .file("d", b"now a file")
        .file("f", b"file")
        .directory("f")
        .file("f/y", b"y")
        .symlink("s", "f")
        .file("s/through", b"")
        .directory("s")
        .file("s/z", b"z")
        .directory("m")
        .file("m/kept", b"")
        .entry(EntryType::Directory, "m", &[], |header| header.set_mode(0o700))
        .finish();
    let layer = Fixture::new();
    let root = layer.load_layer(tar).unwrap();
    assert_eq!(fs::read(root.join("a")).unwrap(), b"second");
    assert_eq!(fs::read(root.join("d")).unwrap(), b"now a file");
    assert_eq!(names(&root.join("f")), ["through", "y"]);
    assert!(fs::symlink_metadata(root.join("s")).unwrap().is_dir());
    assert_eq!(names(&root.join("s")), ["z"]);
    assert_eq!(names(&root.join("m")), ["kept"]);
    assert_eq!(fs::metadata(root.join("m")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn extended_attributes_of_an_image_are_set() {
    needs_root!();
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::default()
        .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.note", b"hi")])
        .entry(EntryType::Regular, "ping", b"x", |header| header.set_uid(5))
        .pax(&[("SCHILY.xattr.security.selinux", b"label")])
        .file("labelled", b"x")
        .pax(&[("SCHILY.xattr.user.note", b"dir")])
        .directory("dir")
        .finish();
    let layer = Fixture::new();
    let root = layer.load_layer(tar).unwrap();
    assert_eq!(xattr(&root.join("ping"), "security.capability").unwrap(), capability);
    assert_eq!(xattr(&root.join("ping"), "user.note").unwrap(), b"hi");
    assert_eq!(xattr(&root.join("dir"), "user.note").unwrap(), b"dir");
}

#[test]
fn names_of_every_form_are_kept() {
    needs_root!();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let long_pax = format!("{}/{}", "p".repeat(150), "q".repeat(200));
    let mut long_name = long.clone().into_bytes();
    long_name.push(0);
    let tar = Tar::default()
        .entry(EntryType::GNULongName, "././@LongLink", &long_name, |_| {})
        .file("short", b"gnu")
        .pax(&[("path", long_pax.as_bytes()), ("comment", b"left out")])
        .file("short", b"pax")
        .entry(EntryType::GNULongLink, "././@LongLink", &long_name, |_| {})
        .symlink("link", "short")
        .file("/absolute//./name", b"")
        .file("new\nline", b"")
        .file("a\\back", b"")
        .finish();
    let layer = Fixture::new();
    let root = layer.load_layer(tar).unwrap();
    assert_eq!(fs::read(root.join(&long)).unwrap(), b"gnu");
    assert_eq!(fs::read(root.join(&long_pax)).unwrap(), b"pax");
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new(&long));
    assert!(root.join("absolute/name").exists());
    assert!(root.join("new\nline").exists());
    assert!(root.join("a\\back").exists());
}

#[test]
fn a_sparse_file_has_its_holes() {
    needs_root!();
    let octal =
        |field: &mut [u8; 12], value: u64| field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    let tar = Tar::default()
        .entry(EntryType::GNUSparse, "sparse", &[7; 1024], |header| {
            let gnu = header.as_gnu_mut().unwrap();
            octal(&mut gnu.sparse[0].offset, 512);
            octal(&mut gnu.sparse[0].numbytes, 512);
            octal(&mut gnu.sparse[1].offset, 4096);
            octal(&mut gnu.sparse[1].numbytes, 512);
            octal(&mut gnu.realsize, 8192);
        })
        .file("behind", b"behind")
        .finish();
    let layer = Fixture::new();
    let root = layer.load_layer(tar).unwrap();
    let bytes = fs::read(root.join("sparse")).unwrap();
    assert_eq!(bytes.len(), 8192);
    for (at, byte) in bytes.iter().enumerate() {
        assert_eq!(*byte == 7, (512..1024).contains(&at) || (4096..4608).contains(&at), "{at}");
    }
    assert_eq!(fs::read(root.join("behind")).unwrap(), b"behind");
}

/// The kernel is the judge: unpacked layers, mounted in a namespace of its own that ends with the
/// child, show what the image says.
#[test]
fn overlayfs_shows_the_image() {
    use std::process::Command;
    use wharf_image::archive::{ArchiveImage, Layer};

    needs_root!();
    let lower = Tar::default()
        .directory("etc")
        .file("etc/kept", b"kept")
        .file("etc/gone", b"")
        .directory("opaque")
        .file("opaque/old", b"")
        .directory("remade")
        .file("remade/old", b"")
        .file("file", b"lower");
    let upper = Tar::default()
        .file("etc/.wh.gone", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        .file(".wh.remade", b"")
        .directory("remade")
        .file("remade/new", b"")
        .file("file", b"upper");
    let image = ArchiveImage::new(common::reference("test"), common::config())
        .layer(Layer::new())
        .layer(Layer::from_tar(lower.finish()))
        .layer(Layer::new())
        .layer(Layer::from_tar(upper.finish()))
        .layer(Layer::new());
    let fixture = Fixture::new();
    fixture.load(&common::oci(&image)).unwrap();
    let resolved = fixture.store.resolve_blocking(&common::reference("test")).unwrap();
    // The empty layer is there once.
    assert_eq!(resolved.layers.len(), 3);
    let layers: Vec<&str> = resolved.layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    let mounted = fixture.directory.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t overlay -o \"lowerdir=$1\" none \"$2\" && cd \"$2\" && find . -mindepth 1 | sort && cat file")
        .arg("sh")
        .arg(layers.join(":"))
        .arg(&mounted)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "./etc\n./etc/kept\n./file\n./opaque\n./opaque/new\n./remade\n./remade/new\nupper"
    );
}
