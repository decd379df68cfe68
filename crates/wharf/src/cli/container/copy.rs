//! `wharf cp`: files between this machine and a container, by the rules of `docker cp`.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use wharf_engine::copy::{CopyOwner, FileKind, FileStat, FollowLink};

use super::refuse;
use crate::admin::client::Client;
use crate::admin::containers::{Call, CopyInCall, CopyOutCall};
use crate::cli::DataDir;
use crate::failure::{Context as _, Failure, Result};

/// Chunks of an archive that wait.
const CHUNKS_QUEUED_MAX: usize = 8;
const CHUNK_BYTES: usize = 128 * 1024;

/// Copy files between this machine and a container
#[derive(Args)]
#[command(
    long_about = "Copy files between this machine and a container, running or not.\n\n\
                  A path that ends in `/.` stands for what is in the directory; `-` is an archive on stdin or stdout.",
    after_help = "Examples:\n  wharf cp web:/etc/nginx/nginx.conf .\n  wharf cp site/. web:/usr/share/nginx/html\n  \
                  wharf cp web:/var/log - | tar -tv"
)]
pub struct Options {
    /// CONTAINER:PATH, a path, or `-`
    source: String,
    /// CONTAINER:PATH, a path, or `-`
    target: String,
    /// Keep owners
    #[arg(long, short)]
    archive: bool,
    /// Follow the source when it is a link
    #[arg(long, short = 'L')]
    follow_link: bool,
    #[command(flatten)]
    data: DataDir,
}

/// `CONTAINER:PATH`; `None`: a path here. A colon behind a slash or a dot is part of a path.
fn in_container(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    let (container, path) = text.split_once(':')?;
    (!container.is_empty() && !container.contains('/')).then_some((container, path))
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let client = Client::new(&layout);
        match (in_container(&options.source), in_container(&options.target)) {
            (Some((container, path)), None) => copy_out(&client, container, path, options).await,
            (None, Some((container, path))) => copy_in(&client, container, path, options).await,
            (Some(_), Some(_)) => Err(refuse("copying between two containers is not done here")
                .hint("copy to this machine first, or pipe: `wharf cp a:/x - | wharf cp - b:/y`")),
            (None, None) => Err(refuse("one of the two must be in a container: CONTAINER:PATH")),
        }
    })
}

fn follow(options: &Options) -> FollowLink {
    if options.follow_link { FollowLink::Yes } else { FollowLink::No }
}

/// What is meant by a path that ends in `/.`: what is in the directory.
fn is_content(path: &str) -> bool {
    path.ends_with("/.") || path == "."
}

async fn copy_out(client: &Client<'_>, container: &str, path: &str, options: &Options) -> Result<()> {
    let path = if path.is_empty() { "/" } else { path };
    let call =
        CopyOutCall { container: container.to_owned(), path: path.to_owned(), follow: follow(options) };
    let (stat, mut body) = client.copy_out(&call).await?;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_QUEUED_MAX);
    let pump = async move {
        while let Some(frame) = body.frame().await {
            let chunk = frame.map_err(io::Error::other).map(|frame| frame.into_data().unwrap_or_default());
            let is_broken = chunk.is_err();
            if sender.send(chunk).await.is_err() || is_broken {
                return;
            }
        }
    };
    let target = options.target.clone();
    let (stat_of, is_content, keep) = (stat, is_content(path), options.archive);
    let unpack = tokio::task::spawn_blocking(move || {
        let reader = ChunkReader { chunks: receiver, rest: Bytes::new() };
        if target == "-" { pass_on(reader) } else { unpack(reader, &stat_of, &target, is_content, keep) }
    });
    let (_, unpacked) = tokio::join!(pump, unpack);
    unpacked.context(|| "the copy failed".to_owned())?
}

fn pass_on(mut reader: ChunkReader) -> Result<()> {
    let mut stdout = io::stdout().lock();
    io::copy(&mut reader, &mut stdout)
        .and_then(|_| stdout.flush())
        .context(|| "cannot pass the archive on".to_owned())
}

/// Where things go: into `target` when it is a directory, else to it.
fn unpack(reader: ChunkReader, stat: &FileStat, target: &str, is_content: bool, keep: bool) -> Result<()> {
    let path = Path::new(target);
    let is_directory = path.is_dir();
    if !is_directory && target.ends_with('/') && stat.kind != FileKind::Directory {
        return Err(Failure::new(format!("{target}: no such directory")));
    }
    if stat.kind == FileKind::Directory && path.is_file() {
        return Err(Failure::new(format!("cannot copy a directory onto the file {target}")));
    }
    // The archive's first component, and what it becomes.
    let (base, name) = if is_directory {
        let name = if is_content || stat.name == "/" { PathBuf::new() } else { PathBuf::from(&stat.name) };
        (path.to_owned(), name)
    } else {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(Failure::new(format!("{}: no such directory", parent.display())));
        }
        (parent.to_owned(), PathBuf::from(path.file_name().unwrap_or(path.as_os_str())))
    };
    let failed =
        |error: io::Error| Failure::new(format!("cannot unpack into {}", base.display())).because(&error);
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(keep);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let full = entry.path().map_err(failed)?.into_owned();
        let below: PathBuf = full.components().skip(1).collect();
        // Joined with nothing, a path would get a slash at its end, and stand for a directory.
        let mut to = base.clone();
        [&name, &below]
            .into_iter()
            .filter(|part| !part.as_os_str().is_empty())
            .for_each(|part| to.push(part));
        // The container made the names: none may lead up, or through a link that it made itself.
        let plain = name
            .join(&below)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
        if !plain || leads_through_link(&base.join(&name), &below) {
            return Err(Failure::new(format!(
                "the container's archive has {}, which leads out of it",
                full.display()
            )));
        }
        if matches!(
            entry.header().entry_type(),
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo
        ) {
            continue;
        }
        if entry.header().entry_type() == tar::EntryType::Link {
            // Its name is one of the archive.
            let link = entry.link_name().map_err(failed)?.unwrap_or_default().into_owned();
            let from: PathBuf = link.components().skip(1).collect();
            if leads_through_link(&base.join(&name), &from) || !is_plain(&from) {
                return Err(Failure::new(format!("the container's archive links to {}", link.display())));
            }
            let _ = std::fs::remove_file(&to);
            std::fs::hard_link(base.join(&name).join(from), &to).map_err(failed)?;
            continue;
        }
        if entry.header().entry_type() == tar::EntryType::Directory && to.is_dir() {
            continue;
        }
        entry.unpack(&to).map_err(failed)?;
    }
    // The rest, whose end tells whether it was whole.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map(drop).map_err(failed)
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Whether a directory on the way below `base` is a link.
fn leads_through_link(base: &Path, below: &Path) -> bool {
    let mut path = base.to_owned();
    let Some(parent) = below.parent() else { return false };
    parent.components().any(|part| {
        path.push(part);
        path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_symlink())
    })
}

async fn copy_in(client: &Client<'_>, container: &str, path: &str, options: &Options) -> Result<()> {
    let path = if path.is_empty() { "/" } else { path };
    let owner = if options.archive { CopyOwner::Archive } else { CopyOwner::Root };
    let (sender, archive) = mpsc::channel(CHUNKS_QUEUED_MAX);
    if options.source == "-" {
        tokio::task::spawn_blocking(move || read_archive(&sender));
        let call = CopyInCall { container: container.to_owned(), directory: path.to_owned(), owner };
        return client.copy_in(&call, archive).await;
    }
    let source = PathBuf::from(&options.source);
    let metadata = if options.follow_link { source.metadata() } else { source.symlink_metadata() };
    let metadata = metadata.context(|| format!("cannot read {}", source.display()))?;
    // What the target is decides where things go.
    let stat: Result<FileStat> = client
        .call(&Call::StatFile {
            container: container.to_owned(),
            path: path.to_owned(),
            follow: FollowLink::Yes,
        })
        .await;
    let is_directory = stat.as_ref().is_ok_and(|stat| stat.kind == FileKind::Directory);
    let trimmed = path.trim_end_matches('/');
    let (directory, name) = if is_directory {
        let own = source.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = if is_content(&options.source) { None } else { own };
        (path.to_owned(), name)
    } else {
        if stat.is_ok() && metadata.is_dir() {
            return Err(Failure::new(format!("cannot copy a directory onto the file {path}")));
        }
        if path.ends_with('/') && !metadata.is_dir() {
            return Err(Failure::new(format!("{container}:{path}: no such directory")));
        }
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or((".", trimmed));
        let parent = if parent.is_empty() { "/" } else { parent };
        (parent.to_owned(), Some(name.to_owned()))
    };
    let follow = options.follow_link;
    tokio::task::spawn_blocking(move || {
        let writer = ChunkWriter { chunks: sender.clone() };
        if let Err(error) = write_archive(writer, &source, name.as_deref(), follow) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let call = CopyInCall { container: container.to_owned(), directory, owner };
    client.copy_in(&call, archive).await
}

fn read_archive(to: &mpsc::Sender<io::Result<Bytes>>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = stdin.read(&mut chunk);
        let is_end = !matches!(read, Ok(length) if length > 0);
        let sent = match read {
            Ok(0) => return,
            Ok(length) => {
                chunk.truncate(length);
                to.blocking_send(Ok(Bytes::from(chunk)))
            }
            Err(error) => to.blocking_send(Err(error)),
        };
        if sent.is_err() || is_end {
            return;
        }
    }
}

/// The source under `name`, or what is in it.
fn write_archive(to: ChunkWriter, source: &Path, name: Option<&str>, follow: bool) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(CHUNK_BYTES, to));
    archive.follow_symlinks(false);
    let metadata = if follow { source.metadata()? } else { source.symlink_metadata()? };
    let name = name.unwrap_or(".");
    if metadata.is_dir() {
        archive.append_dir_all(name, source)?;
    } else if metadata.is_symlink() {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&metadata);
        archive.append_link(&mut header, name, std::fs::read_link(source)?)?;
    } else {
        archive.append_file(name, &mut std::fs::File::open(source)?)?;
    }
    archive.into_inner()?.flush()
}

struct ChunkWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

impl io::Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.chunks.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl io::Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_told_apart_from_a_path() {
        assert_eq!(in_container("web:/etc"), Some(("web", "/etc")));
        assert_eq!(in_container("web:"), Some(("web", "")));
        for path in ["/a:b", "./a:b", "a/b:c", "plain", ":x"] {
            assert_eq!(in_container(path), None, "{path}");
        }
    }
}
