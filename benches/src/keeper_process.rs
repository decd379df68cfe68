//! The keeper of the engine bench: the same as Wharf's.

use std::ffi::OsString;
use std::process::ExitCode;

pub fn run(arguments: Vec<OsString>) -> ExitCode {
    wharf_engine_keeper::main_from_args(arguments)
}
