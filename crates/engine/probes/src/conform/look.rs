//! How each expectation is looked at.
#![allow(unsafe_code, reason = "system calls that no library makes")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::Expectation;

/// `Err`: what is there instead.
type Met = Result<(), String>;

fn equal<T: PartialEq + std::fmt::Debug>(found: &T, wanted: &T) -> Met {
    if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
}

fn met(is: bool, found: impl FnOnce() -> String) -> Met {
    if is { Ok(()) } else { Err(found()) }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub fn effective_user() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() }
}

pub fn check(expectation: &Expectation) -> Met {
    match expectation {
        Expectation::Mount { at, kind, options, without } => mount(at, kind, options, without),
        Expectation::NoMount { at } => met(mount_line(at).is_none(), || format!("{:?}", mount_line(at))),
        Expectation::Device { path, major, minor, mode } => device(path, (*major, *minor), mode),
        Expectation::DevicesWork => devices_work(),
        Expectation::Link { path, to } => {
            equal(&fs::read_link(path).map_err(text)?.display().to_string(), to)
        }
        Expectation::Capabilities { effective, permitted, inheritable, bounding, ambient } => [
            ("CapEff", effective),
            ("CapPrm", permitted),
            ("CapInh", inheritable),
            ("CapBnd", bounding),
            ("CapAmb", ambient),
        ]
        .into_iter()
        .try_for_each(|(field, value)| status(field, value)),
        Expectation::Limit { name, soft, hard } => limit(name, *soft, *hard),
        Expectation::Environment { name, value } => equal(&std::env::var(name).map_err(text)?, value),
        Expectation::NoEnvironment { name } => {
            met(std::env::var_os(name).is_none(), || format!("{:?}", std::env::var_os(name)))
        }
        Expectation::HostName { name } => {
            equal(&fs::read_to_string("/proc/sys/kernel/hostname").map_err(text)?.trim_end().to_owned(), name)
        }
        Expectation::Content { path, contains } => {
            let found = fs::read_to_string(path).map_err(text)?;
            met(found.contains(contains.as_str()), || found.clone())
        }
        Expectation::Owner { path, uid, gid, mode } => {
            let of = fs::symlink_metadata(path).map_err(text)?;
            equal(&(of.uid(), of.gid()), &(*uid, *gid))?;
            match mode {
                Some(mode) => equal(&format!("{:o}", of.mode() & 0o7777), mode),
                None => Ok(()),
            }
        }
        Expectation::Identity { uid, gid, groups } => identity(*uid, *gid, groups),
        Expectation::WorkingDirectory { path } => {
            equal(&std::env::current_dir().map_err(text)?.display().to_string(), path)
        }
        Expectation::Arguments { count, last } => {
            let arguments: Vec<String> = std::env::args().collect();
            equal(&arguments.len(), count)?;
            equal(&arguments.last().cloned().unwrap_or_default(), last)
        }
        Expectation::Umask { mask } => status("Umask", &format!("{mask:0>4}")),
        Expectation::Status { field, value } => status(field, value),
        Expectation::ReadOnly { path } => match write_below(path) {
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => Ok(()),
            other => Err(format!("{other:?}")),
        },
        Expectation::Writable { path } => write_below(path).map_err(text),
        Expectation::Empty { path } => empty(path),
        Expectation::Pid { number } => equal(&std::process::id(), number),
        Expectation::Descriptors { numbers } => descriptors(numbers),
        Expectation::Terminal { present } => {
            // SAFETY: no preconditions.
            equal(&(unsafe { libc::isatty(0) } == 1), present)
        }
        Expectation::CgroupRoot => {
            let groups = fs::read_to_string("/proc/self/cgroup").map_err(text)?;
            met(groups.lines().all(|line| line.ends_with(":/")), || groups.clone())
        }
        Expectation::LoopbackUp => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(text)?;
            std::net::TcpStream::connect(listener.local_addr().map_err(text)?).map(drop).map_err(text)
        }
        Expectation::OrphansAreReaped => orphans_are_reaped(),
        Expectation::SetUserId { program, uid } => {
            let output = Command::new(program).arg("--effective-user").output().map_err(text)?;
            equal(&String::from_utf8_lossy(&output.stdout).trim_end().to_owned(), &uid.to_string())
        }
        Expectation::NotNamespace { name, of } => {
            let found = fs::read_link(format!("/proc/self/ns/{name}")).map_err(text)?.display().to_string();
            met(found != *of, || found.clone())
        }
        Expectation::SignalsWork => signals_work(),
        Expectation::SharedMemory { bytes } => shared_memory(*bytes),
        Expectation::PseudoTerminals => {
            let master = OpenOptions::new().read(true).write(true).open("/dev/ptmx").map_err(text)?;
            let kind = master.metadata().map_err(text)?.file_type();
            met(kind.is_char_device(), || format!("{kind:?}"))
        }
    }
}

/// Kind and options of the topmost mount at a path.
fn mount_line(at: &str) -> Option<(String, Vec<String>)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        let mut source = source.split(' ');
        let (kind, of_file_system) = (source.next()?.to_owned(), source.nth(1)?);
        let options = fields.get(5)?.split(',').chain(of_file_system.split(',')).map(str::to_owned);
        (*fields.get(4)? == at).then(|| (kind, options.collect()))
    };
    mounts.lines().filter_map(of).next_back()
}

fn mount(at: &str, kind: &str, options: &[String], without: &[String]) -> Met {
    let (found, has) = mount_line(at).ok_or("nothing is mounted there")?;
    equal(&found.as_str(), &kind)?;
    let right = options.iter().all(|option| has.contains(option))
        && !without.iter().any(|option| has.contains(option));
    met(right, || has.join(","))
}

fn device(path: &str, number: (u32, u32), mode: &str) -> Met {
    let of = fs::symlink_metadata(path).map_err(text)?;
    met(of.file_type().is_char_device() || of.file_type().is_block_device(), || {
        format!("{:?}", of.file_type())
    })?;
    equal(&(libc::major(of.rdev()), libc::minor(of.rdev())), &number)?;
    equal(&format!("{:o}", of.mode() & 0o7777), &mode.to_owned())
}

fn devices_work() -> Met {
    let mut buffer = [1u8; 16];
    let read =
        |path: &str, buffer: &mut [u8]| File::open(path).and_then(|mut file| file.read(buffer)).map_err(text);
    equal(&read("/dev/null", &mut buffer)?, &0)?;
    equal(&read("/dev/zero", &mut buffer)?, &16)?;
    equal(&buffer, &[0; 16])?;
    equal(&read("/dev/urandom", &mut buffer)?, &16)?;
    met(buffer != [0; 16], || "urandom gives zeros".to_owned())?;
    let full = OpenOptions::new().write(true).open("/dev/full").and_then(|mut file| file.write(b"x"));
    match full {
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn status(field: &str, value: &str) -> Met {
    let status = fs::read_to_string("/proc/self/status").map_err(text)?;
    let prefix = format!("{field}:");
    let line =
        status.lines().find_map(|line| line.strip_prefix(prefix.as_str())).ok_or("there is no such field")?;
    equal(&line.trim(), &value).map_err(|found| format!("{field} {found}"))
}

fn limit(name: &str, soft: u64, hard: u64) -> Met {
    let limits = fs::read_to_string("/proc/self/limits").map_err(text)?;
    let title = match name {
        "nofile" => "Max open files",
        "nproc" => "Max processes",
        "core" => "Max core file size",
        "stack" => "Max stack size",
        "memlock" => "Max locked memory",
        "fsize" => "Max file size",
        other => return Err(format!("the limit {other} is not known")),
    };
    let line = limits.lines().find_map(|line| line.strip_prefix(title)).ok_or("there is no such limit")?;
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let mut fields = line.split_whitespace();
    equal(&(number(fields.next()), number(fields.next())), &(soft, hard))
}

fn identity(uid: u32, gid: u32, groups: &[u32]) -> Met {
    let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
    status("Uid", &four(uid))?;
    status("Gid", &four(gid))?;
    let mut wanted = groups.to_vec();
    wanted.sort_unstable();
    let status = fs::read_to_string("/proc/self/status").map_err(text)?;
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    let mut found: Vec<u32> = line.split_whitespace().filter_map(|group| group.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    equal(&found, &wanted)
}

fn write_below(path: &str) -> std::io::Result<()> {
    if Path::new(path).is_dir() {
        let file = Path::new(path).join(".conform");
        fs::write(&file, "x")?;
        return fs::remove_file(file);
    }
    OpenOptions::new().write(true).open(path).map(drop)
}

fn empty(path: &str) -> Met {
    let Ok(of) = fs::metadata(path) else { return Ok(()) };
    if of.is_dir() {
        let entries = fs::read_dir(path).map_err(text)?.count();
        return equal(&entries, &0);
    }
    let mut byte = [0];
    equal(&File::open(path).and_then(|mut file| file.read(&mut byte)).unwrap_or(0), &0)
}

fn descriptors(numbers: &[i32]) -> Met {
    // SAFETY: asks alone.
    let open = (0..256).filter(|&number| unsafe { libc::fcntl(number, libc::F_GETFD) } != -1);
    equal(&open.collect::<Vec<i32>>(), &numbers.to_vec())
}

/// A child that leaves a grandchild behind, which ends at once; then it must be gone.
fn orphans_are_reaped() -> Met {
    const TRIES: usize = 500;
    let mut ends = [0; 2];
    // SAFETY: plain calls; the children do nothing but write and leave.
    unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return Err("no pipe".to_owned());
        }
        let child = libc::fork();
        if child == 0 {
            let orphan = libc::fork();
            if orphan > 0 {
                libc::write(ends[1], (&raw const orphan).cast(), 4);
            }
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
        let mut orphan = 0;
        libc::read(ends[0], (&raw mut orphan).cast(), 4);
        libc::close(ends[0]);
        libc::close(ends[1]);
        for _ in 0..TRIES {
            // As process 1 it is ours to reap.
            libc::waitpid(orphan, std::ptr::null_mut(), libc::WNOHANG);
            if libc::kill(orphan, 0) == -1 {
                return Ok(());
            }
            libc::poll(std::ptr::null_mut(), 0, 2);
        }
    }
    Err("it is still there".to_owned())
}

fn signals_work() -> Met {
    use std::sync::atomic::{AtomicBool, Ordering};
    static CAUGHT: AtomicBool = AtomicBool::new(false);
    extern "C" fn catch(_: libc::c_int) {
        CAUGHT.store(true, Ordering::Relaxed);
    }
    // SAFETY: the handler stores to an atomic alone; the child waits for its end.
    unsafe {
        libc::signal(libc::SIGUSR1, catch as *const () as libc::sighandler_t);
        libc::raise(libc::SIGUSR1);
        met(CAUGHT.load(Ordering::Relaxed), || "the handler did not run".to_owned())?;
        let child = libc::fork();
        if child == 0 {
            libc::pause();
            libc::_exit(0);
        }
        libc::kill(child, libc::SIGTERM);
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        met(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM, || format!("{status:#x}"))
    }
}

fn shared_memory(bytes: u64) -> Met {
    let path = Path::new("/dev/shm/.conform");
    fs::write(path, "x").map_err(text)?;
    fs::remove_file(path).map_err(text)?;
    // SAFETY: the structure outlives the call; the segment is removed at once.
    unsafe {
        let mut of: libc::statvfs = std::mem::zeroed();
        libc::statvfs(c"/dev/shm".as_ptr(), &raw mut of);
        equal(&(of.f_blocks * of.f_frsize), &bytes)?;
        let segment = libc::shmget(libc::IPC_PRIVATE, 4096, 0o600);
        met(segment != -1, || std::io::Error::last_os_error().to_string())?;
        libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut());
    }
    Ok(())
}
