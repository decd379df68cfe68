//! A life of a container, again and again, with one call more that succeeds before one fails: for
//! want of space, descriptors or memory, or for a broken disk. `cargo test --features faults`.
//!
//! What must hold: the failure is told, nothing hangs or panics, the same is possible afterwards, and
//! nothing is left of either.

mod common;

use common::{Engine, Running};
use wharf_engine::{EngineError, SandboxId, SandboxResources};
use wharf_engine_embedded::faults;
use wharf_engine_embedded::spawner::Request;

/// A life has fewer calls that can fail.
const CALLS_MAX: i64 = 600;
/// Create, start, wait, clean, remove. Every step is tried, whatever became of the last.
fn life(engine: &Engine, name: &str) -> Vec<EngineError> {
    let limits = SandboxResources { memory_bytes: Some(64 << 20), pids_max: Some(20), ..Default::default() };
    let mut sandbox = common::sandbox(limits);
    sandbox.id = SandboxId::new(name).unwrap();
    let mut failures = Vec::new();
    failures.extend(engine.ask(&Request::CreateSandbox(sandbox.clone())).err());
    let spec = engine.shell("exit 3");
    match engine.begin(&sandbox, &spec) {
        Ok(running) => {
            assert_eq!(common::wait(&running), 3, "what started runs as if nothing had been");
            let Running { sandbox, container, .. } = running;
            failures.extend(engine.ask(&Request::CleanContainer { sandbox, container }).err());
        }
        Err(error) => failures.push(error),
    }
    failures.extend(engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).err());
    failures
}

fn campaign(error: i32) {
    // Before the spawner is forked, which shares it.
    faults::disarm();
    let Some(engine) = Engine::start() else { return };
    // Now the spawner is ready.
    assert!(life(&engine, "first").is_empty());
    let mut failed = 0;
    for calls in 0..CALLS_MAX {
        let name = format!("n{calls}");
        faults::arm(calls, error);
        let failures = life(&engine, &name);
        let is_over = faults::disarm();
        failed += u32::from(!failures.is_empty());
        // The same again, in the same place.
        let again = life(&engine, &name);
        assert!(again.is_empty(), "after a failure of call {calls}, {failures:?}: {again:?}");
        let directory = engine.directory.path().join("sandboxes").join(&name);
        assert!(!directory.exists(), "call {calls} leaves {}", directory.display());
        if is_over {
            break;
        }
    }
    assert!(failed > 50, "only {failed} failed");
    engine.finish();
}

/// One after another: they share what is armed.
#[test]
fn every_call_may_fail_for_every_reason() {
    for error in [libc::ENOSPC, libc::EMFILE, libc::ENOMEM, libc::EIO] {
        campaign(error);
    }
}
