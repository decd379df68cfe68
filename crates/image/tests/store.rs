//! Archives become images: loaded, named, resolved, listed, shared and removed.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use common::{Fixture, Tar, config, names, needs_root, oci, open, reference};
use serde_json::{Value, json};
use wharf_contracts::{ImageError, ImageSource};
use wharf_core::Timestamp;
use wharf_image::archive::{ArchiveImage, Layer, LayerCompression, program_image, write_docker};
use wharf_image::{Digest, Error, Limits, LoadOptions};

fn base() -> Layer {
    Layer::new().directory("bin", 0o755).unwrap().file("bin/tool", 0o755, b"tool").unwrap()
}

fn app(bytes: &[u8]) -> Layer {
    Layer::new().file("hello", 0o755, bytes).unwrap().symlink("current", "/bin/tool").unwrap()
}

fn image(name: &str) -> ArchiveImage {
    ArchiveImage::new(reference(name), config()).layer(base()).layer(app(b"one"))
}

fn docker(image: &ArchiveImage) -> Vec<u8> {
    let mut archive = Vec::new();
    write_docker(&mut archive, image).unwrap();
    archive
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI image layout made of these blobs and this index.
fn layout(blobs: &[&[u8]], index: &Value) -> Vec<u8> {
    let mut tar = Tar::default().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    for blob in blobs {
        tar = tar.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    tar.file("index.json", index.to_string().as_bytes()).finish()
}

fn described(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

fn with(mut value: Value, member: &str, content: Value) -> Value {
    value[member] = content;
    value
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Manifest, configuration and layer of an image for an architecture.
fn parts(architecture: &str, layer_type: &str) -> [Vec<u8>; 3] {
    let layer = Tar::default().file("arch", architecture.as_bytes()).finish();
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": null, "Cmd": ["/arch"], "ExposedPorts": null},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": described(CONFIG, &config), "layers": [described(layer_type, &layer)],
    })
    .to_string()
    .into_bytes();
    [manifest, config, layer]
}

fn host() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

fn named(descriptor: Value, name: &str) -> Value {
    with(descriptor, "annotations", json!({"io.containerd.image.name": name}))
}

#[test]
fn an_image_comes_out_as_it_was_put_in_whatever_the_archive() {
    needs_root!();
    let compressed = |compression| {
        ArchiveImage::new(reference("hello"), config())
            .layer(base().compressed(compression))
            .layer(app(b"one").compressed(compression))
    };
    let plain = docker(&image("hello"));
    for archive in [
        plain.clone(),
        oci(&image("hello")),
        gzip(&plain),
        zstd::encode_all(&plain[..], 0).unwrap(),
        oci(&compressed(LayerCompression::Gzip)),
        docker(&compressed(LayerCompression::Zstd)),
    ] {
        let fixture = Fixture::new();
        let loaded = fixture.load(&archive).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].references, [reference("hello:latest")]);
        let resolved = fixture.store.resolve_blocking(&reference("hello")).unwrap();
        assert_eq!(resolved.config, config());
        assert_eq!(resolved.digest, loaded[0].digest.to_string());
        let [top, bottom] = resolved.layers.as_slice() else { panic!("{:?}", resolved.layers) };
        assert_eq!(fs::read(top.join("hello")).unwrap(), b"one");
        assert_eq!(fs::read_link(top.join("current")).unwrap(), Path::new("/bin/tool"));
        assert_eq!(fs::read(bottom.join("bin/tool")).unwrap(), b"tool");
        assert_eq!(names(&fixture.root().join("ingest")), [""; 0]);
    }
}

#[test]
fn writing_an_archive_twice_gives_the_same_bytes() {
    assert_eq!(docker(&image("hello")), docker(&image("hello")));
    assert_eq!(oci(&image("hello")), oci(&image("hello")));
}

#[test]
fn an_archive_of_an_old_docker_loads() {
    needs_root!();
    let layer = Tar::default().file("a", b"a").finish();
    let diff_id = Digest::of(&layer).to_string();
    let config = json!({
        "architecture": host(), "os": "linux", "created": "2020-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"], "Entrypoint": null},
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]},
    })
    .to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let list = json!([{
        "Config": config_name, "RepoTags": ["old:1", "registry.example:5000/old:2"],
        "Layers": ["first/layer.tar", "second/layer.tar"],
    }]);
    let archive = Tar::default()
        .directory("first/")
        .file("first/VERSION", b"1.0")
        .file("first/layer.tar", &layer)
        .symlink("second/layer.tar", "../first/layer.tar")
        .file(&config_name, config.as_bytes())
        .file("manifest.json", list.to_string().as_bytes())
        .file("repositories", b"{}")
        .finish();
    let fixture = Fixture::new();
    let loaded = fixture.load(&archive).unwrap();
    assert_eq!(loaded[0].references, [reference("old:1"), reference("registry.example:5000/old:2")]);
    let resolved = fixture.store.resolve_blocking(&reference("registry.example:5000/old:2")).unwrap();
    assert_eq!(resolved.config.cmd, ["sh"]);
    // Twice the same layer is one to overlayfs.
    assert_eq!(resolved.layers.len(), 1);
    let listed = fixture.store.list().unwrap();
    assert_eq!(listed[0].created.as_deref(), Some("2020-01-02T03:04:05Z"));
    assert_eq!(listed[0].loaded, Timestamp::from_millis(1_700_000_000_000));
    // The same archive makes the same manifest.
    assert_eq!(fixture.load(&archive).unwrap(), loaded);

    let wrong =
        Tar::default().file(&config_name, b"{}").file("manifest.json", list.to_string().as_bytes()).finish();
    let error = fixture.load(&wrong).unwrap_err().to_string();
    assert!(error.contains("has digest"), "{error}");
}

#[test]
fn of_an_image_for_several_platforms_this_machines_is_taken() {
    needs_root!();
    let [manifest, config, layer] = parts(host(), LAYER);
    let [other, other_config, _] = parts("s390x", LAYER);
    let platform = |architecture: &str| json!({"os": "linux", "architecture": architecture});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        with(described(MANIFEST, &other), "platform", platform("s390x")),
        with(described(MANIFEST, &manifest), "platform", platform(host())),
    ]})
    .to_string()
    .into_bytes();
    let top = json!({"schemaVersion": 2, "manifests": [named(described(INDEX, &index), "docker.io/library/multi:1")]});
    // Of the other platform some is there, some is not.
    let archive = layout(&[&index, &manifest, &config, &layer, &other, &other_config], &top);
    let fixture = Fixture::new();
    let loaded = fixture.load(&archive).unwrap();
    assert_eq!(loaded[0].digest, Digest::of(&index));
    let resolved = fixture.store.resolve_blocking(&reference("multi:1")).unwrap();
    assert_eq!(resolved.digest, Digest::of(&manifest).to_string());
    assert_eq!(fs::read(resolved.layers[0].join("arch")).unwrap(), host().as_bytes());
    assert_eq!(names(&fixture.root().join("blobs/sha256")).len(), 6);
    // By the digest of the index, and of the manifest, but not of anything else.
    for digest in [&index, &manifest] {
        let name = format!("multi@{}", Digest::of(digest));
        assert_eq!(fixture.store.resolve_blocking(&reference(&name)).unwrap(), resolved);
    }
    let name = format!("multi@{}", Digest::of(&config));
    assert!(matches!(fixture.store.resolve_blocking(&reference(&name)), Err(Error::NotFound { .. })));

    let foreign = json!({"schemaVersion": 2, "manifests": [named(described(MANIFEST, &other), "foreign")]});
    let [_, _, other_layer] = parts("s390x", LAYER);
    let error = Fixture::new().load(&layout(&[&other, &other_config, &other_layer], &foreign)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no matching manifest for linux/{} in the manifest list entries", host())
    );
}

#[test]
fn documents_that_do_not_hold_together_are_refused() {
    needs_root!();
    let [manifest, config, layer] = parts(host(), LAYER);
    let top = |descriptor: Value| json!({"schemaVersion": 2, "manifests": [named(descriptor, "test")]});
    let honest = top(described(MANIFEST, &manifest));
    let [foreign, foreign_config, _] =
        parts(host(), "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let both = json!({"schemaVersion": 2, "mediaType": MANIFEST, "manifests": [],
        "config": described(CONFIG, &config), "layers": []})
    .to_string()
    .into_bytes();
    let wrong_id =
        String::from_utf8(config.clone()).unwrap().replace(&Digest::of(&layer).hex(), &Digest::of(b"").hex());
    let wrong_id = wrong_id.into_bytes();
    let lying = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": described(CONFIG, &wrong_id), "layers": [described(LAYER, &layer)]})
    .to_string()
    .into_bytes();
    let fewer = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, &config), "layers": []})
        .to_string()
        .into_bytes();
    let not_config = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": described("application/vnd.example+json", &config), "layers": []})
    .to_string()
    .into_bytes();
    let mut index = manifest.clone();
    let mut indexes = Vec::new();
    for _ in 0..6 {
        let kind = if indexes.is_empty() { MANIFEST } else { INDEX };
        index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described(kind, &index)]})
            .to_string()
            .into_bytes();
        indexes.push(index.clone());
    }
    let mut deep: Vec<&[u8]> = vec![&manifest, &config, &layer];
    deep.extend(indexes.iter().map(Vec::as_slice));
    let hello = with(described(MANIFEST, &manifest), "digest", json!("sha512:00"));
    for (archive, text) in [
        (layout(&[&manifest, &config], &honest), "the layer of the image, is missing"),
        (layout(&[&manifest, &layer], &honest), "the image configuration of the image, is missing"),
        (layout(&[&config, &layer], &honest), "the manifest of the image, is missing"),
        (
            layout(&[&foreign, &foreign_config, &layer], &top(described(MANIFEST, &foreign))),
            "unsupported media type",
        ),
        (layout(&[&both, &config], &top(described(MANIFEST, &both))), "members of an image and of an index"),
        (layout(&[&manifest, &config, &layer], &top(described(INDEX, &manifest))), "points to it"),
        (layout(&[&manifest], &top(described("text/plain", &manifest))), "points to it"),
        (layout(&[&lying, &wrong_id, &layer], &top(described(MANIFEST, &lying))), "unpacks to diff id"),
        (layout(&[&fewer, &config], &top(described(MANIFEST, &fewer))), "it has 1 diff ids for 0 layers"),
        (layout(&[&not_config, &config], &top(described(MANIFEST, &not_config))), "unsupported media type"),
        (layout(&deep, &top(described(INDEX, &index))), "nested too deep"),
        (
            layout(
                &[&manifest, &config, &layer],
                &top(with(described(MANIFEST, &manifest), "size", json!(1))),
            ),
            "its descriptor says 1",
        ),
        (layout(&[&manifest, &config, &layer], &top(hello)), "digest"),
        (
            layout(&[&manifest, &config, &layer], &json!({"schemaVersion": 2, "manifests": []})),
            "holds no image",
        ),
        (
            layout(
                &[&manifest, &config, &layer],
                &json!({"schemaVersion": 2, "manifests": [described(MANIFEST, &manifest)]}),
            ),
            "does not name its image",
        ),
        (
            layout(
                &[&manifest, &config, &layer],
                &json!({"schemaVersion": 2, "manifests": [named(described(MANIFEST, &manifest), "Bad Name")]}),
            ),
            "invalid reference format",
        ),
    ] {
        let fixture = Fixture::new();
        let error = fixture.load(&archive).unwrap_err().to_string();
        assert!(error.contains(text), "{error:?} does not say {text:?}");
        fixture.assert_empty();
    }
    let limits = Limits { document_bytes_max: 100, ..Limits::default() };
    let error =
        Fixture::with_limits(limits).load(&layout(&[&manifest, &config, &layer], &honest)).unwrap_err();
    assert!(error.to_string().contains("is larger than 100 bytes"), "{error}");
}

#[test]
fn a_name_can_be_given_to_the_one_image_of_an_archive() {
    needs_root!();
    let [manifest, config, layer] = parts(host(), LAYER);
    let unnamed = json!({"schemaVersion": 2, "manifests": [
        with(described(MANIFEST, &manifest), "annotations", json!({"org.opencontainers.image.ref.name": "latest"})),
    ]});
    let fixture = Fixture::new();
    let options = LoadOptions { name: Some(reference("mine:1")) };
    let loaded = fixture.store.load(&layout(&[&manifest, &config, &layer], &unnamed)[..], &options).unwrap();
    assert_eq!(loaded[0].references, [reference("mine:1")]);
    let [other, other_config, other_layer] = parts(host(), "application/vnd.oci.image.layer.v1.tar+gzip");
    let two = json!({"schemaVersion": 2, "manifests": [
        named(described(MANIFEST, &manifest), "a"), named(described(MANIFEST, &other), "b"),
    ]});
    let archive = layout(&[&manifest, &config, &layer, &other, &other_config, &other_layer], &two);
    assert!(matches!(fixture.store.load(&archive[..], &options), Err(Error::OneName { count: 2 })));
}

#[test]
fn a_store_that_is_opened_again_has_its_images() {
    needs_root!();
    let fixture = Fixture::new();
    fixture.load(&docker(&image("hello").also_named(reference("other/name:v2")))).unwrap();
    let before =
        (fixture.store.list().unwrap(), fixture.store.resolve_blocking(&reference("hello")).unwrap());
    let again = open(&fixture.root(), Limits::default());
    assert_eq!((again.list().unwrap(), again.resolve_blocking(&reference("hello")).unwrap()), before);
    assert_eq!(
        before.0.iter().map(|line| line.reference.familiar()).collect::<Vec<_>>(),
        ["hello:latest", "other/name:v2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolves_at_the_same_time_unpack_once() {
    needs_root!();
    let fixture = Fixture::new();
    fixture.load(&docker(&image("hello"))).unwrap();
    for snapshot in names(&fixture.root().join("snapshots")) {
        fs::remove_dir_all(fixture.root().join("snapshots").join(snapshot)).unwrap();
    }
    let store = Arc::new(open(&fixture.root(), Limits::default()));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.resolve("hello").await.unwrap() })
        })
        .collect();
    let mut resolved = Vec::new();
    for task in tasks {
        resolved.push(task.await.unwrap());
    }
    assert!(resolved.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(fs::read(resolved[0].layers[0].join("hello")).unwrap(), b"one");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_in_the_words_of_a_registry() {
    let fixture = Fixture::new();
    let error = fixture.store.resolve("nope").await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }));
    assert_eq!(error.to_string(), "docker.io/library/nope:latest: not found");
    let name = format!("nope@{}", Digest::of(b""));
    assert!(matches!(fixture.store.resolve(&name).await, Err(ImageError::NotFound { .. })));
    assert!(matches!(fixture.store.resolve("No Such").await, Err(ImageError::InvalidReference { .. })));
    assert!(matches!(fixture.store.remove(&reference("nope"), &[]), Err(Error::NotFound { .. })));
}

#[test]
fn removing_a_name_frees_what_nothing_else_uses() {
    needs_root!();
    let fixture = Fixture::new();
    fixture.load(&docker(&image("one"))).unwrap();
    let two = ArchiveImage::new(reference("two"), config()).layer(base()).layer(app(b"two"));
    let two = fixture.load(&docker(&two)).unwrap();
    let snapshots = || names(&fixture.root().join("snapshots")).len();
    let blobs = || names(&fixture.root().join("blobs/sha256")).len();
    assert_eq!((snapshots(), blobs()), (3, 7));
    // Shared with `two`: the base layer stays.
    let collected = fixture.store.remove(&reference("one"), &[]).unwrap();
    assert_eq!((collected.snapshots, collected.blobs), (1, 3));
    assert!(matches!(fixture.store.resolve_blocking(&reference("one")), Err(Error::NotFound { .. })));
    // In use: the name goes, the content stays until it is not.
    let resolved = fixture.store.resolve_blocking(&reference("two")).unwrap();
    let in_use: Digest = resolved.digest.parse().unwrap();
    assert_eq!(in_use, two[0].digest);
    assert_eq!(
        fixture.store.remove(&reference("two"), &[in_use]).unwrap(),
        wharf_image::Collected::default()
    );
    assert_eq!(fs::read(resolved.layers[0].join("hello")).unwrap(), b"two");
    assert_eq!(fixture.store.collect(&[]).unwrap().snapshots, 2);
    fixture.assert_empty();
}

#[test]
fn a_load_that_cannot_write_its_names_takes_everything_back() {
    needs_root!();
    let fixture = Fixture::new();
    // The index cannot be replaced by a file while it is a directory.
    fs::create_dir(fixture.root().join("index.json")).unwrap();
    fixture.load(&docker(&image("hello"))).unwrap_err();
    fixture.assert_empty();
    fs::remove_dir(fixture.root().join("index.json")).unwrap();
    fixture.load(&docker(&image("hello"))).unwrap();
}

#[test]
fn loads_resolves_and_removals_at_the_same_time_leave_whole_images() {
    needs_root!();
    const ROUNDS: usize = 15;
    let fixture = Fixture::new();
    let goes = ArchiveImage::new(reference("goes"), config()).layer(base()).layer(app(b"goes"));
    let (stays, comes_and_goes) = (docker(&image("stays")), docker(&goes));
    fixture.load(&stays).unwrap();
    let expect_whole = |name: &str| match fixture.store.resolve_blocking(&reference(name)) {
        Ok(resolved) => Some(resolved),
        Err(Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                fixture.load(&comes_and_goes).unwrap();
                fixture.store.remove(&reference("goes"), &[]).unwrap();
            }
        });
        scope.spawn(|| (0..ROUNDS).for_each(|_| drop(fixture.load(&stays).unwrap())));
        for _ in 0..ROUNDS * 100 {
            let resolved = expect_whole("stays").unwrap();
            assert_eq!(fs::read(resolved.layers[0].join("hello")).unwrap(), b"one");
            assert_eq!(fs::read(resolved.layers[1].join("bin/tool")).unwrap(), b"tool");
            expect_whole("goes");
            fixture.store.list().unwrap();
        }
    });
    assert_eq!(names(&fixture.root().join("ingest")), [""; 0]);
    fixture.store.remove(&reference("stays"), &[]).unwrap();
    fixture.assert_empty();
}

#[test]
fn a_name_moves_to_the_image_that_was_loaded_last() {
    needs_root!();
    let fixture = Fixture::new();
    fixture.load(&docker(&image("app"))).unwrap();
    let newer = ArchiveImage::new(reference("app"), config()).layer(base()).layer(app(b"newer"));
    fixture.load(&docker(&newer)).unwrap();
    let resolved = fixture.store.resolve_blocking(&reference("app")).unwrap();
    assert_eq!(fs::read(resolved.layers[0].join("hello")).unwrap(), b"newer");
    assert_eq!(fixture.store.list().unwrap().len(), 1);
    // What the name stood for before goes with the next collection.
    assert_eq!(fixture.store.collect(&[]).unwrap().snapshots, 1);
}

#[test]
fn a_damaged_blob_in_the_store_is_found_when_it_is_read() {
    needs_root!();
    let fixture = Fixture::new();
    let loaded = fixture.load(&docker(&image("hello"))).unwrap();
    let blob = fixture.root().join("blobs/sha256").join(loaded[0].digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[10] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let error = open(&fixture.root(), Limits::default()).resolve_blocking(&reference("hello")).unwrap_err();
    assert!(error.to_string().starts_with("the manifest in the store has digest"), "{error}");
}

#[test]
fn a_static_program_is_packed_under_its_own_name() {
    needs_root!();
    let fixture = Fixture::new();
    let image = program_image(reference("registry.example/team/hello:v1"), b"program").unwrap();
    fixture.load(&docker(&image)).unwrap();
    let resolved = fixture.store.resolve_blocking(&reference("registry.example/team/hello:v1")).unwrap();
    assert_eq!(resolved.config.entrypoint, ["/hello"]);
    assert_eq!(fs::read(resolved.layers[0].join("hello")).unwrap(), b"program");
}

#[test]
fn a_directory_tree_comes_out_as_it_is() {
    needs_root!();
    let busybox = Path::new("/bin/busybox");
    let tree = tempfile::tempdir().unwrap();
    let bin = tree.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(tree.path().join("usr/share/a/b")).unwrap();
    let program = fs::read(busybox).unwrap_or_else(|_| b"no busybox here".to_vec());
    fs::write(bin.join("busybox"), &program).unwrap();
    for applet in ["sh", "ls", "cat", "true"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    fs::write(tree.path().join("usr/share").join("n".repeat(200)), "long").unwrap();
    std::os::unix::fs::symlink(format!("/{}", "t".repeat(300)), tree.path().join("long")).unwrap();
    let image =
        ArchiveImage::new(reference("busybox"), config()).layer(Layer::from_directory(tree.path()).unwrap());
    let fixture = Fixture::new();
    fixture.load(&docker(&image)).unwrap();
    assert_eq!(listing(&fixture.layer("busybox")), listing(tree.path()));
}

/// Every path below a directory, with mode, owner, and content or target.
fn listing(root: &Path) -> Vec<(String, u32, u32, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for name in names(&directory) {
            let path = directory.join(&name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                directories.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push((relative, metadata.mode(), metadata.uid(), content));
        }
    }
    found.sort();
    found
}
