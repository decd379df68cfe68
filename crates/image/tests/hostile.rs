//! Layers and archives that mean harm: each is refused with an error that names what is wrong,
//! touches nothing outside the store, and leaves nothing in it.

mod common;

use std::io::Write;

use common::{Fixture, Tar, config, image_of, needs_root, oci, reference};
use proptest::prelude::*;
use tar::EntryType;
use wharf_image::archive::{ArchiveImage, Layer, LayerCompression};
use wharf_image::{Limits, LoadOptions};

/// Loads an image with this layer and expects an error with this text, and nothing left.
fn refused(layer: Tar, text: &str) {
    refused_with(Limits::default(), &image_of(layer.finish()), text);
}

fn refused_with(limits: Limits, archive: &[u8], text: &str) {
    let fixture = Fixture::with_limits(limits);
    let error = fixture.load(archive).unwrap_err().chain();
    assert!(error.contains(text), "{error:?} does not say {text:?}");
    fixture.assert_empty();
}

#[test]
fn paths_that_go_up_are_refused() {
    needs_root!();
    for name in ["../evil", "a/../../evil", "a/..", "..", "/../evil"] {
        refused(Tar::default().file(name, b"x"), "has \"..\" in its path");
    }
    refused(Tar::default().pax(&[("path", b"../evil")]).file("a", b"x"), "entry \"../evil\" of the layer");
    refused(Tar::default().file(".wh...", b"x"), "is a whiteout of nothing");
    refused(Tar::default().file(".wh.", b"x"), "is a whiteout of nothing");
}

#[test]
fn hard_links_to_anything_outside_the_layer_are_refused() {
    needs_root!();
    refused(Tar::default().hard_link("evil", "../../../etc/passwd"), "has \"..\" in its path");
    for target in ["/etc/passwd", "etc/passwd", "/", "."] {
        refused(Tar::default().hard_link("evil", target), "which is no file of this layer");
    }
    refused(
        Tar::default().symlink("out", "/etc").hard_link("evil", "out/passwd"),
        "entry \"evil\" of the layer is a hard link to \"out/passwd\", which is no file of this layer",
    );
    refused(Tar::default().directory("d").hard_link("evil", "d"), "which is no file of this layer");
    refused(
        Tar::default().directory("d").file("d/x", b"").hard_link("d", "d/x"),
        "which is no file of this layer",
    );
}

#[test]
fn a_symbolic_link_never_leads_out() {
    needs_root!();
    let fixture = Fixture::new();
    let outside = fixture.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let escape = outside.to_str().unwrap();
    // Absolute, relative and through several hops: the parent does not exist within the layer.
    for layer in [
        Tar::default().symlink("out", escape).file("out/evil", b"x"),
        Tar::default()
            .symlink("out", &"../".repeat(12))
            .symlink("tmp", &escape[1..])
            .file("out/tmp/evil", b"x"),
        Tar::default().symlink("a", "b").symlink("b", escape).directory("a/evil"),
        Tar::default().symlink("out", escape).file("out/.wh.evil", b""),
        Tar::default().symlink("out", escape).file("out/.wh..wh..opq", b""),
        Tar::default().symlink("out", "/proc/self/root").file("out/evil", b""),
        Tar::default().symlink("out", "/proc/self/cwd").file("out/evil", b""),
    ] {
        let error = fixture.load(&image_of(layer.finish())).unwrap_err().to_string();
        assert!(error.contains("lies below something that is no directory of this layer"), "{error}");
        assert_eq!(common::names(&outside), [""; 0]);
    }
    // A link in the place of a file is replaced, and not written through.
    let target = outside.join("target");
    std::fs::write(&target, b"untouched").unwrap();
    let layer = Tar::default().symlink("file", target.to_str().unwrap()).file("file", b"overwritten");
    let root = fixture.load_layer(layer.finish()).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"untouched");
    assert_eq!(std::fs::read(root.join("file")).unwrap(), b"overwritten");
}

#[test]
fn symbolic_links_that_loop_are_refused() {
    needs_root!();
    refused(
        Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", b""),
        "lies below something that is no directory of this layer",
    );
    refused(Tar::default().file("f", b"").file("f/x", b""), "lies below something that is no directory");
}

#[test]
fn devices_outside_the_allowance_are_refused() {
    needs_root!();
    refused(Tar::default().device(EntryType::Char, "dev/mem", 1, 1), "is the device 1:1");
    refused(Tar::default().device(EntryType::Char, "dev/whiteout", 0, 0), "is the device 0:0");
    refused(Tar::default().device(EntryType::Block, "dev/sda", 8, 0), "is a block device");
}

#[test]
fn attributes_that_steer_overlayfs_are_refused() {
    needs_root!();
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.metacopy"] {
        let key = format!("SCHILY.xattr.{name}");
        refused(Tar::default().pax(&[(&key, b"/etc")]).directory("d"), "which a layer may not set");
    }
}

#[test]
fn names_with_a_nul_are_refused() {
    needs_root!();
    refused(Tar::default().pax(&[("path", b"a\0b")]).file("a", b""), "has an invalid name");
    refused(Tar::default().pax(&[("linkpath", b"a\0b")]).symlink("a", "b"), "has an invalid link target");
    refused(Tar::default().pax(&[("path", b"")]).file("a", b""), "has an invalid name");
    let long = "n".repeat(256);
    refused(Tar::default().pax(&[("path", long.as_bytes())]).file("a", b""), "longer than 255 bytes");
}

#[test]
fn directories_nested_too_deep_are_refused() {
    needs_root!();
    let deep = "d/".repeat(200);
    refused(Tar::default().pax(&[("path", deep.as_bytes())]).directory("a"), "is nested too deep");
    // Short names, deep all the same: each link stands for a hundred directories.
    let hundred = "d/".repeat(100);
    let below = format!("s/{}", "e/".repeat(50));
    refused(
        Tar::default()
            .pax(&[("path", hundred.as_bytes())])
            .directory("a")
            .pax(&[("linkpath", hundred.as_bytes())])
            .symlink("s", "d")
            .pax(&[("path", below.as_bytes())])
            .directory("b"),
        "is nested too deep",
    );
}

#[test]
fn sizes_that_are_not_there_are_refused() {
    needs_root!();
    let huge =
        |bytes: u64| Tar::default().entry(EntryType::Regular, "huge", &[], |header| header.set_size(bytes));
    refused(huge(1 << 33), "it ends too early");
    refused(huge(u64::MAX), "no valid size");
    refused(huge(1 << 60), "is larger than");
    refused(
        Tar::default().pax(&[("size", b"99999999999999999999")]).file("a", b""),
        "invalid extended header \"size\"",
    );
    refused(Tar::default().pax(&[("size", b"-1")]).file("a", b""), "invalid extended header \"size\"");
    refused(Tar::default().entry(EntryType::new(b'V'), "volume", &[], |_| {}), "unsupported type 'V'");
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    needs_root!();
    let octal =
        |field: &mut [u8; 12], value: u64| field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    for (offset, bytes, real) in [(0, 1024, 1024), (1 << 32, 512, 4096), (0, 512, 0)] {
        let layer = Tar::default().entry(EntryType::GNUSparse, "sparse", &[1; 512], |header| {
            let gnu = header.as_gnu_mut().unwrap();
            octal(&mut gnu.sparse[0].offset, offset);
            octal(&mut gnu.sparse[0].numbytes, bytes);
            octal(&mut gnu.realsize, real);
        });
        refused(layer, "has an invalid sparse map");
    }
    refused(Tar::default().pax(&[("GNU.sparse.major", b"1")]).file("a", b""), "is not supported");
}

#[test]
fn layers_have_an_end() {
    needs_root!();
    let limits = Limits { layer_bytes_max: 64 * 1024, layer_entries_max: 100, ..Limits::default() };
    let big = image_of(Tar::default().file("big", &[1; 65 * 1024]).finish());
    refused_with(limits, &big, "the layer is larger than 65536 bytes");
    let mut many = Tar::default();
    for number in 0..101 {
        many = many.file(&number.to_string(), b"");
    }
    refused_with(limits, &image_of(many.finish()), "larger than 100 entries");
    let sparse = Tar::default().entry(EntryType::GNUSparse, "sparse", &[], |header| {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize.copy_from_slice(format!("{:011o}\0", 1_u64 << 32).as_bytes());
    });
    refused_with(limits, &image_of(sparse.finish()), "the layer is larger than 65536 bytes");
}

#[test]
fn a_hundred_thousand_entries_are_no_attack() {
    needs_root!();
    // Links to one file: a hundred thousand names, and few inodes to clean up.
    let mut many = Tar::default();
    for number in 0..100_000 {
        let directory = number % 100;
        many = match number {
            0..100 => many.file(&format!("{directory}/first"), b""),
            _ => many.hard_link(&format!("{directory}/{number}"), &format!("{directory}/first")),
        };
    }
    let fixture = Fixture::new();
    let root = fixture.load_layer(many.finish()).unwrap();
    assert_eq!(common::names(&root.join("42")).len(), 1000);
}

#[test]
fn compression_bombs_are_cut_off() {
    needs_root!();
    let limits = Limits { compression_free_bytes: 1024 * 1024, ..Limits::default() };
    let zeros = Tar::default().file("zeros", &vec![0; 16 * 1024 * 1024]).finish();
    for compression in [LayerCompression::Gzip, LayerCompression::Zstd] {
        let image = ArchiveImage::new(reference("test"), config())
            .layer(Layer::from_tar(zeros.clone()).compressed(compression));
        refused_with(limits, &oci(&image), "layer expands to more than 200 times");
    }
    refused_with(limits, &gzip(&image_of(zeros.clone())), "archive expands to more than 200 times");
    let limits = Limits { archive_bytes_max: 1024 * 1024, ..Limits::default() };
    refused_with(limits, &gzip(&image_of(zeros)), "the archive is larger than 1048576 bytes");
}

#[test]
fn an_archive_cut_off_anywhere_is_refused() {
    needs_root!();
    let archive = image_of(Tar::default().file("a", &[1; 3000]).finish());
    let fixture = Fixture::new();
    for cut in (0..archive.len() - 1024).step_by(97) {
        assert!(fixture.load(&archive[..cut]).is_err(), "{cut}");
    }
    for compressed in [gzip(&archive), zstd::encode_all(&archive[..], 0).unwrap()] {
        for cut in (0..compressed.len()).step_by(31) {
            assert!(fixture.load(&compressed[..cut]).is_err(), "{cut}");
        }
    }
    fixture.assert_empty();
}

#[test]
fn a_bit_flipped_in_the_content_is_found() {
    needs_root!();
    let archive = image_of(Tar::default().file("a", &[1; 600]).finish());
    let fixture = Fixture::new();
    // The archive's own headers aside, every byte is covered by a digest.
    let at = archive.windows(600).position(|window| window == [1; 600]).unwrap();
    let mut flipped = archive;
    flipped[at + 300] ^= 1;
    let error = fixture.load(&flipped).unwrap_err().to_string();
    assert!(error.contains("has digest sha256:"), "{error}");
    fixture.assert_empty();
}

#[test]
fn a_failing_source_is_told_as_such() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("connection lost"))
        }
    }
    let fixture = Fixture::new();
    let error = fixture.store.load(Failing, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.chain(), "the archive cannot be read: connection lost");
    fixture.assert_empty();
}

#[test]
fn what_is_no_image_is_refused() {
    for (archive, text) in [
        (Vec::new(), "it ends too early"),
        (b"hello".to_vec(), "it ends too early"),
        (vec![b'x'; 4096], "not a tar archive"),
        (Tar::default().file("README", b"hi").finish(), "neither an index.json nor a manifest.json"),
        (Tar::default().file("../index.json", b"{}").finish(), "has \"..\" in its path"),
        (Tar::default().device(EntryType::Char, "index.json", 1, 3).finish(), "is no plain file"),
        (Tar::default().file("index.json", b"{}").finish(), "no oci-layout"),
        (Tar::default().file("index.json", b"{").file("oci-layout", b"{}").finish(), "corrupt index.json"),
        (Tar::default().file("manifest.json", b"[]").finish(), "it holds no image"),
        (Tar::default().file("manifest.json", b"nope").finish(), "corrupt manifest.json"),
        (Tar::default().file("blobs/sha256/abc", b"x").finish(), "is not named by a digest"),
        (Tar::default().file("a", b"1").file("a", b"2").finish(), "is there twice"),
        (
            Tar::default().file("manifest.json", br#"[{"Config":"c.json"}]"#).finish(),
            "entry \"c.json\" of the archive is missing",
        ),
        (
            Tar::default()
                .file("manifest.json", br#"[{"Config":"a"}]"#)
                .symlink("a", "b")
                .symlink("b", "a")
                .finish(),
            "is a link to itself",
        ),
    ] {
        refused_with(Limits::default(), &archive, text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_an_archive_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let fixture = Fixture::new();
        prop_assert!(fixture.load(&bytes).is_err());
    }

    #[test]
    fn any_change_to_an_image_loads_or_is_refused(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut archive = image_of(Tar::default().file("a", b"b").symlink("c", "d").finish());
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let fixture = Fixture::new();
        if fixture.load(&archive).is_err() {
            fixture.assert_empty();
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
