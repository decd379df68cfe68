//! Tells IAM who has called, for the last use of keys, users and roles.

use std::sync::Arc;

use wharf_contracts::{PrincipalUse, PrincipalUses};
use wharf_wire::{CallObserver, CallRecord};

/// Passes on every call whose caller is known.
pub struct UseObserver(pub Arc<dyn PrincipalUses>);

impl CallObserver for UseObserver {
    fn record(&self, call: &CallRecord<'_>) {
        if let (Some(principal), Some(access_key_id), Some(region)) =
            (call.principal, call.access_key_id, call.region)
        {
            self.0.used(&PrincipalUse {
                principal,
                access_key_id,
                service: call.service,
                region,
                at: call.at,
            });
        }
    }
}
