//! The terminal that a command was started on: raw while a session has it, and always put back.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios};
use wharf_containers::config::Size;

use super::refuse;
use crate::failure::{Failure, Result};

/// How the terminal was before; put back by whoever comes first: the guard, or a panic.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps the terminal raw as long as it lives.
pub struct Raw(());

impl Raw {
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = rustix::termios::tcgetattr(stdin.as_fd()).map_err(|error| {
            refuse("cannot read the terminal's mode").because(&std::io::Error::from(error))
        })?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            put_back();
            earlier(panic);
        }));
        rustix::termios::tcsetattr(stdin.as_fd(), OptionalActions::Drain, &raw)
            .map_err(|error| refuse("cannot make the terminal raw").because(&std::io::Error::from(error)))?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        put_back();
    }
}

fn put_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        let _ = rustix::termios::tcsetattr(std::io::stdin().as_fd(), OptionalActions::Drain, &before);
        let _ = std::io::stdout().flush();
    }
}

/// Of the terminal that is written to, if it is one.
pub fn size() -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout().as_fd())
        .or_else(|_| rustix::termios::tcgetwinsize(std::io::stdin().as_fd()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(Size { rows: size.ws_row, columns: size.ws_col })
}

pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// As Docker refuses it.
pub fn no_terminal() -> Failure {
    refuse("the input device is not a TTY").hint("leave `-t` out when the input is a pipe or a file")
}

/// Keys that leave a session without ending it.
pub struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

/// What typed bytes come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// To be passed on.
    Bytes(Vec<u8>),
    /// These before the keys, which are not passed on.
    Detach(Vec<u8>),
}

impl DetachKeys {
    /// From `ctrl-p,ctrl-q`, `a`, `ctrl-@`, …: keys, separated by commas. Empty: none.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let key = |name: &str| -> Option<u8> {
            let mut letters = name.chars();
            match (letters.next(), letters.next()) {
                (Some(letter), None) if letter.is_ascii() => return Some(letter as u8),
                _ => {}
            }
            let mut rest = name.strip_prefix("ctrl-")?.chars();
            match (rest.next()?, rest.next()) {
                (letter @ ('a'..='z' | 'A'..='Z' | '@' | '[' | '\\' | ']' | '^' | '_'), None) => {
                    Some(letter.to_ascii_uppercase() as u8 & 0x1f)
                }
                _ => None,
            }
        };
        let keys = text
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| {
                key(name).ok_or_else(|| format!("{name:?} is no key: it is a letter, or ctrl- and a letter"))
            })
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { keys, seen: 0 })
    }

    /// Keys that may be the beginning are held back until the next one tells.
    pub fn typed(&mut self, bytes: &[u8]) -> Typed {
        if self.keys.is_empty() {
            return Typed::Bytes(bytes.to_vec());
        }
        let mut pass = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == self.keys[self.seen] {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    self.seen = 0;
                    return Typed::Detach(pass);
                }
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.seen]);
            self.seen = 0;
            if byte == self.keys[0] && self.keys.len() > 1 {
                self.seen = 1;
            } else {
                pass.push(byte);
            }
        }
        Typed::Bytes(pass)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_keys_leave_and_half_of_them_is_passed_on() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys.typed(b"ab"), Typed::Bytes(b"ab".to_vec()));
        assert_eq!(keys.typed(&[16]), Typed::Bytes(Vec::new()));
        assert_eq!(keys.typed(b"x"), Typed::Bytes(vec![16, b'x']));
        assert_eq!(keys.typed(&[b'c', 16, 16, 17, b'd']), Typed::Detach(vec![b'c', 16]));
        assert!(DetachKeys::parse("ctrl-").is_err() && DetachKeys::parse("ctrl-1").is_err());
        assert_eq!(DetachKeys::parse("").unwrap().typed(&[16, 17]), Typed::Bytes(vec![16, 17]));
    }

    proptest! {
        #[test]
        fn nothing_typed_is_lost(pieces in prop::collection::vec(prop::collection::vec(0u8..20, 0..6), 0..12)) {
            let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
            let (mut typed, mut passed) = (Vec::new(), Vec::new());
            for piece in &pieces {
                typed.extend_from_slice(piece);
                match keys.typed(piece) {
                    Typed::Bytes(bytes) => passed.extend(bytes),
                    Typed::Detach(_) => return Ok(()),
                }
            }
            passed.extend_from_slice(&keys.keys[..keys.seen]);
            prop_assert_eq!(typed, passed);
        }
    }
}
