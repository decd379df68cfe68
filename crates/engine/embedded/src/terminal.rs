//! Terminals of containers: a master and slave of the container's own `/dev/pts`.
//!
//! The container may have put anything at `/dev/pts/ptmx`. What is opened there is taken for a
//! terminal only when the kernel says that it is one, and the slave is had from the master, not by
//! its name.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Gid, OFlags, Uid};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use wharf_engine::session::TerminalSize;

use crate::in_root::Root;
use crate::rootfs::{Context, Step};
use crate::sys;

const DEVPTS_MAGIC: i128 = 0x1cd1;
/// `/dev/ptmx`, Documentation/admin-guide/devices.txt.
const PTMX: (u32, u32) = (5, 2);
/// What is sent with a master's descriptor: a message must have a byte.
pub const MASTER_COMES: u8 = b'T';

pub struct Terminal {
    pub master: OwnedFd,
    slave: OwnedFd,
}

/// A new terminal in the container's `/dev/pts`, which belongs to `owner` (as the host counts).
pub fn open(root: &Root, size: TerminalSize, owner: (u32, u32)) -> Step<Terminal> {
    let master = root.open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY).step("open /dev/pts/ptmx")?;
    check(&master).step("open /dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).step("unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).step("open the terminal")?;
    set_size(&master, size).step("size the terminal")?;
    // The group stays `tty`, as devpts says.
    rustix::fs::fchown(&slave, Some(Uid::from_raw(owner.0)), None::<Gid>).step("give the terminal away")?;
    Ok(Terminal { master, slave })
}

fn check(master: &OwnedFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(master)?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let is_character_device = FileType::from_raw_mode(stat.st_mode).is_char_device();
    let filesystem = rustix::fs::fstatfs(master)?;
    if is_character_device && device == PTMX && i128::from(filesystem.f_type) == DEVPTS_MAGIC {
        return Ok(());
    }
    Err(io::Error::other("it is no terminal"))
}

pub fn set_size(terminal: impl AsFd, size: TerminalSize) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

impl Terminal {
    /// Makes it the controlling terminal and the standard streams of this process, which leads a new
    /// session.
    pub fn take(self) -> Step<()> {
        rustix::process::ioctl_tiocsctty(&self.slave).step("take the terminal")?;
        (0..=2)
            .try_for_each(|to| sys::place_descriptor(self.slave.as_fd(), to).step("place a standard stream"))
    }
}

/// For the way of a master from the process that opens it to the one that made the process.
pub fn master_sockets() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// The master that was sent, if it was.
pub fn receive_master(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(socket, &mut [io::IoSliceMut::new(&mut byte)], &mut ancillary, flags).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// Sends the master to whoever reads the other end.
pub fn send_master(socket: &OwnedFd, master: &OwnedFd) -> rustix::io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let masters = [master.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&masters));
    let bytes = [MASTER_COMES];
    rustix::net::sendmsg(socket, &[io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}
