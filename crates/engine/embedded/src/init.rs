//! The init of containers, as a file that can be executed and never written.
//!
//! It is carried inside this program (built from `init/main.rs`), and lives in a sealed memfd: what a
//! container opens as `/proc/1/exe` is no file of the host's, and no write to it can succeed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Made once, by the process that needs it first; its children inherit it.
#[derive(Debug, Default)]
pub struct InitProgram(OnceLock<OwnedFd>);

impl InitProgram {
    pub fn get(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(made) = self.0.get() {
            return Ok(made.as_fd());
        }
        let made = make()?;
        Ok(self.0.get_or_init(|| made).as_fd())
    }
}

fn make() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 every memfd could be executed.
    let file = match rustix::fs::memfd_create("wharf-init", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("wharf-init", flags)?,
        other => other?,
    };
    let mut rest = PROGRAM;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_program_cannot_be_written() {
        let program = InitProgram::default();
        let file = program.get().unwrap();
        assert_eq!(rustix::io::write(file, b"x").unwrap_err(), Errno::PERM);
        assert_eq!(rustix::fs::ftruncate(file, 0).unwrap_err(), Errno::PERM);
        assert!(rustix::fs::fcntl_add_seals(file, SealFlags::FUTURE_WRITE).is_err());
        assert_eq!(program.get().unwrap().as_raw_fd(), file.as_raw_fd());
    }

    #[test]
    fn it_is_small() {
        assert!(PROGRAM.len() < 4096, "{} bytes", PROGRAM.len());
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
    }
}
