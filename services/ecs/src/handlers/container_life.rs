//! How a container is asked for its health, and when it is started again.
//!
//! API reference, `HealthCheck` and `ContainerRestartPolicy`.

use wharf_core::ApiError;
use wharf_ecs_api::types;

use super::register::invalid;
use crate::records::{HealthCheck, RestartPolicy};

/// (least, most, default), in seconds.
const INTERVAL: (i32, i32, i32) = (5, 300, 30);
const TIMEOUT: (i32, i32, i32) = (2, 60, 5);
const RETRIES: (i32, i32, i32) = (1, 10, 3);
const START_PERIOD: (i32, i32, i32) = (0, 300, 0);
const ATTEMPT_PERIOD: (i32, i32, i32) = (60, 1800, 300);
const IGNORED_EXIT_CODES_MAX: usize = 50;

/// In seconds.
pub const ATTEMPT_PERIOD_DEFAULT: u32 = ATTEMPT_PERIOD.2.unsigned_abs();

fn in_range(
    value: Option<i32>,
    (least, most, default): (i32, i32, i32),
    member: &str,
) -> Result<u32, ApiError> {
    let value = value.unwrap_or(default);
    match u32::try_from(value) {
        Ok(number) if (least..=most).contains(&value) => Ok(number),
        _ => invalid(format!("{member} must be between {least} and {most}.")),
    }
}

/// `None` for `["NONE"]`, which asks for no health check.
///
/// # Errors
/// `ClientException` for a command that is none, and for values that are out of range.
pub fn health_check(given: types::HealthCheck) -> Result<Option<HealthCheck>, ApiError> {
    let command = given.command;
    match command.first().map(String::as_str) {
        Some("NONE") if command.len() == 1 => return Ok(None),
        Some("CMD") if command.len() > 1 => {}
        Some("CMD-SHELL") if command.len() == 2 => {}
        _ => {
            return invalid(
                "healthCheck.command must start with CMD to run the arguments directly, or be CMD-SHELL and one command for the container's shell.",
            );
        }
    }
    if command.iter().any(|part| part.contains('\0')) {
        return invalid("healthCheck.command contains a zero byte.");
    }
    Ok(Some(HealthCheck {
        command,
        interval: in_range(given.interval, INTERVAL, "healthCheck.interval")?,
        timeout: in_range(given.timeout, TIMEOUT, "healthCheck.timeout")?,
        retries: in_range(given.retries, RETRIES, "healthCheck.retries")?,
        start_period: match given.start_period {
            None => None,
            given => Some(in_range(given, START_PERIOD, "healthCheck.startPeriod")?),
        },
    }))
}

/// # Errors
/// `ClientException` for values that are out of range.
pub fn restart_policy(given: types::ContainerRestartPolicy) -> Result<RestartPolicy, ApiError> {
    let ignored_exit_codes = given.ignored_exit_codes.unwrap_or_default();
    if ignored_exit_codes.len() > IGNORED_EXIT_CODES_MAX {
        return invalid(format!(
            "restartPolicy.ignoredExitCodes has at most {IGNORED_EXIT_CODES_MAX} exit codes."
        ));
    }
    let attempt_period = match given.restart_attempt_period {
        None => None,
        given => Some(in_range(given, ATTEMPT_PERIOD, "restartPolicy.restartAttemptPeriod")?),
    };
    Ok(RestartPolicy { enabled: given.enabled, ignored_exit_codes, attempt_period })
}
