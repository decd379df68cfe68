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
/// The request line and all headers together.
pub const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
pub const REQUEST_HEADERS_MAX: usize = 100;
/// How many calls may run at once in the process; the next one is told that the rate is exceeded.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1024;
/// How many bytes of request bodies may be in memory at once, over all connections.
pub const REQUEST_BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long requests that are under way may take to finish when the server stops.
pub const SERVER_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that Wharf's own client reads.
pub const CLIENT_RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

// image

/// The longest image name that is looked at: repository (255), tag (128), digest and separators.
pub const IMAGE_REFERENCE_BYTES_MAX: usize = 512;
/// The repository part of an image name (distribution's `NameTotalLengthMax`).
pub const IMAGE_REPOSITORY_BYTES_MAX: usize = 255;
/// Names that one content store keeps.
pub const IMAGE_REFERENCES_MAX: usize = 10_000;
/// The uncompressed size of an archive given to `load`.
pub const IMAGE_ARCHIVE_BYTES_MAX: u64 = 128 * 1024 * 1024 * 1024;
/// Files in an archive given to `load`.
pub const IMAGE_ARCHIVE_ENTRIES_MAX: u64 = 65_536;
/// Images that one archive may hold.
pub const IMAGE_ARCHIVE_IMAGES_MAX: usize = 1_000;
/// A manifest, index or configuration (registries refuse manifests above 4 MiB).
pub const IMAGE_DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How many layers an image may have; overlayfs itself stops at 500.
pub const IMAGE_LAYERS_MAX: usize = 256;
/// How deep an index may point to an index.
pub const IMAGE_INDEX_DEPTH_MAX: usize = 4;
/// What one layer may hold when unpacked.
pub const LAYER_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
pub const LAYER_ENTRIES_MAX: u64 = 2_000_000;
/// How deep directories may nest in a layer, so that removing the tree again stays cheap.
pub const LAYER_DEPTH_MAX: usize = 128;
/// How many times larger than its compressed form a stream may become, once it is beyond
/// [`COMPRESSION_FREE_BYTES`].
pub const COMPRESSION_RATIO_MAX: u64 = 200;
/// What a compressed stream may always expand to: small streams of zeros are no attack.
pub const COMPRESSION_FREE_BYTES: u64 = 256 * 1024 * 1024;
/// A name in a tar header, as Linux's `PATH_MAX`.
pub const TAR_NAME_BYTES_MAX: usize = 4096;
/// A block of extended tar headers (PAX).
pub const TAR_EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
