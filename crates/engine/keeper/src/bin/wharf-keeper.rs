//! The keeper alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    wharf_engine_keeper::main_from_args(std::env::args_os().skip(1))
}
