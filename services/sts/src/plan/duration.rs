//! How long a new session lasts. The model has checked each operation's own least and greatest
//! `DurationSeconds`; what depends on the caller and the role is here.
//!
//! STS API reference, `DurationSeconds` of each operation; IAM User Guide, "Role chaining".

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// What users get who do not say.
const USER_DEFAULT: Duration = Duration::from_secs(12 * 60 * 60);

/// How the role is assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaining {
    /// By a user, or with a federated identity.
    First,
    /// By a session of a role.
    Chained,
}

/// Whose session `GetSessionToken` or `GetFederationToken` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    User,
    Root,
}

/// The texts are AWS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")]
    AboveRole,
    #[error(
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    )]
    AboveChain,
}

/// Of a role's session: an hour unless asked otherwise.
///
/// # Errors
/// When more is asked for than the role, or chaining, allows.
pub fn of_role(
    requested_seconds: Option<i32>,
    role_max: Duration,
    chaining: Chaining,
) -> Result<Duration, DurationError> {
    let requested = requested_seconds.map_or(HOUR, seconds);
    if chaining == Chaining::Chained && requested > HOUR {
        return Err(DurationError::AboveChain);
    }
    if requested > role_max {
        return Err(DurationError::AboveRole);
    }
    Ok(requested)
}

/// Of a user's session: twelve hours unless asked otherwise; of a root user's at most an hour,
/// whatever is asked.
pub fn of_user(requested_seconds: Option<i32>, owner: Owner) -> Duration {
    let requested = requested_seconds.map_or(USER_DEFAULT, seconds);
    match owner {
        Owner::User => requested,
        Owner::Root => requested.min(HOUR),
    }
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_session_lasts_as_long_as_the_role_and_the_chain_allow() {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        assert_eq!(of_role(None, hours(1), Chaining::First), Ok(hours(1)));
        assert_eq!(of_role(Some(900), hours(1), Chaining::Chained), Ok(Duration::from_secs(900)));
        assert_eq!(of_role(Some(3601), hours(1), Chaining::First), Err(DurationError::AboveRole));
        assert_eq!(of_role(Some(43_200), hours(12), Chaining::First), Ok(hours(12)));
        assert_eq!(of_role(Some(3601), hours(12), Chaining::Chained), Err(DurationError::AboveChain));
    }

    #[test]
    fn a_root_user_gets_an_hour_at_most() {
        assert_eq!(of_user(None, Owner::User).as_secs(), 43_200);
        assert_eq!(of_user(Some(129_600), Owner::User).as_secs(), 129_600);
        assert_eq!(of_user(None, Owner::Root).as_secs(), 3600);
        assert_eq!(of_user(Some(900), Owner::Root).as_secs(), 900);
    }
}
