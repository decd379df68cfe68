//! The service on a store in memory, and callers.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::future::Future;
use std::sync::Arc;

use wharf_core::{
    AccountId, ApiError, Clock as _, ManualClock, Principal, RequestContext, RequestId, Scope, SeededRng,
    Timestamp,
};
use wharf_iam::{Dependencies, Iam};
use wharf_iam_api::{Iam as _, types};
use wharf_state::{MemoryJournal, Store};
use wharf_vault::Vault;

pub const NOW: i64 = 1_700_000_000_000;
pub const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
pub const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

pub struct House {
    pub iam: Arc<Iam>,
    pub store: Store,
    pub clock: Arc<ManualClock>,
}

pub fn house() -> House {
    let store = wharf_iam::register(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW)));
    let rng = Arc::new(SeededRng::new(7));
    let iam = Iam::new(Dependencies {
        store: store.clone(),
        rng: rng.clone(),
        vault: Vault::ephemeral(rng),
        default_account: account(),
    });
    House { iam, store, clock }
}

pub fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

impl House {
    pub fn root(&self) -> RequestContext {
        self.of(Principal::Root { account: account() })
    }

    pub fn of(&self, principal: Principal) -> RequestContext {
        RequestContext {
            request_id: RequestId::random(&SeededRng::new(1)),
            scope: Scope { account: principal.account(), region: "eu-west-1".parse().unwrap() },
            principal,
            session: None,
            access_key_id: "test".into(),
            source_ip: [127, 0, 0, 1].into(),
            now: self.clock.now(),
        }
    }

    pub fn as_user(&self, user: &types::User) -> RequestContext {
        self.of(Principal::User {
            account: account(),
            id: user.user_id.as_str().into(),
            path: user.path.as_str().into(),
            name: user.user_name.as_str().into(),
        })
    }

    pub async fn user(&self, name: &str) -> types::User {
        let input = types::CreateUserRequest { user_name: name.into(), ..Default::default() };
        self.iam.create_user(&self.root(), input).await.unwrap().user.unwrap()
    }

    pub async fn group(&self, name: &str) {
        let input = types::CreateGroupRequest { group_name: name.into(), ..Default::default() };
        self.iam.create_group(&self.root(), input).await.unwrap();
    }

    pub async fn role(&self, name: &str) -> types::Role {
        let input = types::CreateRoleRequest {
            role_name: name.into(),
            assume_role_policy_document: TRUST.into(),
            ..Default::default()
        };
        self.iam.create_role(&self.root(), input).await.unwrap().role
    }

    pub async fn policy(&self, name: &str) -> String {
        let input = types::CreatePolicyRequest {
            policy_name: name.into(),
            policy_document: ALLOW_ALL.into(),
            ..Default::default()
        };
        self.iam.create_policy(&self.root(), input).await.unwrap().policy.unwrap().arn.unwrap()
    }
}

/// Checks the code and the words of a refusal.
pub async fn refused<T: std::fmt::Debug>(
    answer: impl Future<Output = Result<T, ApiError>>,
    code: &str,
    message: &str,
) {
    let error = answer.await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.message.as_str()), (code, message));
}
