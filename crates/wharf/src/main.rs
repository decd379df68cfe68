//! The `wharf` binary: the command line, and the wiring of concrete parts.
//!
//! This is the only crate that names concrete parts (`services.rs`, `platform.rs`); everything else
//! meets through traits. Nothing here decides anything about AWS's semantics.
#![forbid(unsafe_code)]

mod admin;
mod cli;
mod container_network;
mod credentials;
#[cfg(test)]
mod enforcement;
mod failure;
mod layout;
mod output;
mod platform;
mod services;
mod uses;
mod vault;
mod vpc_endpoint;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure);
            let code = failure.exit_code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}
