//! What the keeper waits for.

use rustix::event::epoll::EventData;
use wharf_engine::log::Stream;

use super::ContainerNumber;
use super::clients::ClientId;
use super::sessions::SessionNumber;

/// What a descriptor in the epoll set is.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Listener,
    Client(ClientId),
    Spawner(usize),
    Process(ContainerNumber),
    Output(ContainerNumber, Stream),
    Supervisor,
    ProbeOutput(ContainerNumber),
    Storage,
    Report(SessionNumber),
    SessionProcess(SessionNumber),
    Terminal(ContainerNumber),
}

impl Source {
    const KIND_SHIFT: u32 = 56;

    pub(super) fn data(self) -> EventData {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Client(id) => (1, id),
            Self::Spawner(index) => (2, index as u64),
            Self::Process(number) => (3, number),
            Self::Output(number, Stream::Stdout) => (4, number),
            Self::Output(number, Stream::Stderr) => (5, number),
            Self::Supervisor => (6, 0),
            Self::ProbeOutput(number) => (20, number),
            Self::Storage => (21, 0),
            Self::Report(number) => (7, number),
            Self::SessionProcess(number) => (8, number),
            Self::Terminal(number) => (9, number),
        };
        EventData::new_u64((kind << Self::KIND_SHIFT) | number)
    }

    pub(super) fn from_data(data: EventData) -> Option<Self> {
        let data = data.u64();
        let number = data & ((1 << Self::KIND_SHIFT) - 1);
        Some(match data >> Self::KIND_SHIFT {
            0 => Self::Listener,
            1 => Self::Client(number),
            2 => Self::Spawner(usize::try_from(number).ok()?),
            3 => Self::Process(number),
            4 => Self::Output(number, Stream::Stdout),
            5 => Self::Output(number, Stream::Stderr),
            6 => Self::Supervisor,
            20 => Self::ProbeOutput(number),
            21 => Self::Storage,
            7 => Self::Report(number),
            8 => Self::SessionProcess(number),
            9 => Self::Terminal(number),
            _ => return None,
        })
    }
}
