//! Files into and out of containers, on the real engine; hostile containers and archives included.

mod support;

use std::io::{Cursor, Read};
use std::path::Path;

use support::{World, eventually, sandbox_spec, world};
use tokio::io::AsyncReadExt as _;
use wharf_engine::copy::{Archive, CopyOwner, CopyRoot, FileKind, FollowLink};
use wharf_engine::session::ExecSpec;
use wharf_engine::{
    ContainerId, ContainerSpec, Engine, EngineError, SandboxId, SandboxSpec, Users, WritableLayer,
};

/// (path, what it is, content)
type Entry<'a> = (&'a str, tar::EntryType, &'a [u8]);

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(11);
        header.set_gid(22);
        header.set_mtime(1_000_000);
        let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        if is_link {
            header.set_link_name(std::str::from_utf8(content).unwrap()).unwrap();
        }
        // As it stands: the crate's own way refuses what a hostile archive has.
        let name = path.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, if is_link { &[][..] } else { content }).unwrap();
    }
    builder.into_inner().unwrap()
}

fn stream(bytes: Vec<u8>) -> Archive {
    Box::new(Cursor::new(bytes))
}

async fn read_all(mut archive: Archive) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    archive.read_to_end(&mut bytes).await.map(|_| bytes)
}

/// What a shell in the container says.
async fn ask(world: &World, container: &ContainerId, script: &str) -> String {
    let spec = ExecSpec::new(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    let mut session = world.engine.exec(container, spec).await.unwrap();
    let mut said = Vec::new();
    while let Some(chunk) = session.output.recv().await {
        said.extend(chunk.bytes);
    }
    String::from_utf8_lossy(&said).into_owned()
}

async fn start(world: &World, sandbox: &SandboxId, spec: ContainerSpec) -> ContainerId {
    let id = spec.id.clone();
    world.engine.start_container(sandbox, spec).await.unwrap();
    id
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_out_as_it_was() {
    let Some(world) = world("a_tree_goes_in_and_comes_out").await else { return };
    let sandbox = world.sandbox("box").await;
    let id = start(&world, &sandbox, world.spec("box", &["sleep", "1000"])).await;
    let root = CopyRoot::Running(id.clone());
    let long = "l".repeat(90);
    let tree = archive(&[
        ("tree/", tar::EntryType::Directory, b""),
        ("tree/file", tar::EntryType::Regular, b"content\n"),
        ("tree/same", tar::EntryType::Link, b"tree/file"),
        ("tree/link", tar::EntryType::Symlink, b"file"),
        ("tree/made/on/the/way", tar::EntryType::Regular, b"x"),
        (&long, tar::EntryType::Regular, b"long"),
    ]);
    world.engine.copy_in(&root, "/tmp", stream(tree.clone()), CopyOwner::Archive).await.unwrap();
    let seen = ask(
        &world,
        &id,
        "cd /tmp/tree; busybox stat -c '%n %a %u %g %Y %h' file; busybox readlink link; \
        cat same made/on/the/way; busybox stat -c '%u %a' made",
    )
    .await;
    assert_eq!(seen, "file 640 11 22 1000000 2\nfile\ncontent\nx0 755\n");

    // Again, onto what is there; as root's this time.
    world.engine.copy_in(&root, "/tmp", stream(tree), CopyOwner::Root).await.unwrap();
    assert_eq!(ask(&world, &id, "busybox stat -c %u /tmp/tree/file").await, "0\n");

    let stat = world.engine.stat_file(&root, "/tmp/tree/link", FollowLink::No).await.unwrap();
    assert_eq!((stat.kind, stat.link_target.as_deref()), (FileKind::Link, Some("file")));
    let stat = world.engine.stat_file(&root, "/tmp/tree/link", FollowLink::Yes).await.unwrap();
    assert_eq!((stat.kind, stat.bytes), (FileKind::File, 8));

    let (stat, out) = world.engine.copy_out(&root, "/tmp/tree", FollowLink::No).await.unwrap();
    assert_eq!((stat.kind, stat.name.as_str()), (FileKind::Directory, "tree"));
    let out = read_all(out).await.unwrap();
    let mut seen = Vec::new();
    for entry in tar::Archive::new(out.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        seen.push((path, entry.header().entry_type(), content));
    }
    let paths: Vec<&str> = seen.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "tree/",
            "tree/file",
            "tree/link",
            "tree/made/",
            "tree/made/on/",
            "tree/made/on/the/",
            "tree/made/on/the/way",
            "tree/same"
        ]
    );
    assert_eq!(seen[1].2, "content\n");
    assert_eq!((seen[2].1, seen[7].1), (tar::EntryType::Symlink, tar::EntryType::Link));

    for (path, text) in [("/nope", "no such file"), ("/tmp/tree/file/x", "not a directory")] {
        match world.engine.stat_file(&root, path, FollowLink::No).await {
            Err(EngineError::NoPath { message, .. }) => assert!(message.contains(text), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    world.end().await;
}

#[tokio::test]
async fn no_link_of_a_container_leads_a_copy_out_of_it() {
    let Some(world) = world("no_link_of_a_container").await else { return };
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "the host's").unwrap();
    let sandbox = world.sandbox("box").await;
    let target = outside.path().display();
    // The name is a directory, then a link to the host's path, then again, as fast as it goes.
    let script = format!(
        "mkdir -p /tmp/a/real; busybox ln -s {target} /tmp/host; busybox ln -s /proc/1/root /tmp/magic; \
         busybox ln -s ../../../../../../../..{target} /tmp/up; echo ready; \
         while true; do busybox mv /tmp/a/real /tmp/a/x; busybox mv /tmp/a/x /tmp/a/real; \
         busybox ln -s {target} /tmp/a/x; busybox rm /tmp/a/x; done"
    );
    let id = start(&world, &sandbox, world.sh("box", &script)).await;
    eventually("it is ready", async || ask(&world, &id, "busybox ls /tmp").await.contains("up"))
        .await
        .unwrap();
    let root = CopyRoot::Running(id.clone());
    for path in ["/tmp/host/secret", "/tmp/up/secret", "/tmp/magic/etc", "/proc/1/root", "/proc/1/cwd"] {
        let Ok((stat, out)) = world.engine.copy_out(&root, path, FollowLink::Yes).await else { continue };
        // A magic link may be looked at, and is not followed.
        let bytes = read_all(out).await.unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("the host's"), "{path}: {stat:?}");
    }
    for round in 0..150 {
        let name = format!("x/pwned{round}");
        let tree = archive(&[(&name, tar::EntryType::Regular, b"pwned")]);
        // It may fail as the names change; it may not land outside.
        let _ = world.engine.copy_in(&root, "/tmp/a", stream(tree), CopyOwner::Root).await;
        let _ = world
            .engine
            .copy_in(
                &root,
                "/tmp/up",
                stream(archive(&[("y", tar::EntryType::Regular, b"")])),
                CopyOwner::Root,
            )
            .await;
    }
    let left: Vec<_> =
        std::fs::read_dir(outside.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["secret"]);
    world.end().await;
}

#[tokio::test]
async fn a_hostile_archive_is_refused_by_name() {
    let Some(world) = world("a_hostile_archive").await else { return };
    let sandbox = world.sandbox("box").await;
    let id = start(&world, &sandbox, world.spec("box", &["sleep", "1000"])).await;
    let root = CopyRoot::Running(id.clone());
    let cases: [(&[Entry<'_>], &str); 5] = [
        (&[("../up", tar::EntryType::Regular, b"")], "leads out"),
        (&[("dev", tar::EntryType::Block, b"")], "device"),
        (&[("l", tar::EntryType::Link, b"../../etc/passwd")], "leads out"),
        (&[("d/", tar::EntryType::Directory, b""), ("d", tar::EntryType::Regular, b"")], "cannot overwrite"),
        (&[("f", tar::EntryType::Regular, b""), ("f/", tar::EntryType::Directory, b"")], "cannot overwrite"),
    ];
    for (entries, text) in cases {
        let refused = world.engine.copy_in(&root, "/tmp", stream(archive(entries)), CopyOwner::Root).await;
        let error = refused.expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
    let torn = archive(&[("f2", tar::EntryType::Regular, &[b'x'; 5000])])[..1000].to_vec();
    assert!(world.engine.copy_in(&root, "/tmp", stream(torn), CopyOwner::Root).await.is_err());
    let nowhere = world.engine.copy_in(&root, "/nope", stream(archive(&[])), CopyOwner::Root).await;
    assert!(matches!(nowhere, Err(EngineError::NoPath { .. })), "{nowhere:?}");
    // A copy that nobody reads is ended with its reader.
    ask(&world, &id, "busybox dd if=/dev/zero of=/tmp/big bs=1M count=20 2>/dev/null").await;
    let (_, out) = world.engine.copy_out(&root, "/tmp/big", FollowLink::No).await.unwrap();
    drop(out);
    let copies = || std::fs::read_dir("/proc").unwrap().flatten().any(|entry| is_copy(&entry.path(), &world));
    eventually("the process that copies is gone", async || !copies()).await.unwrap();
    world.end().await;
}

fn is_copy(process: &Path, world: &World) -> bool {
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
    name.trim() == "wharf-copy"
        && String::from_utf8_lossy(&command).contains(&*world.config.dir.to_string_lossy())
}

#[tokio::test]
async fn a_kept_layer_goes_on_in_the_next_container_and_is_copied_while_none_runs() {
    let Some(world) = world("a_kept_layer_goes_on").await else { return };
    let sandbox = world.sandbox("box").await;
    let kept = |name: &str, script: &str| ContainerSpec {
        writable_layer: WritableLayer::Kept(ContainerId::new("layer").unwrap()),
        ..world.sh(name, script)
    };
    world.run(&sandbox, kept("one", "echo first > /tmp/file; busybox rm /bin/date")).await;
    let spec = kept("two", "cat /tmp/file; busybox test -e /bin/date || echo gone; sleep 1000");
    let stopped = CopyRoot::Stopped { sandbox: sandbox.clone(), spec: Box::new(spec.clone()) };
    let (_, out) = world.engine.copy_out(&stopped, "/tmp/file", FollowLink::No).await.unwrap();
    assert!(String::from_utf8_lossy(&read_all(out).await.unwrap()).contains("first\n"));
    let tree = archive(&[("file", tar::EntryType::Regular, b"second\n")]);
    world.engine.copy_in(&stopped, "/tmp", stream(tree), CopyOwner::Root).await.unwrap();
    let id = start(&world, &sandbox, spec).await;
    let said = || async {
        let chunk = world.engine.read_log(&id, 0, 4096).await.unwrap();
        chunk
            .records
            .iter()
            .map(|record| String::from_utf8_lossy(&record.text).into_owned())
            .collect::<Vec<_>>()
    };
    eventually("it reads what was copied", async || said().await == ["second", "gone"]).await.unwrap();
    let refused = world.engine.stat_file(&stopped, "/tmp", FollowLink::No).await;
    assert!(matches!(refused, Err(EngineError::Conflict { .. })), "{refused:?}");

    world.engine.remove_container(&id).await.expect_err("it runs");
    world.engine.kill_container(&id, wharf_engine::Signal::KILL).await.unwrap();
    world.exit_of(&id).await;
    world.engine.remove_container(&id).await.unwrap();
    world.engine.remove_container(&id).await.unwrap();
    assert!(matches!(world.engine.status(&id).await, Err(EngineError::NoContainer(_))));
    assert!(matches!(world.engine.read_log(&id, 0, 100).await, Err(EngineError::NoContainer(_))));
    world.end().await;
}

#[tokio::test]
async fn owners_are_the_containers_in_a_sandbox_with_users_of_its_own() {
    let Some(world) = world("owners_are_the_containers").await else { return };
    let spec = SandboxSpec { users: Users::Private, ..sandbox_spec("private") };
    let sandbox = spec.id.clone();
    world.engine.create_sandbox(spec).await.unwrap();
    let id = start(&world, &sandbox, world.spec("private", &["sleep", "1000"])).await;
    let root = CopyRoot::Running(id.clone());
    let tree = archive(&[("file", tar::EntryType::Regular, b"mine")]);
    world.engine.copy_in(&root, "/tmp", stream(tree.clone()), CopyOwner::Archive).await.unwrap();
    world.engine.copy_in(&root, "/", stream(tree), CopyOwner::Root).await.unwrap();
    let seen =
        ask(&world, &id, "busybox stat -c '%u %g' /tmp/file /file; busybox id -u; cat /proc/self/uid_map")
            .await;
    assert!(seen.starts_with("11 22\n0 0\n0\n"), "{seen}");
    let (_, out) = world.engine.copy_out(&root, "/tmp/file", FollowLink::No).await.unwrap();
    let out = read_all(out).await.unwrap();
    let mut tar = tar::Archive::new(out.as_slice());
    let entry = tar.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (11, 22));
    // A program beside it is as little as the container's own.
    let outside = world.engine.processes(&id).await.unwrap();
    assert!(outside.iter().all(|process| process.uid != 0), "{outside:?}");
    world.end().await;
}
