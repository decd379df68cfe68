//! The keeper of the engine bench: the same program as Wharf's.

use std::ffi::OsString;

pub fn run(arguments: Vec<OsString>) -> anyhow::Result<()> {
    wharf_engine_keeper::main_from_args(arguments).map_err(|error| anyhow::anyhow!("{error}"))
}
