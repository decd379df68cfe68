//! What the rest of Wharf reads of IAM. Answers are made from the newest durable state and kept until
//! something changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::RwLock;
use wharf_contracts::{
    AccessKey, AccessKeys, Identity, IdentityPolicies, IdentityRef, KeyStatus, PolicySource, RoleFacts,
    Roles, Secret,
};
use wharf_core::{AccountId, Partition, Principal};
use wharf_state::Snapshot;

use crate::find::{self, Read as _};
use crate::records::{self, Account, Group, Policies, Role, Status, User};
use crate::{Iam, names};

/// How many identities are kept made.
const IDENTITIES_MAX: usize = 10_000;

/// The identities that were asked for since the last change.
#[derive(Default)]
pub struct Identities(RwLock<Made>);

/// `None` of an id: there is no such user or role.
type ById = HashMap<String, Option<Arc<Identity>>>;

#[derive(Default)]
struct Made {
    /// The revision of IAM that they show.
    revision: u64,
    by_owner: HashMap<(AccountId, Kind), ById>,
    count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    User,
    Role,
}

impl IdentityPolicies for Iam {
    fn identity(&self, identity: IdentityRef<'_>) -> Option<Arc<Identity>> {
        // Read before the snapshot: what is made of an older state is never kept under a newer number.
        let revision = self.revision.load(Ordering::Acquire);
        let (owner, id) = match identity {
            IdentityRef::User { account, id } => ((account, Kind::User), id),
            IdentityRef::Role { account, id } => ((account, Kind::Role), id),
        };
        {
            let made = self.identities.0.read();
            if made.revision == revision
                && let Some(found) = made.by_owner.get(&owner).and_then(|of| of.get(id))
            {
                return found.clone();
            }
        }
        let snapshot = self.store.snapshot();
        let key = (owner.0, id.to_owned());
        let found = match identity {
            IdentityRef::User { .. } => snapshot.get::<User>(&key).map(|user| of_user(&snapshot, &user)),
            IdentityRef::Role { .. } => snapshot.get::<Role>(&key).map(|role| of_role(&snapshot, &role)),
        };
        let found = found.map(Arc::new);
        let mut made = self.identities.0.write();
        if made.revision < revision || made.count >= IDENTITIES_MAX {
            *made = Made { revision, ..Made::default() };
        }
        if made.revision == revision {
            made.by_owner.entry(owner).or_default().insert(id.to_owned(), found.clone());
            made.count += 1;
        }
        found
    }

    fn managed_policy(&self, account: AccountId, arn: &str) -> Option<PolicySource> {
        let partition = arn.split(':').nth(1)?.parse::<Partition>().ok()?;
        let name = names::policy_of_arn(partition, arn)?;
        let policy = find::policy(&self.store.snapshot(), account, &name)?;
        Some(PolicySource { name: arn.into(), document: policy.document() })
    }
}

pub(crate) fn of_user(snapshot: &Snapshot, user: &User) -> Identity {
    let mut sources = sources(snapshot, user.account, "user", &user.name, &user.policies);
    for group in &user.groups {
        if let Some(group) = snapshot.get::<Group>(&(user.account, group.clone())) {
            sources.extend(self::sources(snapshot, user.account, "group", &group.name, &group.policies));
        }
    }
    Identity {
        account: user.account,
        id: user.id.clone(),
        path: user.path.clone(),
        name: user.name.clone(),
        tags: user.tags.clone(),
        policies: sources,
        boundary: boundary(snapshot, user.account, &user.policies),
    }
}

pub(crate) fn of_role(snapshot: &Snapshot, role: &Role) -> Identity {
    Identity {
        account: role.account,
        id: role.id.clone(),
        path: role.path.clone(),
        name: role.name.clone(),
        tags: role.tags.clone(),
        policies: sources(snapshot, role.account, "role", &role.name, &role.policies),
        boundary: boundary(snapshot, role.account, &role.policies),
    }
}

pub(crate) fn sources(
    snapshot: &Snapshot,
    account: AccountId,
    kind: &str,
    name: &str,
    policies: &Policies,
) -> Vec<PolicySource> {
    let inline = policies.inline.iter().map(|(policy, document)| PolicySource {
        name: format!("{kind}/{name}/{policy}").into(),
        document: Arc::clone(document),
    });
    let attached = policies.attached.iter().filter_map(|policy| managed(snapshot, account, policy));
    inline.chain(attached).collect()
}

fn boundary(snapshot: &Snapshot, account: AccountId, policies: &Policies) -> Option<PolicySource> {
    let name = policies.boundary.as_ref()?;
    // A boundary that cannot be read allows nothing.
    let none =
        || PolicySource { name: names::policy_arn(Partition::Aws, name).into(), document: NOTHING.into() };
    Some(managed(snapshot, account, name).unwrap_or_else(none))
}

/// A document that allows nothing.
const NOTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

fn managed(snapshot: &Snapshot, account: AccountId, name: &records::PolicyName) -> Option<PolicySource> {
    let policy = find::policy(snapshot, account, name)?;
    Some(PolicySource { name: names::policy_arn(Partition::Aws, name).into(), document: policy.document() })
}

impl AccessKeys for Iam {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let snapshot = self.store.snapshot();
        let key = snapshot.get::<records::AccessKey>(&access_key_id.to_owned())?;
        let principal = match &key.user {
            None => Principal::Root { account: key.account },
            Some(id) => {
                let user = snapshot.record::<User>(&(key.account, id.clone()))?;
                Principal::User {
                    account: key.account,
                    id: user.id.as_str().into(),
                    path: user.path.as_str().into(),
                    name: user.name.as_str().into(),
                }
            }
        };
        let secret = match self.access_key_secrets.unseal(access_key_id.as_bytes(), &key.sealed_secret) {
            Ok(secret) => String::from_utf8(secret.to_vec()).ok()?,
            Err(error) => {
                tracing::error!(access_key_id, %error, "the secret of an access key cannot be unsealed");
                return None;
            }
        };
        Some(AccessKey { principal, secret: Secret::Known(secret), status: status(key.status) })
    }

    fn built_in_key(&self, access_key_id: &str, account: AccountId) -> Option<KeyStatus> {
        let snapshot = self.store.snapshot();
        match snapshot
            .get::<Account>(&account)
            .as_ref()
            .and_then(|account| account.built_in_keys.get(access_key_id))
        {
            None => Some(KeyStatus::Active),
            Some(changed) => changed.map(status),
        }
    }
}

fn status(status: Status) -> KeyStatus {
    match status {
        Status::Active => KeyStatus::Active,
        Status::Inactive => KeyStatus::Inactive,
    }
}

impl Roles for Iam {
    fn role(&self, account: AccountId, name: &str) -> Option<RoleFacts> {
        let role: Arc<Role> = find::named(&self.store.snapshot(), account, name)?;
        Some(RoleFacts {
            account,
            id: role.id.clone(),
            path: role.path.clone(),
            name: role.name.clone(),
            trust_policy: Arc::clone(&role.trust_policy),
            max_session_duration: Duration::from_secs(u64::from(role.max_session_seconds)),
            tags: role.tags.clone(),
        })
    }
}
