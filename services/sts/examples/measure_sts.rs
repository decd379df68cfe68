//! What temporary credentials cost: `cargo run --release -p wharf-sts --example measure_sts`.
//!
//! Three figures: making credentials, knowing a session again that was seen lately (what a busy
//! client costs), and opening the token of one that was not.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "it measures and tells"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use wharf_contracts::{CredentialSource as _, Identity, IdentityPolicies, IdentityRef, PolicySource};
use wharf_core::{AccountId, Principal, Rng, Session, SessionOrigin, SystemRng, Timestamp};
use wharf_sts::token::{Issued, SessionTokens};
use wharf_vault::Vault;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const LATER: Timestamp = Timestamp::from_millis(1_795_003_600_000);
const ROUNDS: u32 = 20_000;
/// More than the cache holds, so that each is opened anew.
const MANY: usize = 4096;

/// IAM's look-up of a role is a read lock and two hash look-ups; here it is nothing.
struct Iam(Arc<Identity>);

impl IdentityPolicies for Iam {
    fn identity(&self, _identity: IdentityRef<'_>) -> Option<Arc<Identity>> {
        Some(Arc::clone(&self.0))
    }

    fn managed_policy(&self, _account: AccountId, _arn: &str) -> Option<PolicySource> {
        None
    }
}

fn main() {
    let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
    let identity = Arc::new(Identity {
        account: AccountId::DEFAULT,
        id: "AROA".to_owned(),
        path: "/".to_owned(),
        name: "role".to_owned(),
        tags: BTreeMap::new(),
        policies: Vec::new(),
        boundary: None,
    });
    let vault = Vault::ephemeral(Arc::clone(&rng));
    let tokens = SessionTokens::new(&vault, rng, Arc::new(Iam(identity)));
    let principal = Principal::AssumedRole {
        account: AccountId::DEFAULT,
        role_id: "AROAEXAMPLEEXAMPLE".into(),
        role_path: "/".into(),
        role_name: "deploy".into(),
        session_name: "session".into(),
    };
    let plain = session(Vec::new());
    let narrowed = session(vec![format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["ecs:List*","ecs:Describe*","logs:*"],"Resource":"*","Condition":{{"StringEquals":{{"aws:PrincipalTag/team":"{}"}}}}}}]}}"#,
        "blue"
    )]);
    for (name, session) in [("without policies", &plain), ("with a session policy", &narrowed)] {
        measure(name, &tokens, &principal, session);
    }
}

fn session(policies: Vec<String>) -> Session {
    Session {
        issued_at: NOW,
        expires_at: LATER,
        origin: SessionOrigin::AssumeRole,
        issuer: "arn:aws:iam::000000000000:role/deploy".to_owned(),
        issuer_id: "AROAEXAMPLEEXAMPLE".to_owned(),
        policies,
        policy_arns: Vec::new(),
        tags: BTreeMap::new(),
        transitive_tag_keys: BTreeSet::new(),
        source_identity: None,
        federated_provider: None,
        federated_keys: BTreeMap::new(),
        mfa_at: None,
        token_digest: [0; 32],
    }
}

fn measure(name: &str, tokens: &SessionTokens, principal: &Principal, session: &Session) {
    let issue = || tokens.issue(principal, session, 0).expect("it fits");
    let verify = |issued: &Issued| {
        let known = tokens.credentials(&issued.access_key_id, Some(&issued.session_token), NOW);
        black_box(known).expect("it is good");
    };
    let one = issue();
    let many: Vec<Issued> = (0..MANY).map(|_| issue()).collect();
    println!("{name}: a token of {} bytes", one.session_token.len());
    report("making credentials", ROUNDS, |_| drop(black_box(issue())));
    report("a session seen lately", ROUNDS, |_| verify(&one));
    report("a session not seen lately", ROUNDS, |round| verify(&many[round as usize % MANY]));
}

fn report(what: &str, rounds: u32, mut work: impl FnMut(u32)) {
    let started = Instant::now();
    for round in 0..rounds {
        work(round);
    }
    println!("  {what}: {:.2} µs", started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
}
