//! What a role's trust policy says to somebody who has no AWS identity: who shows a token of an
//! identity provider, or a service. Such a caller belongs to no account, so that no other policy has a say.

use wharf_core::AccountId;
use wharf_policy::{Caller, Decision, Keys, Kind, Policy, PolicySet, Question, ResourceAccess, decide};

/// Who wants to assume the role.
pub(crate) enum Stranger<'a> {
    /// The ARN of an identity provider.
    Federated(&'a str),
    /// A service of AWS's, which Wharf is here: `ecs-tasks.amazonaws.com`.
    Service(&'a str),
}

pub(crate) struct Asked<'a> {
    pub role_arn: &'a str,
    pub owner: AccountId,
    pub trust_policy: &'a str,
    pub stranger: Stranger<'a>,
    pub keys: &'a Keys,
}

/// Whether the trust policy allows the first of `actions` and all others; the first that it does not.
///
/// # Errors
/// The action that is not allowed.
pub(crate) fn allows<'a>(asked: &Asked<'_>, actions: &[&'a str]) -> Result<(), &'a str> {
    let first = actions.first().copied().unwrap_or_default();
    // It was checked when it was stored; one that is not understood trusts nobody.
    let policy = Policy::parse(Kind::Trust, asked.trust_policy).map_err(|_| first)?;
    let caller = match asked.stranger {
        Stranger::Federated(provider) => Caller::Federated(provider.to_owned()),
        Stranger::Service(name) => Caller::Service(name.to_owned()),
    };
    let set = PolicySet {
        identity: Some(&[]),
        resource: Some((&policy, ResourceAccess::Gates)),
        ..PolicySet::default()
    };
    for action in actions {
        let question = Question {
            caller: &caller,
            action,
            resource: asked.role_arn,
            owner: Some(asked.owner),
            context: asked.keys,
        };
        if decide(&question, &set, None).decision != Decision::Allowed {
            return Err(action);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVIDER: &str = "arn:aws:iam::123456789012:oidc-provider/token.example.com";
    const ROLE: &str = "arn:aws:iam::123456789012:role/ci";

    fn ask(
        policy: &str,
        provider: &str,
        subject: &str,
        actions: &[&'static str],
    ) -> Result<(), &'static str> {
        let keys = Keys::new().with("token.example.com:sub", subject).with("token.example.com:aud", "sts");
        let asked = Asked {
            role_arn: ROLE,
            owner: "123456789012".parse().unwrap(),
            trust_policy: policy,
            stranger: Stranger::Federated(provider),
            keys: &keys,
        };
        allows(&asked, actions)
    }

    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/token.example.com"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringLike": {"token.example.com:sub": "repo:me/*"}}
    }]}"#;

    #[test]
    fn a_trust_policy_chooses_provider_subject_and_action() {
        const ASSUME: &str = "sts:AssumeRoleWithWebIdentity";
        assert_eq!(ask(POLICY, PROVIDER, "repo:me/app", &[ASSUME]), Ok(()));
        assert_eq!(ask(POLICY, PROVIDER, "repo:you/app", &[ASSUME]), Err(ASSUME));
        let other = "arn:aws:iam::123456789012:oidc-provider/other.example.com";
        assert_eq!(ask(POLICY, other, "repo:me/app", &[ASSUME]), Err(ASSUME));
        assert_eq!(ask(POLICY, PROVIDER, "repo:me/app", &[ASSUME, "sts:TagSession"]), Err("sts:TagSession"));
        assert_eq!(ask("{", PROVIDER, "repo:me/app", &[ASSUME]), Err(ASSUME));
    }

    #[test]
    fn an_explicit_deny_in_a_trust_policy_wins() {
        const ASSUME: &str = "sts:AssumeRoleWithWebIdentity";
        let denying = POLICY.replacen(
            "\"Statement\": [",
            r#""Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sts:*", "Condition": {"StringEquals": {"token.example.com:sub": "repo:me/bad"}}},"#,
            1,
        );
        let denying = denying.replace("\"sts:*\"", "\"sts:AssumeRoleWithWebIdentity\"");
        assert_eq!(ask(&denying, PROVIDER, "repo:me/app", &[ASSUME]), Ok(()));
        assert_eq!(ask(&denying, PROVIDER, "repo:me/bad", &[ASSUME]), Err(ASSUME));
    }
}
