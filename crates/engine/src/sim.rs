//! The deterministic fake.
