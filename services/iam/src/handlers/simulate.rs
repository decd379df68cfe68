//! What policies would say (API Reference: SimulatePrincipalPolicy, SimulateCustomPolicy,
//! GetContextKeysForPrincipalPolicy, GetContextKeysForCustomPolicy). The same evaluator that decides
//! every request answers; nothing of the request at hand goes in but what the caller gives.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharf_contracts::PolicySource;
use wharf_core::{AccountId, ApiError, Arn, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_policy::{
    Caller, Decision, Keys, Kind, Layer, Policy, PolicySet, Question, ResourceAccess, Simulation, simulate,
};

use crate::find;
use crate::pages::page;
use crate::records::{Group, Role, User};
use crate::{Iam, directory, failures};

/// Actions times resources of one simulation.
const EVALUATIONS_MAX: usize = 10_000;

/// A policy and what an answer calls it.
struct Named {
    policy: Arc<Policy>,
    id: String,
    /// `None` for policies that the request brings.
    kind: Option<types::PolicySourceType>,
}

/// What both simulations have in common.
struct Asked {
    actions: Vec<String>,
    resources: Vec<String>,
    resource_policy: Option<String>,
    resource_owner: Option<String>,
    context_entries: Vec<types::ContextEntry>,
    identity: Vec<Named>,
    boundary: Option<Named>,
    service_control: Vec<Vec<Arc<Policy>>>,
    caller: Caller,
    marker: Option<String>,
    max_items: Option<i32>,
}

impl Iam {
    pub(super) async fn simulate_custom_policy(
        &self,
        context: &RequestContext,
        input: types::SimulateCustomPolicyRequest,
    ) -> Result<types::SimulatePolicyResponse, ApiError> {
        if input.resource_handling_option.is_some() {
            return Err(failures::refused("SimulateCustomPolicy", "ResourceHandlingOption"));
        }
        if input.resource_policy.is_some() && input.caller_arn.is_none() {
            return Err(invalid("CallerArn is required when ResourcePolicy is given."));
        }
        let service_control = input
            .ordered_organization_policy_input_list
            .unwrap_or_default()
            .into_iter()
            .map(|level| {
                parse_all(Kind::ServiceControl, &level.service_control_policy_input_list.unwrap_or_default())
            })
            .collect::<Result<_, _>>()?;
        let caller = match &input.caller_arn {
            Some(arn) => caller_of(arn)?,
            // Nobody in particular, of this account.
            None => Caller::User { account: context.account(), arn: String::new(), id: String::new() },
        };
        evaluate(Asked {
            actions: input.action_names,
            resources: input.resource_arns.unwrap_or_default(),
            resource_policy: input.resource_policy,
            resource_owner: input.resource_owner,
            context_entries: input.context_entries.unwrap_or_default(),
            identity: given("PolicyInputList", &input.policy_input_list)?,
            boundary: given_boundary(input.permissions_boundary_policy_input_list)?,
            service_control,
            caller,
            marker: input.marker,
            max_items: input.max_items,
        })
    }

    pub(super) async fn simulate_principal_policy(
        &self,
        context: &RequestContext,
        input: types::SimulatePrincipalPolicyRequest,
    ) -> Result<types::SimulatePolicyResponse, ApiError> {
        if input.resource_handling_option.is_some() {
            return Err(failures::refused("SimulatePrincipalPolicy", "ResourceHandlingOption"));
        }
        if input.policy_exclusion_list.is_some() {
            return Err(failures::refused("SimulatePrincipalPolicy", "PolicyExclusionList"));
        }
        let source = self.policies_of(context, &input.policy_source_arn)?;
        let caller = match &input.caller_arn {
            Some(arn) => caller_of(arn)?,
            None => source.caller,
        };
        if input.resource_policy.is_some() && !matches!(caller, Caller::User { .. } | Caller::Root { .. }) {
            return Err(invalid("CallerArn of a user is required when ResourcePolicy is given."));
        }
        let mut identity = named(source.policies)?;
        identity.extend(given("PolicyInputList", &input.policy_input_list.unwrap_or_default())?);
        let boundary = match given_boundary(input.permissions_boundary_policy_input_list)? {
            Some(boundary) => Some(boundary),
            None => named(source.boundary)?.pop(),
        };
        evaluate(Asked {
            actions: input.action_names,
            resources: input.resource_arns.unwrap_or_default(),
            resource_policy: input.resource_policy,
            resource_owner: input.resource_owner,
            context_entries: input.context_entries.unwrap_or_default(),
            identity,
            boundary,
            service_control: Vec::new(),
            caller,
            marker: input.marker,
            max_items: input.max_items,
        })
    }

    pub(super) async fn get_context_keys_for_custom_policy(
        &self,
        _context: &RequestContext,
        input: types::GetContextKeysForCustomPolicyRequest,
    ) -> Result<types::GetContextKeysForPolicyResponse, ApiError> {
        Ok(context_keys(parse_all(Kind::Identity, &input.policy_input_list)?.iter()))
    }

    pub(super) async fn get_context_keys_for_principal_policy(
        &self,
        context: &RequestContext,
        input: types::GetContextKeysForPrincipalPolicyRequest,
    ) -> Result<types::GetContextKeysForPolicyResponse, ApiError> {
        let source = self.policies_of(context, &input.policy_source_arn)?;
        let mut policies: Vec<Arc<Policy>> =
            named(source.policies)?.into_iter().map(|named| named.policy).collect();
        policies.extend(parse_all(Kind::Identity, &input.policy_input_list.unwrap_or_default())?);
        Ok(context_keys(policies.iter()))
    }

    /// The policies of the user, group or role of this account that an ARN names.
    fn policies_of(&self, context: &RequestContext, arn: &str) -> Result<Source, ApiError> {
        let none = || errors::no_such_entity_exception(format!("{arn} cannot be found."));
        let parsed: Arn = arn.parse().map_err(|_| invalid(format!("Invalid Entity Arn: {arn}")))?;
        let account = context.account();
        let is_ours = parsed.service == "iam"
            && parsed.account == Some(account)
            && parsed.partition == context.partition();
        let (kind, rest) = parsed.resource.split_once('/').filter(|_| is_ours).ok_or_else(none)?;
        let name = rest.rsplit('/').next().unwrap_or_default();
        let has_path = |path: &str, found: &str| format!("/{rest}") == format!("{path}{found}");
        let snapshot = self.store.snapshot();
        let boundary = |boundary: Option<PolicySource>| boundary.into_iter().collect();
        match kind {
            "user" => {
                let user = find::user(&snapshot, account, name)?;
                let user = Some(user)
                    .filter(|user: &Arc<User>| has_path(&user.path, &user.name))
                    .ok_or_else(none)?;
                let identity = directory::of_user(&snapshot, &user);
                let caller = Caller::User { account, arn: arn.to_owned(), id: user.id.clone() };
                Ok(Source { policies: identity.policies, boundary: boundary(identity.boundary), caller })
            }
            "role" => {
                let role = find::role(&snapshot, account, name)?;
                let role = Some(role)
                    .filter(|role: &Arc<Role>| has_path(&role.path, &role.name))
                    .ok_or_else(none)?;
                let identity = directory::of_role(&snapshot, &role);
                let caller = Caller::RoleSession {
                    account,
                    session_arn: arn.to_owned(),
                    role_arn: arn.to_owned(),
                    role_id: role.id.clone(),
                    federated_provider: None,
                };
                Ok(Source { policies: identity.policies, boundary: boundary(identity.boundary), caller })
            }
            "group" => {
                let group = find::group(&snapshot, account, name)?;
                let group = Some(group)
                    .filter(|group: &Arc<Group>| has_path(&group.path, &group.name))
                    .ok_or_else(none)?;
                let policies = directory::sources(&snapshot, account, "group", &group.name, &group.policies);
                let caller = Caller::User { account, arn: arn.to_owned(), id: String::new() };
                Ok(Source { policies, boundary: Vec::new(), caller })
            }
            _ => Err(invalid(format!("Invalid Entity Arn: {arn}"))),
        }
    }
}

struct Source {
    policies: Vec<PolicySource>,
    /// One or none.
    boundary: Vec<PolicySource>,
    caller: Caller,
}

fn invalid(message: impl Into<String>) -> ApiError {
    errors::invalid_input_exception(message)
}

fn parse(kind: Kind, document: &str) -> Result<Arc<Policy>, ApiError> {
    Policy::parse(kind, document).map(Arc::new).map_err(|error| invalid(error.to_string()))
}

fn parse_all(kind: Kind, documents: &[String]) -> Result<Vec<Arc<Policy>>, ApiError> {
    documents.iter().map(|document| parse(kind, document)).collect()
}

/// The policies that a request brings, as `PolicyInputList.1` and so on.
fn given(list: &str, documents: &[String]) -> Result<Vec<Named>, ApiError> {
    documents
        .iter()
        .enumerate()
        .map(|(index, document)| {
            let policy = parse(Kind::Identity, document)?;
            Ok(Named { policy, id: format!("{list}.{}", index + 1), kind: None })
        })
        .collect()
}

fn given_boundary(documents: Option<Vec<String>>) -> Result<Option<Named>, ApiError> {
    let documents = documents.unwrap_or_default();
    if documents.len() > 1 {
        return Err(invalid("Only one permissions boundary can be simulated."));
    }
    Ok(given("PermissionsBoundaryPolicyInputList", &documents)?.pop())
}

/// The policies of an entity. The name of an inline one is `user/NAME/POLICY`.
fn named(sources: Vec<PolicySource>) -> Result<Vec<Named>, ApiError> {
    sources
        .into_iter()
        .map(|source| {
            use types::PolicySourceType as Type;
            let id = source.name.rsplit('/').next().unwrap_or_default().to_owned();
            let kind = if source.name.contains(":iam::aws:policy/") {
                Type::AwsManaged
            } else if source.name.starts_with("arn:") {
                Type::UserManaged
            } else if source.name.starts_with("group/") {
                Type::Group
            } else if source.name.starts_with("role/") {
                Type::Role
            } else {
                Type::User
            };
            Ok(Named { policy: parse(Kind::Identity, &source.document)?, id, kind: Some(kind) })
        })
        .collect()
}

/// The user (or root) that an ARN names, whether or not it exists.
fn caller_of(arn: &str) -> Result<Caller, ApiError> {
    let invalid = || invalid(format!("Invalid CallerArn: {arn}"));
    let parsed: Arn = arn.parse().map_err(|_| invalid())?;
    let account = parsed.account.ok_or_else(invalid)?;
    match (parsed.service.as_str(), parsed.resource.split_once('/')) {
        ("iam", None) if parsed.resource == "root" => Ok(Caller::Root { account, arn: arn.to_owned() }),
        ("iam", Some(("user", _))) => Ok(Caller::User { account, arn: arn.to_owned(), id: String::new() }),
        ("sts", Some(("assumed-role", rest))) => {
            let role = rest.split('/').next().unwrap_or_default();
            Ok(Caller::RoleSession {
                account,
                session_arn: arn.to_owned(),
                role_arn: format!("arn:{}:iam::{account}:role/{role}", parsed.partition),
                role_id: String::new(),
                federated_provider: None,
            })
        }
        _ => Err(invalid()),
    }
}

fn keys_of(entries: Vec<types::ContextEntry>) -> Result<Keys, ApiError> {
    use types::ContextKeyTypeEnum as Type;
    let mut keys = Keys::new();
    for entry in entries {
        let name = entry.context_key_name.ok_or_else(|| invalid("ContextKeyName is required."))?;
        let values = entry.context_key_values.unwrap_or_default();
        let is_list = matches!(
            entry.context_key_type,
            Some(
                Type::StringList
                    | Type::NumericList
                    | Type::BooleanList
                    | Type::IpList
                    | Type::BinaryList
                    | Type::DateList
            )
        );
        keys = match (is_list, values.as_slice()) {
            (true, _) => keys.with_many(&name, values),
            (false, [value]) => keys.with(&name, value.as_str()),
            (false, _) => return Err(invalid(format!("The context key {name} has one value."))),
        };
    }
    Ok(keys)
}

fn evaluate(asked: Asked) -> Result<types::SimulatePolicyResponse, ApiError> {
    let keys = keys_of(asked.context_entries)?;
    let resource_policy =
        asked.resource_policy.as_deref().map(|document| parse(Kind::Resource, document)).transpose()?;
    let resource_owner = asked
        .resource_owner
        .as_deref()
        .map(|owner| account_of(owner).ok_or_else(|| invalid(format!("Invalid ResourceOwner: {owner}"))))
        .transpose()?;
    let mut resources = asked.resources;
    if resources.is_empty() {
        resources.push("*".to_owned());
    }
    if asked.actions.len().saturating_mul(resources.len()) > EVALUATIONS_MAX {
        return Err(invalid(format!("A simulation has at most {EVALUATIONS_MAX} actions and resources.")));
    }
    for action in &asked.actions {
        if action.split_once(':').is_none_or(|(service, name)| service.is_empty() || name.is_empty()) {
            return Err(invalid(format!("Invalid Action Name: {action}")));
        }
    }
    let policies: Vec<Arc<Policy>> = asked.identity.iter().map(|named| Arc::clone(&named.policy)).collect();
    let set = PolicySet {
        identity: Some(&policies),
        boundary: asked.boundary.as_ref().map(|named| &*named.policy),
        service_control: &asked.service_control,
        resource: resource_policy.as_deref().map(|policy| (policy, ResourceAccess::Grants)),
        ..PolicySet::default()
    };
    let source_of = |layer: Layer, number: usize| match layer {
        Layer::Identity => asked.identity.get(number).map(|named| (named.id.clone(), named.kind.clone())),
        Layer::Boundary => asked.boundary.as_ref().map(|named| (named.id.clone(), named.kind.clone())),
        Layer::Resource | Layer::Trust => {
            Some(("ResourcePolicy".to_owned(), Some(types::PolicySourceType::Resource)))
        }
        Layer::ServiceControl | Layer::Session => {
            Some((format!("ServiceControlPolicy.{}", number + 1), None))
        }
    };
    // Every pair has its number, which is what a marker tells.
    let pairs =
        asked.actions.iter().flat_map(|action| resources.iter().map(move |resource| (action, resource)));
    let page = page(
        pairs.enumerate(),
        |(number, _)| format!("{number:08}"),
        asked.marker.as_deref(),
        asked.max_items,
    )?
    .map(|(_, (action, resource))| {
        let owner = resource.parse::<Arn>().ok().and_then(|arn| arn.account).or(resource_owner);
        let question = Question {
            caller: &asked.caller,
            action: action.as_str(),
            resource: resource.as_str(),
            owner,
            context: &keys,
        };
        result(action, resource, &set, simulate(&question, &set), &source_of)
    });
    Ok(types::SimulatePolicyResponse {
        evaluation_results: Some(page.items),
        is_truncated: page.is_truncated,
        marker: page.marker,
    })
}

/// `123456789012`, or an ARN that holds it.
fn account_of(owner: &str) -> Option<AccountId> {
    owner.parse().ok().or_else(|| owner.parse::<Arn>().ok()?.account)
}

fn result(
    action: &str,
    resource: &str,
    set: &PolicySet<'_>,
    simulation: Simulation,
    source_of: &dyn Fn(Layer, usize) -> Option<(String, Option<types::PolicySourceType>)>,
) -> types::EvaluationResult {
    let position = |at: wharf_policy::Position| types::Position {
        line: i32::try_from(at.line).ok(),
        column: i32::try_from(at.column).ok(),
    };
    let matched = simulation.matched.iter().filter_map(|matched| {
        let statement = set.policy(matched.policy)?.statements().get(matched.statement)?;
        let (id, kind) = source_of(matched.policy.layer, matched.policy.number)?;
        Some(types::Statement {
            source_policy_id: Some(id),
            source_policy_type: kind,
            start_position: Some(position(statement.span().start)),
            end_position: Some(position(statement.span().end)),
        })
    });
    let verdict = &simulation.verdict;
    types::EvaluationResult {
        eval_action_name: action.to_owned(),
        eval_decision: verdict.as_eval_decision().into(),
        // Told where more than one kind of policy has a say.
        eval_decision_details: verdict.resource.map(|of_resource| {
            [("IAM Policy", verdict.identity), ("Resource Policy", of_resource)]
                .into_iter()
                .map(|(name, decision)| (name.to_owned(), decision_type(decision)))
                .collect()
        }),
        eval_resource_name: Some(resource.to_owned()),
        matched_statements: Some(matched.collect()),
        missing_context_values: Some(simulation.missing_keys),
        organizations_decision_detail: verdict.service_control.map(|decision| {
            types::OrganizationsDecisionDetail {
                allowed_by_organizations: Some(decision == Decision::Allowed),
            }
        }),
        permissions_boundary_decision_detail: verdict.boundary.map(|decision| {
            types::PermissionsBoundaryDecisionDetail {
                allowed_by_permissions_boundary: Some(decision == Decision::Allowed),
            }
        }),
        resource_specific_results: None,
    }
}

fn decision_type(decision: Decision) -> types::PolicyEvaluationDecisionType {
    match decision {
        Decision::Allowed => types::PolicyEvaluationDecisionType::Allowed,
        Decision::ExplicitDeny => types::PolicyEvaluationDecisionType::ExplicitDeny,
        Decision::ImplicitDeny => types::PolicyEvaluationDecisionType::ImplicitDeny,
    }
}

fn context_keys<'a>(
    policies: impl Iterator<Item = &'a Arc<Policy>>,
) -> types::GetContextKeysForPolicyResponse {
    let names: BTreeSet<String> = policies.flat_map(|policy| policy.context_keys()).collect();
    types::GetContextKeysForPolicyResponse { context_key_names: Some(names.into_iter().collect()) }
}
