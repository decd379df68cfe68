//! Measures sealing, in CPU time of one thread: `cargo run --release -p wharf-vault --example measure_vault`.
#![expect(clippy::print_stdout, reason = "a measurement prints")]

use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use wharf_core::SystemRng;
use wharf_vault::Vault;

const ROUNDS: u32 = 20_000;

fn main() {
    let vault = Vault::ephemeral(Arc::new(SystemRng::new()));
    let data_key = vault.data_key("measure", "");
    for bytes in [64, 1024, 65_536] {
        let text = vec![7; bytes];
        let rounds = if bytes > 10_000 { ROUNDS / 20 } else { ROUNDS };
        let sealed = data_key.seal(b"place", &text);
        measure(&format!("seal {bytes} bytes, key at hand"), rounds, || {
            std::hint::black_box(data_key.seal(b"place", &text));
        });
        measure(&format!("unseal {bytes} bytes, key at hand"), rounds, || {
            std::hint::black_box(data_key.unseal(b"place", &sealed).is_ok());
        });
        measure(&format!("unseal {bytes} bytes, key derived"), rounds, || {
            std::hint::black_box(vault.unseal("measure", b"place", &sealed).is_ok());
        });
    }
}

fn measure(what: &str, rounds: u32, mut act: impl FnMut()) {
    let start = cpu_nanos();
    for _ in 0..rounds {
        act();
    }
    let nanos = (cpu_nanos() - start) / i64::from(rounds);
    println!("{what}: {:.2} µs", nanos as f64 / 1000.0);
}

fn cpu_nanos() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
