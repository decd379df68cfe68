//! Compiled policies, kept for as long as the documents they were made of are the same.
//!
//! A document is known by the `Arc` that holds its text: it is kept beside what was compiled of it, so
//! its address cannot come to mean another one. What cannot be read is kept as unreadable: it denies.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use wharf_contracts::{Identity, IdentityPolicies, IdentityRef, Tags};
use wharf_core::{Principal, RequestContext};
use wharf_policy::{Kind, Policy};

/// Documents, principals and sessions that are kept. When there are more, all are forgotten: to
/// compile takes some tens of microseconds a document.
const DOCUMENTS_MAX: usize = 8192;
const ENTITIES_MAX: usize = 8192;
const SESSIONS_MAX: usize = 8192;

type Policies = Arc<[Arc<Policy>]>;

#[derive(Default)]
pub(crate) struct Compiled {
    documents: RwLock<HashMap<(usize, Kind), Document>>,
    entities: RwLock<HashMap<String, Arc<Entity>>>,
    /// By the digest of the session token.
    sessions: RwLock<HashMap<[u8; 32], Policies>>,
}

struct Document {
    /// Keeps the address taken.
    _text: Arc<str>,
    policy: Option<Arc<Policy>>,
}

/// A document that is stored and makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// A user's or a role's policies.
pub(crate) struct Entity {
    /// What it was made of.
    identity: Arc<Identity>,
    pub policies: Vec<Arc<Policy>>,
    pub boundary: Option<Arc<Policy>>,
    unreadable: Option<Unreadable>,
}

impl Entity {
    pub fn readable(&self) -> bool {
        self.unreadable.is_none()
    }

    pub fn tags(&self) -> &Tags {
        &self.identity.tags
    }
}

/// What narrows a session.
pub(crate) enum Session {
    /// Nothing does.
    Whole,
    Policies(Policies),
    Unreadable,
}

impl Session {
    pub fn policies(&self) -> Option<&[Arc<Policy>]> {
        match self {
            Self::Whole => None,
            Self::Policies(policies) => Some(policies),
            Self::Unreadable => Some(&[]),
        }
    }

    pub fn readable(&self) -> bool {
        !matches!(self, Self::Unreadable)
    }
}

impl Compiled {
    pub fn document(&self, kind: Kind, text: &Arc<str>) -> Result<Arc<Policy>, Unreadable> {
        let key = (text.as_ptr().addr(), kind);
        if let Some(document) = self.documents.read().get(&key) {
            return document.policy.clone().ok_or(Unreadable);
        }
        let policy = match Policy::parse(kind, text) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(error) => {
                tracing::error!(%error, "a stored policy cannot be read; whoever it applies to is denied");
                None
            }
        };
        let mut documents = self.documents.write();
        if documents.len() >= DOCUMENTS_MAX {
            documents.clear();
        }
        documents.insert(key, Document { _text: Arc::clone(text), policy: policy.clone() });
        policy.ok_or(Unreadable)
    }

    /// The caller's user or role. `None` for roots, and when there is none (any more).
    pub fn entity(&self, identities: &dyn IdentityPolicies, context: &RequestContext) -> Option<Arc<Entity>> {
        let session = context.session.as_ref();
        let (reference, id) = match &context.principal {
            Principal::User { account, id, .. } => (IdentityRef::User { account: *account, id }, &**id),
            Principal::AssumedRole { account, role_id, .. } => {
                (IdentityRef::Role { account: *account, id: role_id }, &**role_id)
            }
            Principal::FederatedUser { account, .. } => {
                let id = session?.issuer_id.as_str();
                (IdentityRef::User { account: *account, id }, id)
            }
            Principal::Root { .. } | Principal::Anonymous => return None,
        };
        let Some(identity) = identities.identity(reference) else {
            self.entities.write().remove(id);
            return None;
        };
        if let Some(entity) = self.entities.read().get(id)
            && Arc::ptr_eq(&entity.identity, &identity)
        {
            return Some(Arc::clone(entity));
        }
        let entity = Arc::new(self.compile(identity));
        let mut entities = self.entities.write();
        if entities.len() >= ENTITIES_MAX {
            entities.clear();
        }
        entities.insert(id.to_owned(), Arc::clone(&entity));
        Some(entity)
    }

    fn compile(&self, identity: Arc<Identity>) -> Entity {
        let mut unreadable = None;
        let mut compile = |text| match self.document(Kind::Identity, text) {
            Ok(policy) => Some(policy),
            Err(error) => {
                unreadable = Some(error);
                None
            }
        };
        let policies = identity.policies.iter().filter_map(|policy| compile(&policy.document)).collect();
        let boundary = identity.boundary.as_ref().and_then(|policy| compile(&policy.document));
        Entity { identity, policies, boundary, unreadable }
    }

    pub fn session(&self, identities: &dyn IdentityPolicies, context: &RequestContext) -> Session {
        let Some(session) = &context.session else { return Session::Whole };
        if session.policies.is_empty() && session.policy_arns.is_empty() {
            return match context.principal {
                // Without session policies it has no permissions (STS API Reference, GetFederationToken).
                Principal::FederatedUser { .. } => Session::Policies(Arc::new([])),
                _ => Session::Whole,
            };
        }
        let known = self.sessions.read().get(&session.token_digest).cloned();
        let inline = match known {
            Some(inline) => inline,
            None => {
                let inline: Option<Policies> = session
                    .policies
                    .iter()
                    .map(|text| Policy::parse(Kind::Identity, text).ok().map(Arc::new))
                    .collect();
                let Some(inline) = inline else { return Session::Unreadable };
                let mut sessions = self.sessions.write();
                if sessions.len() >= SESSIONS_MAX {
                    sessions.clear();
                }
                sessions.insert(session.token_digest, Arc::clone(&inline));
                inline
            }
        };
        if session.policy_arns.is_empty() {
            return Session::Policies(inline);
        }
        let mut policies = inline.to_vec();
        for arn in &session.policy_arns {
            // A policy that is gone allows nothing any more.
            let Some(policy) = identities.managed_policy(context.principal.account(), arn) else { continue };
            match self.document(Kind::Identity, &policy.document) {
                Ok(policy) => policies.push(policy),
                Err(Unreadable) => return Session::Unreadable,
            }
        }
        Session::Policies(policies.into())
    }
}
