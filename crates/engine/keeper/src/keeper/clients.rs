//! The control planes that are connected: usually one, two during an upgrade.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use wharf_engine::session::SessionEnd;
use wharf_engine::{EngineError, Event};

use crate::protocol::{
    Answer, Call, HAND_OVER, HAND_OVER_SINCE, HELLO_BYTES, ProtocolError, RequestNumber, Told, decode,
    decode_arguments, encode, hello, read_hello,
};

/// That are no sessions, or not yet.
pub const CLIENTS_MAX: usize = 256;
/// Bytes waiting for a client that does not read; events beyond are dropped, and it is told so.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests of one client in work; more are not read until some are answered.
const CALLS_MAX: usize = 4096;
const READ_BYTES: usize = 64 * 1024;
/// Descriptors that go with one answer.
pub const DESCRIPTORS_MAX: usize = 8;

pub type ClientId = u64;

/// Whom to answer.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub client: ClientId,
    pub number: RequestNumber,
}

struct Client {
    socket: OwnedFd,
    greeted: Greeted,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    calls: usize,
    /// Calls may be left in the inbox for want of room.
    full: bool,
    lagged: bool,
    /// Hears of its own session alone.
    kind: Kind,
    /// Go with the next bytes.
    descriptors: Vec<OwnedFd>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plane,
    Session,
}

#[derive(PartialEq, Eq)]
enum Greeted {
    NotYet,
    Yes,
    /// It is a newer program, and wants the keeper to end for it.
    AsSuccessor,
}

/// What became of a client after it was read from or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lives,
    Gone,
}

pub struct Clients {
    version: u32,
    clients: BTreeMap<ClientId, Client>,
    /// The command line of a newer program.
    successor: Option<Vec<OsString>>,
}

impl Clients {
    pub fn speaking(version: u32) -> Self {
        Self { version, clients: BTreeMap::new(), successor: None }
    }

    /// What a client wants to be started in this keeper's place.
    pub fn take_successor(&mut self) -> Option<Vec<OsString>> {
        self.successor.take()
    }

    /// Of those that are no sessions, or not yet.
    pub fn len(&self) -> usize {
        self.clients.values().filter(|client| client.kind == Kind::Plane).count()
    }

    /// From now on it hears of its own session alone.
    pub fn becomes_session(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.kind = Kind::Session;
        }
    }

    /// As [`Clients::reply`], with descriptors.
    pub fn reply_with(&mut self, to: Caller, result: Result<Answer, EngineError>, descriptors: Vec<OwnedFd>) {
        if let Some(client) = self.clients.get_mut(&to.client) {
            client.descriptors.extend(descriptors);
        }
        self.reply(to, result);
    }

    pub fn session_ended(&mut self, to: Caller, end: SessionEnd) {
        let Some(client) = self.clients.get_mut(&to.client) else { return };
        // Small, so it fits.
        let _ = encode(&Told::SessionEnded { number: to.number, end }, &mut client.outbox);
        self.flush(to.client);
    }

    /// A client that is slow is told once, and looks at all of it then.
    pub fn log_grew(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.outbox.is_empty() {
            // Small, so it fits.
            let _ = encode(&Told::LogGrew, &mut client.outbox);
            self.flush(id);
        } else {
            client.lagged = true;
        }
    }

    pub fn add(&mut self, id: ClientId, socket: OwnedFd) {
        let client = Client {
            socket,
            greeted: Greeted::NotYet,
            inbox: Vec::new(),
            outbox: hello(self.version).to_vec(),
            calls: 0,
            full: false,
            lagged: false,
            kind: Kind::Plane,
            descriptors: Vec::new(),
        };
        self.clients.insert(id, client);
        self.flush(id);
    }

    pub fn remove(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }

    /// Reads what is there and appends the calls in it to `calls`.
    pub fn read(&mut self, id: ClientId, calls: &mut Vec<Call>) -> Fate {
        let Some(client) = self.clients.get_mut(&id) else { return Fate::Gone };
        let mut fate = Fate::Lives;
        loop {
            let start = client.inbox.len();
            client.inbox.resize(start + READ_BYTES, 0);
            let received = rustix::net::recv(&client.socket, &mut client.inbox[start..], RecvFlags::DONTWAIT);
            let length = received.as_ref().map_or(0, |(length, _)| *length);
            client.inbox.truncate(start + length);
            match received {
                Ok((0, _)) => fate = Fate::Gone,
                Ok(_) => continue,
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Err(_) => fate = Fate::Gone,
            }
            break;
        }
        match client.parse(self.version, calls) {
            Ok(None) => fate,
            Ok(successor) => {
                self.successor = successor;
                fate
            }
            Err(error) => {
                super::daemon::note(&format!("a client is dismissed: {error}"));
                Fate::Gone
            }
        }
    }

    /// Takes the calls that were left in the inbox for want of room.
    pub fn parse_waiting(&mut self, id: ClientId, calls: &mut Vec<Call>) -> Fate {
        match self.clients.get_mut(&id).map(|client| client.parse(self.version, calls)) {
            Some(Ok(_)) => Fate::Lives,
            Some(Err(_)) | None => Fate::Gone,
        }
    }

    /// Answers a call. That the client has gone away is no error.
    pub fn reply(&mut self, to: Caller, result: Result<Answer, EngineError>) {
        let Some(client) = self.clients.get_mut(&to.client) else { return };
        client.calls = client.calls.saturating_sub(1);
        if encode(&Told::Reply { number: to.number, result }, &mut client.outbox).is_err() {
            let error =
                EngineError::Internal { message: "the answer is too large for one message".to_owned() };
            // Small, so it fits.
            let _ = encode(&Told::Reply { number: to.number, result: Err(error) }, &mut client.outbox);
        }
        self.flush(to.client);
    }

    /// The last word to every client.
    pub fn tell_shut_down(&mut self) {
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            if let Some(client) = self.clients.get_mut(&id) {
                // Small, so it fits.
                let _ = encode(&Told::ShutDown, &mut client.outbox);
            }
            self.flush(id);
        }
    }

    /// A client with calls in its inbox for which there is room again.
    pub fn with_room_again(&self) -> Option<ClientId> {
        self.clients.iter().find(|(_, client)| client.full && client.calls < CALLS_MAX).map(|(id, _)| *id)
    }

    pub fn tell_all(&mut self, event: &Event) {
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            let hears = |client: &&mut Client| client.greeted == Greeted::Yes && client.kind == Kind::Plane;
            let Some(client) = self.clients.get_mut(&id).filter(hears) else { continue };
            if client.lagged || client.outbox.len() > OUTBOX_BYTES_MAX {
                client.lagged = true;
                continue;
            }
            // An event is small.
            let _ = encode(&Told::Event(event.clone()), &mut client.outbox);
            self.flush(id);
        }
    }

    /// Writes what the socket takes. The rest goes when it is writable.
    pub fn flush(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        loop {
            if client.outbox.is_empty() {
                if !client.lagged {
                    break;
                }
                client.lagged = false;
                let _ = encode(&Told::Lagged, &mut client.outbox);
            }
            match client.send() {
                Ok(sent) => {
                    client.outbox.drain(..sent);
                }
                Err(Errno::INTR) => {}
                // A broken one is found by the next read.
                Err(_) => break,
            }
        }
        if client.outbox.is_empty() && client.outbox.capacity() > READ_BYTES {
            client.outbox = Vec::new();
        }
    }
}

impl Client {
    fn send(&mut self) -> rustix::io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if self.descriptors.is_empty() {
            return rustix::net::send(&self.socket, &self.outbox, flags);
        }
        let borrowed: Vec<BorrowedFd<'_>> = self.descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed[..borrowed.len().min(DESCRIPTORS_MAX)]));
        let sent = rustix::net::sendmsg(
            &self.socket,
            &[std::io::IoSlice::new(&self.outbox)],
            &mut ancillary,
            flags,
        )?;
        self.descriptors.clear();
        Ok(sent)
    }

    /// Returns the command line of a newer program, when this is one and it is complete.
    fn parse(&mut self, keeper: u32, calls: &mut Vec<Call>) -> Result<Option<Vec<OsString>>, ProtocolError> {
        let mut used = 0;
        if self.greeted == Greeted::NotYet {
            let Some(first) = self.inbox.first_chunk::<HELLO_BYTES>() else { return Ok(None) };
            let client = read_hello(*first)?;
            self.greeted = match client {
                HAND_OVER if keeper >= HAND_OVER_SINCE => Greeted::AsSuccessor,
                _ if client == keeper => Greeted::Yes,
                _ => return Err(ProtocolError::Version { keeper, client }),
            };
            used = HELLO_BYTES;
        }
        if self.greeted == Greeted::AsSuccessor {
            self.inbox.drain(..used);
            return decode_arguments(&self.inbox);
        }
        self.full = false;
        loop {
            if self.calls >= CALLS_MAX {
                self.full = true;
                break;
            }
            let Some((call, length)) = decode(&self.inbox[used..])? else { break };
            used += length;
            self.calls += 1;
            calls.push(call);
        }
        self.inbox.drain(..used);
        if self.inbox.is_empty() && self.inbox.capacity() >= READ_BYTES {
            self.inbox = Vec::new();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use wharf_core::Timestamp;
    use wharf_engine::{ContainerId, EventKind, SandboxId};

    use super::*;
    use crate::protocol::{PROTOCOL_VERSION, Request};

    fn connected() -> (Clients, OwnedFd) {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let mut clients = Clients::speaking(PROTOCOL_VERSION);
        clients.add(1, ours);
        rustix::net::send(&theirs, &hello(PROTOCOL_VERSION), SendFlags::empty()).unwrap();
        assert_eq!(clients.read(1, &mut Vec::new()), Fate::Lives);
        (clients, theirs)
    }

    /// What the client reads until nothing more comes.
    fn read_all(clients: &mut Clients, theirs: &OwnedFd) -> Vec<Told> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        while let Ok((length, _)) = rustix::net::recv(theirs, &mut buffer[..], RecvFlags::DONTWAIT) {
            bytes.extend_from_slice(&buffer[..length]);
            clients.flush(1);
        }
        let mut rest = &bytes[HELLO_BYTES..];
        let mut told = Vec::new();
        while let Some((message, length)) = decode(rest).unwrap() {
            told.push(message);
            rest = &rest[length..];
        }
        told
    }

    #[test]
    fn a_client_that_does_not_read_costs_bounded_memory_and_is_told_of_the_gap() {
        let (mut clients, theirs) = connected();
        let event = |length| Event {
            at: Timestamp::from_millis(1),
            sandbox: SandboxId::new("s").unwrap(),
            container: ContainerId::new("c").unwrap(),
            kind: EventKind::Logged { length },
        };
        for length in 0..1_000_000 {
            clients.tell_all(&event(length));
        }
        assert!(clients.clients[&1].outbox.len() <= OUTBOX_BYTES_MAX + 1024);
        let told = read_all(&mut clients, &theirs);
        assert!(matches!(told.last(), Some(Told::Lagged)));
        let events = told.iter().filter(|message| matches!(message, Told::Event(_))).count();
        assert!((1..1_000_000).contains(&events));
        clients.tell_all(&event(7));
        let (length, _) = rustix::net::recv(&theirs, &mut [0u8; 100][..], RecvFlags::DONTWAIT).unwrap();
        assert!(length > 0, "events come again");
    }

    #[test]
    fn calls_beyond_the_limit_wait_for_answers() {
        let (mut clients, theirs) = connected();
        let mut bytes = Vec::new();
        for number in 0..CALLS_MAX as u64 + 10 {
            encode(&Call { number, request: Request::List }, &mut bytes).unwrap();
        }
        rustix::net::send(&theirs, &bytes, SendFlags::empty()).unwrap();
        let mut calls = Vec::new();
        assert_eq!(clients.read(1, &mut calls), Fate::Lives);
        assert_eq!(calls.len(), CALLS_MAX);
        assert_eq!(clients.with_room_again(), None);
        clients.reply(Caller { client: 1, number: 0 }, Ok(Answer::Done));
        assert_eq!(clients.with_room_again(), Some(1));
        calls.clear();
        clients.parse_waiting(1, &mut calls);
        assert_eq!(calls.iter().map(|call| call.number).collect::<Vec<_>>(), [CALLS_MAX as u64]);
    }

    #[test]
    fn a_client_of_another_version_or_program_is_dismissed() {
        for opening in [*b"WHKP\x63\0\0\0", *b"GET / HT"] {
            let (ours, theirs) = rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::STREAM,
                rustix::net::SocketFlags::NONBLOCK,
                None,
            )
            .unwrap();
            let mut clients = Clients::speaking(PROTOCOL_VERSION);
            clients.add(1, ours);
            rustix::net::send(&theirs, &opening, SendFlags::empty()).unwrap();
            assert_eq!(clients.read(1, &mut Vec::new()), Fate::Gone);
        }
    }
}
