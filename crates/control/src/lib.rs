//! The reconciler driver: signals, timers, backoff, status
