//! IAM: users, groups, roles, policies, keys and what else an account has for identity. Global: the
//! records belong to an account and to no region; only the partition of an ARN follows from the
//! region that signed.
//!
//! # What is where
//!
//! - `records/` says what is stored and why under which keys.
//! - `handlers/` answers the operations, one file a resource.
//! - `directory` is what the rest of Wharf reads of it: the policies of a principal, the secret of a
//!   key, the trust policy of a role ([`wharf_contracts::IdentityPolicies`],
//!   [`wharf_contracts::AccessKeys`], [`wharf_contracts::Roles`]).
//! - `uses` notes when keys, users and roles were last used.
//! - `managed/` holds the policies of AWS, which are no records.
//!
//! Nothing here decides whether a request is allowed: that is the authorizer's, which reads the
//! directory. A secret access key and a private key are on disk sealed by the vault; a password is
//! there as a hash.
#![forbid(unsafe_code)]

mod authorization;
mod certificate;
mod describe;
mod directory;
mod document;
mod failures;
mod find;
mod handlers;
mod holder;
mod ids;
pub mod managed;
mod names;
mod pages;
mod password;
mod plan;
pub mod records;
mod tags;
mod uses;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use authorization::authorization;
use wharf_core::{AccountId, ApiError, Rng};
use wharf_state::{Builder, Store, TransactError, Transaction};
use wharf_vault::{DataKey, Vault};

/// Adds the tables of this service to a store.
pub fn register(builder: Builder) -> Builder {
    builder
        .table::<records::User>()
        .table::<records::Group>()
        .table::<records::Role>()
        .table::<records::Deletion>()
        .table::<records::Policy>()
        .table::<records::InstanceProfile>()
        .table::<records::AccessKey>()
        .table::<records::Account>()
        .table::<records::CredentialReport>()
        .table::<records::ServerCertificate>()
        .table::<records::UseRecord>()
        .table::<records::AccessJob>()
        .table::<records::OidcProvider>()
        .table::<records::SamlProvider>()
}

/// What the service stands on.
pub struct Dependencies {
    /// With the tables of [`register`].
    pub store: Store,
    /// Cryptographic: it draws secret access keys.
    pub rng: Arc<dyn Rng>,
    pub vault: Vault,
    /// The account whose root user has the key `test` out of the box.
    pub default_account: AccountId,
}

/// The service.
pub struct Iam {
    store: Store,
    rng: Arc<dyn Rng>,
    default_account: AccountId,
    access_key_secrets: DataKey,
    private_keys: DataKey,
    /// Grows whenever something may have changed.
    revision: AtomicU64,
    identities: directory::Identities,
    uses: uses::Uses,
    passwords: password::Hasher,
}

impl Iam {
    pub fn new(dependencies: Dependencies) -> Arc<Self> {
        let Dependencies { store, rng, vault, default_account } = dependencies;
        Arc::new(Self {
            store,
            rng,
            default_account,
            access_key_secrets: vault.data_key("iam.access-key", ""),
            private_keys: vault.data_key("iam.server-certificate", ""),
            revision: AtomicU64::new(1),
            identities: directory::Identities::default(),
            uses: uses::Uses::default(),
            passwords: password::Hasher::default(),
        })
    }

    /// Forgets what is in memory, once the store has been emptied: what is made of the emptied store
    /// from then on stays.
    pub fn forget(&self) {
        self.uses.clear();
        self.changed();
    }

    /// Every write of this service: the directory's answers are made anew afterwards.
    async fn change<T>(
        &self,
        closure: impl FnOnce(&mut Transaction<'_>) -> Result<T, ApiError> + Send,
    ) -> Result<T, ApiError> {
        let result = self.store.transact(closure).await;
        // What was refused has changed nothing; after any other failure nobody knows.
        if !matches!(result, Err(TransactError::Aborted(_))) {
            self.changed();
        }
        result.map_err(ApiError::from)
    }

    fn changed(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
    }
}
