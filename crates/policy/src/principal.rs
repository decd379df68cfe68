//! Who calls, and the `Principal` and `NotPrincipal` elements that may mean them.
//!
//! IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal".

use wharf_core::AccountId;

/// A caller, under all the names that a policy may mean it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    Root {
        account: AccountId,
        arn: String,
    },
    User {
        account: AccountId,
        arn: String,
        /// `AIDA…`.
        id: String,
    },
    RoleSession {
        account: AccountId,
        /// `arn:aws:sts::…:assumed-role/NAME/SESSION`.
        session_arn: String,
        role_arn: String,
        /// `AROA…`.
        role_id: String,
        /// The provider of a federated login, or a service that assumed the role.
        federated_provider: Option<String>,
    },
    FederatedUser {
        account: AccountId,
        /// `arn:aws:sts::…:federated-user/NAME`.
        arn: String,
        /// The user (or root) that called `sts:GetFederationToken`.
        issuer_arn: String,
    },
    /// `ecs-tasks.amazonaws.com`.
    Service(String),
    /// Who shows a token of an OIDC or SAML provider; its ARN, or the domain of a known one.
    Federated(String),
    Anonymous,
}

impl Caller {
    /// `None` for callers that belong to no account.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Root { account, .. }
            | Self::User { account, .. }
            | Self::RoleSession { account, .. }
            | Self::FederatedUser { account, .. } => Some(*account),
            Self::Service(_) | Self::Federated(_) | Self::Anonymous => None,
        }
    }

    /// The name in messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Root { arn, .. } | Self::User { arn, .. } | Self::FederatedUser { arn, .. } => arn,
            Self::RoleSession { session_arn, .. } => session_arn,
            Self::Service(name) | Self::Federated(name) => name,
            Self::Anonymous => "anonymous",
        }
    }
}

/// Whom an entry of a `Principal` element means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PrincipalName {
    Everyone,
    /// `arn:aws:iam::123456789012:root` or the account's 12 digits.
    Account(AccountId),
    /// Of a user, a role, a role's session, a federated user.
    Arn(String),
    /// `AIDA…` or `AROA…`.
    UniqueId(String),
    Service(String),
    Federated(String),
    CanonicalUser(String),
}

/// How directly a statement means a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceGrant {
    /// Its account: the account's own policies decide whether it goes on to the caller.
    Account,
    /// The role behind a session, or the user behind a federated one: boundary and session policies
    /// go on narrowing.
    Entity,
    /// The very caller, or everyone.
    Direct,
}

/// The `Principal` or `NotPrincipal` element of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principals {
    pub negated: bool,
    pub names: Vec<PrincipalName>,
}

impl Principals {
    /// What an `Allow` gives to the caller.
    pub fn grant(&self, caller: &Caller) -> Option<ResourceGrant> {
        if self.negated {
            let named = self.names.iter().any(|name| name.grant(caller).is_some());
            return (!named).then_some(ResourceGrant::Direct);
        }
        self.names.iter().filter_map(|name| name.grant(caller)).max()
    }

    /// Whether a `Deny` hits the caller. With `NotPrincipal`, whoever is spared must be named at each
    /// of its levels: account, role, session.
    pub fn denies(&self, caller: &Caller) -> bool {
        if !self.negated {
            return self.names.iter().any(|name| name.grant(caller).is_some());
        }
        let named = |grant| self.names.iter().any(|name| name.grant(caller) == Some(grant));
        let spared = match caller {
            Caller::RoleSession { .. } | Caller::FederatedUser { .. } => {
                self.names.contains(&PrincipalName::Everyone)
                    || named(ResourceGrant::Account)
                        && named(ResourceGrant::Entity)
                        && named(ResourceGrant::Direct)
            }
            Caller::User { .. } => {
                self.names.contains(&PrincipalName::Everyone)
                    || named(ResourceGrant::Account) && named(ResourceGrant::Direct)
            }
            _ => named(ResourceGrant::Direct),
        };
        !spared
    }
}

impl PrincipalName {
    fn grant(&self, caller: &Caller) -> Option<ResourceGrant> {
        use ResourceGrant::{Account, Direct, Entity};
        let when = |matches: bool, grant| matches.then_some(grant);
        match (self, caller) {
            (Self::Everyone, _) => Some(Direct),
            (Self::Account(named), Caller::Root { account, .. }) => when(named == account, Direct),
            (Self::Account(named), _) => when(caller.account() == Some(*named), Account),
            (Self::Arn(named), Caller::Root { arn, .. } | Caller::User { arn, .. }) => {
                when(named == arn, Direct)
            }
            (Self::Arn(named), Caller::RoleSession { session_arn, role_arn, .. }) => {
                if named == session_arn {
                    Some(Direct)
                } else {
                    when(named == role_arn, Entity)
                }
            }
            (Self::Arn(named), Caller::FederatedUser { arn, issuer_arn, .. }) => {
                if named == arn {
                    Some(Direct)
                } else {
                    when(named == issuer_arn, Entity)
                }
            }
            (Self::UniqueId(named), Caller::User { id, .. }) => when(named == id, Direct),
            (Self::UniqueId(named), Caller::RoleSession { role_id, .. }) => when(named == role_id, Entity),
            (Self::Service(named), Caller::Service(name)) => when(named == name, Direct),
            (Self::Federated(named), Caller::Federated(name)) => when(named == name, Direct),
            (Self::Federated(named), Caller::RoleSession { federated_provider: Some(provider), .. }) => {
                when(named == provider, Entity)
            }
            _ => None,
        }
    }

    /// What an entry under `kind` (`AWS`, `Service` …) means. `None`: nothing that exists.
    pub(crate) fn parse(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "AWS" => Self::parse_aws(name),
            "Service" => is_domain(name).then(|| Self::Service(name.to_owned())),
            "Federated" => {
                let provider = name.starts_with("arn:")
                    && (name.contains(":oidc-provider/") || name.contains(":saml-provider/"));
                (provider || is_domain(name)).then(|| Self::Federated(name.to_owned()))
            }
            "CanonicalUser" => {
                let hexadecimal = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
                hexadecimal.then(|| Self::CanonicalUser(name.to_owned()))
            }
            _ => None,
        }
    }

    fn parse_aws(name: &str) -> Option<Self> {
        if name == "*" {
            return Some(Self::Everyone);
        }
        if let Ok(account) = name.parse() {
            return Some(Self::Account(account));
        }
        let id = name.len() >= 16
            && (name.starts_with("AIDA") || name.starts_with("AROA"))
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if id {
            return Some(Self::UniqueId(name.to_owned()));
        }
        let arn: wharf_core::Arn = name.parse().ok()?;
        let account = arn.account.filter(|_| arn.region.is_none())?;
        // A wildcard means everyone or nothing, never some.
        if name.contains(['*', '?']) {
            return None;
        }
        let kind = arn.resource.split_once('/').filter(|(_, rest)| !rest.is_empty()).map(|(kind, _)| kind);
        match (arn.service.as_str(), kind) {
            ("iam", None) if arn.resource == "root" => Some(Self::Account(account)),
            ("iam", Some("user" | "role")) | ("sts", Some("assumed-role" | "federated-user")) => {
                Some(Self::Arn(name.to_owned()))
            }
            _ => None,
        }
    }
}

fn is_domain(name: &str) -> bool {
    name.contains('.')
        && name.len() <= 255
        && name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Caller {
        Caller::RoleSession {
            account: "444455556666".parse().unwrap(),
            session_arn: "arn:aws:sts::444455556666:assumed-role/read-only-role/read-only-session".into(),
            role_arn: "arn:aws:iam::444455556666:role/read-only-role".into(),
            role_id: "AROAIOSFODNN7EXAMPLE".into(),
            federated_provider: None,
        }
    }

    fn principals(negated: bool, names: &[&str]) -> Principals {
        let names = names.iter().map(|name| PrincipalName::parse("AWS", name).unwrap()).collect();
        Principals { negated, names }
    }

    #[test]
    fn a_session_is_meant_by_account_role_and_session_ever_more_directly() {
        let grant = |name: &str| principals(false, &[name]).grant(&session());
        assert_eq!(grant("444455556666"), Some(ResourceGrant::Account));
        assert_eq!(grant("arn:aws:iam::444455556666:root"), Some(ResourceGrant::Account));
        assert_eq!(grant("arn:aws:iam::444455556666:role/read-only-role"), Some(ResourceGrant::Entity));
        assert_eq!(grant("AROAIOSFODNN7EXAMPLE"), Some(ResourceGrant::Entity));
        assert_eq!(
            grant("arn:aws:sts::444455556666:assumed-role/read-only-role/read-only-session"),
            Some(ResourceGrant::Direct)
        );
        assert_eq!(grant("*"), Some(ResourceGrant::Direct));
        assert_eq!(grant("111122223333"), None);
    }

    #[test]
    fn not_principal_spares_whom_it_names_at_every_level() {
        // IAM User Guide, "NotPrincipal in the same or different accounts".
        let all = [
            "arn:aws:sts::444455556666:assumed-role/read-only-role/read-only-session",
            "arn:aws:iam::444455556666:role/read-only-role",
            "arn:aws:iam::444455556666:root",
        ];
        assert!(!principals(true, &all).denies(&session()));
        assert!(principals(true, &all[..2]).denies(&session()));
        assert!(principals(true, &all[1..]).denies(&session()));
        assert!(principals(true, &all).denies(&Caller::Anonymous));
    }

    #[test]
    fn names_that_nobody_has_are_refused() {
        for (kind, name) in [
            ("AWS", "bob"),
            ("AWS", "arn:aws:iam::123456789012:*"),
            ("AWS", "arn:aws:iam::*:root"),
            ("AWS", "arn:aws:iam::123456789012:group/x"),
            ("AWS", "arn:aws:s3:::bucket"),
            ("AWS", "arn:aws:iam::123456789012:user/"),
            ("Service", "ecs"),
            ("Service", "*"),
            ("Service", "ECS.amazonaws.com"),
            ("Federated", "arn:aws:iam::123456789012:user/x"),
            ("Robot", "x"),
        ] {
            assert_eq!(PrincipalName::parse(kind, name), None, "{kind} {name}");
        }
    }
}
