//! What IAM is asked for each operation.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for AWS Security Token
//! Service".

use std::sync::Arc;

use wharf_contracts::{AuthorizationTable, Entry, Required, ServiceAuthorization};

use crate::Sts;

const ENTRIES: &[Entry<Sts>] = &[
    // "No permissions are required to perform this operation" (API Reference).
    Entry::new("GetCallerIdentity", |_, _| Ok(Required::Nothing)),
];

/// The table, for the pipeline.
pub fn authorization(sts: &Arc<Sts>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_sts_api::MODEL, Arc::clone(sts), ENTRIES)
}
