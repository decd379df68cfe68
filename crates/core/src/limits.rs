//! Every bound of Wharf has a name, and it stands here, grouped by the room that keeps it.

use std::time::Duration;

/// The longest ARN that AWS's own services accept.
pub const ARN_BYTES_MAX: usize = 2048;
pub const REGION_BYTES_MAX: usize = 32;

// wire

/// The largest request body, above the largest body an implemented operation needs
/// (`logs:PutLogEvents`: 1 MiB of events, JSON-escaped).
pub const REQUEST_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How deep lists, maps and structures may nest in a body.
pub const REQUEST_DEPTH_MAX: usize = 64;
/// How far a signature's date may be from ours (SigV4: 15 minutes either way).
pub const SIGNATURE_SKEW_MAX: Duration = Duration::from_secs(15 * 60);
/// How long a presigned URL may live (SigV4 query form: seven days).
pub const PRESIGNED_LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take to send its request's head.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send its request's body.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(60);
