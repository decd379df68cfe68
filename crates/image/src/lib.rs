//! Content store, snapshots and archives of OCI images
