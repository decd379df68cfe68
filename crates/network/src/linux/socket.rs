//! A netlink socket: send a batch, read its acknowledgements, dump a table.
//!
//! A socket belongs for ever to the network namespace of the thread that opened it: whoever holds
//! it can change that namespace without entering it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::message::{Answer, Batch, NLM_F_ACK, NLM_F_DUMP, answers};

/// What the kernel puts in one datagram of a dump, at most.
const RECEIVE_BYTES: usize = 32 * 1024;
/// What an nftables transaction may have (32 MiB).
const TRANSACTION_BYTES: usize = 32 << 20;
/// How long the kernel may think about one request; it answers in the call itself, so this is
/// reached only when an answer was lost.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A request that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{purpose}: {}", io::Error::from_raw_os_error(errno.raw_os_error()))]
pub struct Refusal {
    /// The request, such as `set the address`.
    pub purpose: &'static str,
    pub errno: Errno,
}

#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
}

impl NetlinkSocket {
    /// Routes, links, addresses and neighbours of the calling thread's namespace.
    pub fn route() -> Result<Self, Refusal> {
        // NETLINK_ROUTE is protocol 0.
        Self::open(None)
    }

    /// nftables of the calling thread's namespace.
    pub fn netfilter() -> Result<Self, Refusal> {
        let socket = Self::open(Some(netlink::NETFILTER))?;
        // A transaction is one datagram, and the rules of a thousand tasks are one transaction.
        sockopt::set_socket_send_buffer_size_force(&socket.fd, TRANSACTION_BYTES)
            .map_err(|errno| Refusal { purpose: "widen a netlink socket", errno })?;
        Ok(socket)
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> Result<Self, Refusal> {
        let refused = |errno| Refusal { purpose: "open a netlink socket", errno };
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
                .map_err(refused)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT)).map_err(refused)?;
        Ok(Self { fd })
    }

    /// Sends the batch and waits until every request is acknowledged.
    ///
    /// # Errors
    /// The first refusal. The other requests may have been carried out.
    pub fn execute(&self, batch: &Batch) -> Result<(), Refusal> {
        self.execute_each(batch)?.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    /// As [`NetlinkSocket::execute`], with the fate of each acknowledged request.
    pub fn execute_each(&self, batch: &Batch) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.send(batch)?;
        let expected: Vec<u32> = requests_with_ack(batch);
        let mut fates = vec![None; expected.len()];
        let mut buffer = vec![0; RECEIVE_BYTES];
        while fates.iter().any(Option::is_none) {
            let received = self.receive(&mut buffer, batch)?;
            for answer in answers(&buffer[..received]) {
                if answer.kind != NLMSG_ERROR || answer.payload.len() < 4 {
                    continue;
                }
                let errno = error_of(answer.payload);
                let purpose = batch.purposes().get(answer.sequence as usize).copied().unwrap_or("netlink");
                match expected.iter().position(|&sequence| sequence == answer.sequence) {
                    Some(index) => {
                        fates[index]
                            .get_or_insert(errno.map_or(Ok(()), |errno| Err(Refusal { purpose, errno })));
                    }
                    // An error about something that is never acknowledged ends the batch: the
                    // kernel sends nothing further for it.
                    None => {
                        if let Some(errno) = errno {
                            return Err(Refusal { purpose, errno });
                        }
                    }
                }
            }
        }
        Ok(fates.into_iter().flatten().collect())
    }

    /// Sends an nftables transaction of which one request is acknowledged, behind all others:
    /// `last`. The errors of the others come before its acknowledgement.
    ///
    /// # Errors
    /// The first refusal. Nothing has been carried out then.
    pub fn execute_transaction(&self, batch: &Batch, last: u32) -> Result<(), Refusal> {
        self.send(batch)?;
        let mut refused = None;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let received = self.receive(&mut buffer, batch)?;
            for answer in answers(&buffer[..received]).filter(|answer| answer.kind == NLMSG_ERROR) {
                if let Some(errno) = error_of(answer.payload) {
                    let purpose =
                        batch.purposes().get(answer.sequence as usize).copied().unwrap_or("netlink");
                    refused.get_or_insert(Refusal { purpose, errno });
                }
                // An error about the beginning is one about the whole.
                if answer.sequence == last || answer.sequence == 0 {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends one dump request (the only one of the batch) and hands each answer to `each`.
    pub fn dump(&self, batch: &Batch, mut each: impl FnMut(Answer<'_>)) -> Result<(), Refusal> {
        self.send(batch)?;
        let purpose = batch.purposes().first().copied().unwrap_or("dump");
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let received = self.receive(&mut buffer, batch)?;
            for answer in answers(&buffer[..received]) {
                match answer.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return error_of(answer.payload)
                            .map_or(Ok(()), |errno| Err(Refusal { purpose, errno }));
                    }
                    _ => each(answer),
                }
            }
        }
    }

    fn send(&self, batch: &Batch) -> Result<(), Refusal> {
        let purpose = batch.purposes().first().copied().unwrap_or("netlink");
        rustix::net::send(&self.fd, batch.bytes(), SendFlags::empty())
            .map_err(|errno| Refusal { purpose, errno })?;
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8], batch: &Batch) -> Result<usize, Refusal> {
        let purpose = batch.purposes().first().copied().unwrap_or("netlink");
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((received, _)) => return Ok(received),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Refusal { purpose, errno }),
            }
        }
    }
}

/// The sequence numbers of the requests that ask for an acknowledgement.
fn requests_with_ack(batch: &Batch) -> Vec<u32> {
    let mut position = 0;
    answers(batch.bytes())
        .filter(|answer| {
            let flags = u16::from_ne_bytes([batch.bytes()[position + 6], batch.bytes()[position + 7]]);
            position += (answer.payload.len() + 16).next_multiple_of(4);
            flags & NLM_F_ACK != 0 && flags & NLM_F_DUMP != NLM_F_DUMP
        })
        .map(|answer| answer.sequence)
        .collect()
}

fn error_of(payload: &[u8]) -> Option<Errno> {
    let code = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    (code != 0).then(|| Errno::from_raw_os_error(-code))
}
