//! Short names, `family:revision`s and ARNs: what callers may hand over to mean a resource.

use wharf_core::{ApiError, Arn, RequestContext};
use wharf_ecs_api::errors::invalid_parameter_exception;

/// The cluster that is meant when none is named.
pub const DEFAULT_CLUSTER: &str = "default";

/// A task definition as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinitionName {
    pub family: String,
    /// `None`: the newest active one.
    pub revision: Option<u64>,
}

/// The name of a cluster given as a name or an ARN; the default one when absent.
///
/// # Errors
/// `InvalidParameterException` for an ARN of something else, another region or another account.
pub fn cluster(context: &RequestContext, given: Option<&str>) -> Result<String, ApiError> {
    match given {
        None | Some("") => Ok(DEFAULT_CLUSTER.to_owned()),
        Some(given) => resource(context, given, "cluster"),
    }
}

/// The id of a task given as an id or an ARN of either form; with a long ARN, its cluster's name too.
///
/// # Errors
/// As [`cluster`].
pub fn task(context: &RequestContext, given: &str) -> Result<(Option<String>, String), ApiError> {
    let name = resource(context, given, "task")?;
    Ok(match name.split_once('/') {
        Some((cluster, id)) => (Some(cluster.to_owned()), id.to_owned()),
        None => (None, name),
    })
}

/// # Errors
/// As [`cluster`]; `ClientException` for a revision that is no number.
pub fn task_definition(context: &RequestContext, given: &str) -> Result<TaskDefinitionName, ApiError> {
    let name = resource(context, given, "task-definition")?;
    let Some((family, revision)) = name.split_once(':') else {
        return Ok(TaskDefinitionName { family: name, revision: None });
    };
    let revision = revision.parse().ok().filter(|revision| *revision > 0);
    let revision = revision.ok_or_else(|| {
        wharf_ecs_api::errors::client_exception(format!("Invalid revision number. Number: {given}"))
    })?;
    Ok(TaskDefinitionName { family: family.to_owned(), revision: Some(revision) })
}

/// What stands behind `kind/` in an ARN, or the text itself when it is none.
fn resource(context: &RequestContext, given: &str, kind: &str) -> Result<String, ApiError> {
    let Some(arn) = own_arn(context, given)? else { return Ok(given.to_owned()) };
    match arn.resource.split_once('/') {
        Some((of, name)) if of == kind && !name.is_empty() => Ok(name.to_owned()),
        Some((of, _)) => Err(invalid_parameter_exception(format!(
            "Invalid identifier: Identifier is for {of}. Did you mean {kind}?"
        ))),
        None => Err(invalid_parameter_exception("Invalid identifier: Unexpected number of separators")),
    }
}

/// The ARN that the text is, if it is one of this service, account and region; `None` when it is no
/// ARN at all.
///
/// # Errors
/// `InvalidParameterException` when it is malformed or belongs elsewhere.
pub fn own_arn(context: &RequestContext, given: &str) -> Result<Option<Arn>, ApiError> {
    if !given.starts_with("arn:") {
        return Ok(None);
    }
    let arn: Arn = given
        .parse()
        .map_err(|_| invalid_parameter_exception("Invalid identifier: Unexpected number of separators"))?;
    if arn.service != "ecs" {
        return Err(invalid_parameter_exception(format!(
            "Invalid identifier: Identifier is for {}. Did you mean ecs?",
            arn.service
        )));
    }
    if arn.region.as_ref() != Some(context.region()) {
        let of = arn.region.as_ref().map_or("", |region| region.as_str());
        return Err(invalid_parameter_exception(format!(
            "Invalid identifier: Identifier is for {of}. Did you mean {}?",
            context.region()
        )));
    }
    if arn.account != Some(context.account()) || arn.partition != context.partition() {
        return Err(invalid_parameter_exception(
            "Invalid identifier: Identifier is for another account".to_owned(),
        ));
    }
    Ok(Some(arn))
}

/// Whether a name is 1 to 255 letters, digits, hyphens and underscores.
pub fn is_well_formed(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::context;

    #[test]
    fn names_and_arns_mean_the_same() {
        let context = context();
        assert_eq!(cluster(&context, None).unwrap(), "default");
        assert_eq!(cluster(&context, Some("arn:aws:ecs:us-east-1:000000000000:cluster/web")).unwrap(), "web");
        assert_eq!(
            task(&context, "arn:aws:ecs:us-east-1:000000000000:task/web/0123").unwrap(),
            (Some("web".into()), "0123".into())
        );
        assert_eq!(task(&context, "0123").unwrap(), (None, "0123".into()));
        assert_eq!(
            task_definition(&context, "arn:aws:ecs:us-east-1:000000000000:task-definition/web:7").unwrap(),
            TaskDefinitionName { family: "web".into(), revision: Some(7) }
        );
        assert_eq!(task_definition(&context, "web").unwrap().revision, None);
    }

    #[test]
    fn foreign_and_malformed_arns_are_refused_in_words() {
        let context = context();
        for (given, words) in [
            (
                "arn:aws:ecs:eu-west-1:000000000000:cluster/web",
                "Identifier is for eu-west-1. Did you mean us-east-1?",
            ),
            ("arn:aws:ecs:us-east-1:111111111111:cluster/web", "another account"),
            (
                "arn:aws:ecs:us-east-1:000000000000:task/web/1",
                "Identifier is for task. Did you mean cluster?",
            ),
            ("arn:aws:iam::000000000000:role/x", "Identifier is for iam"),
            ("arn:aws:ecs", "Unexpected number of separators"),
            ("arn:aws:ecs:us-east-1:000000000000:cluster", "Unexpected number of separators"),
        ] {
            let error = cluster(&context, Some(given)).unwrap_err();
            assert_eq!(error.code, "InvalidParameterException", "{given}");
            assert!(error.message.contains(words), "{given}: {error}");
        }
        assert_eq!(task_definition(&context, "web:x").unwrap_err().code, "ClientException");
        assert!(task_definition(&context, "web:0").is_err());
    }
}
