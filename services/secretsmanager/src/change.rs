//! How a secret changes: every writer goes through here, so that labels, old versions and replicas
//! are looked after wherever a change comes from.

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::errors;
use wharf_state::Transaction;
use wharf_vault::Vault;

use crate::plan::id::SecretId;
use crate::plan::stages::{self, Aged, StageError, Stages};
use crate::records::{Role, Secret, Version};
use crate::sealing::{self, Value};
use crate::{find_to_change, replicate, usable};

/// How many versions a secret may have, of which all but the youngest hundred are younger than a day
/// or labelled.
const VERSIONS_MAX: usize = 1_000;

/// A secret that is being changed.
pub struct Change<'a, 'b> {
    pub transaction: &'a mut Transaction<'b>,
    pub context: &'a RequestContext,
    pub vault: &'a Vault,
    pub secret: Secret,
}

impl<'a, 'b> Change<'a, 'b> {
    /// Begins to change a secret that is neither marked for deletion nor a replica.
    ///
    /// # Errors
    /// When there is no such secret, or it may not be changed.
    pub fn begin(
        transaction: &'a mut Transaction<'b>,
        context: &'a RequestContext,
        vault: &'a Vault,
        id: &SecretId,
    ) -> Result<Self, ApiError> {
        let secret = find_to_change(transaction, context, id)?;
        usable(&secret)?;
        refuse_replica(&secret)?;
        Ok(Self { transaction, context, vault, secret })
    }

    pub fn versions(&self) -> Vec<Arc<Version>> {
        let prefix = Secret::versions_prefix(&self.secret.scope, &self.secret.name);
        self.transaction.prefix::<Version>(&prefix).collect()
    }

    pub fn version(&self, id: &str) -> Option<Arc<Version>> {
        let key = (self.secret.scope.clone(), self.secret.name.clone(), id.to_owned());
        self.transaction.get::<Version>(&key)
    }

    pub fn stages(&self) -> Stages {
        self.versions().into_iter().map(|version| (version.id.clone(), version.stages.clone())).collect()
    }

    /// Adds a version with labels; without any, it becomes the current one.
    ///
    /// # Errors
    /// When there are too many labels or versions.
    pub fn add_version(&mut self, id: &str, value: &Value, labels: &[String]) -> Result<(), ApiError> {
        if self.versions().len() >= VERSIONS_MAX {
            return Err(errors::limit_exceeded_exception(format!(
                "The secret has {VERSIONS_MAX} versions, the most that it may have."
            )));
        }
        let labels = stages::add_version(self.stages(), id, labels).map_err(stage_refused)?;
        let mut version = Version {
            scope: self.secret.scope.clone(),
            name: self.secret.name.clone(),
            id: id.to_owned(),
            suffix: self.secret.suffix.clone(),
            form: value.form,
            value: wharf_vault::Sealed::default(),
            key: self.secret.key.clone(),
            stages: labels.get(id).cloned().unwrap_or_default(),
            created_at: self.context.now,
            accessed_on: None,
        };
        version.value = sealing::seal(self.vault, &version, value);
        self.transaction.put(version);
        self.relabel(&labels);
        Ok(())
    }

    /// Gives the versions their labels and deletes those that nobody needs any more.
    pub fn relabel(&mut self, labels: &Stages) {
        use wharf_state::Record as _;
        for version in self.versions() {
            let wanted = labels.get(&version.id).cloned().unwrap_or_default();
            if version.stages != wanted {
                self.transaction.put(Version { stages: wanted, ..Version::clone(&version) });
            }
        }
        let aged = |version: Arc<Version>| Aged {
            id: version.id.clone(),
            created_at: version.created_at,
            labelled: !version.stages.is_empty(),
        };
        for id in stages::outdated(self.versions().into_iter().map(aged).collect(), self.context.now) {
            if let Some(version) = self.version(&id) {
                self.transaction.delete::<Version>(&version.key());
            }
        }
    }

    /// Writes the secret, and its replicas with it.
    ///
    /// # Errors
    /// When a value cannot be opened for a replica.
    pub fn finish(mut self) -> Result<Secret, ApiError> {
        self.secret.changed_at = self.context.now;
        replicate::sync(self.transaction, self.vault, &self.secret)?;
        self.transaction.put(self.secret.clone());
        Ok(self.secret)
    }
}

/// # Errors
/// For a secret that follows another one.
pub fn refuse_replica(secret: &Secret) -> Result<(), ApiError> {
    match secret.role {
        Role::Primary { .. } => Ok(()),
        Role::Replica { .. } => Err(errors::invalid_parameter_exception(
            "Operation not permitted on a replica secret. Call must be made in primary secret's region.",
        )),
    }
}

pub fn stage_refused(error: StageError) -> ApiError {
    match error {
        StageError::TooMany => errors::limit_exceeded_exception(format!(
            "A version can have at most {} staging labels.",
            stages::STAGES_MAX
        )),
        StageError::NoVersion(id) => {
            errors::invalid_parameter_exception(format!("Not a valid version: {id}"))
        }
        StageError::HeldBy { .. } | StageError::NotOn(_) | StageError::CurrentStays => {
            errors::invalid_parameter_exception(error.to_string())
        }
    }
}
