//! Which services somebody may use and when they last did (API Reference:
//! GenerateServiceLastAccessedDetails, GetServiceLastAccessedDetails,
//! GetServiceLastAccessedDetailsWithEntities, ListPoliciesGrantingServiceAccess).
//!
//! A report is made while the caller waits, from what `uses` has noted of every request.

use std::sync::Arc;
use std::time::Duration;

use wharf_core::{AccountId, ApiError, Partition, RequestContext, Timestamp};
use wharf_iam_api::{errors, types};
use wharf_state::{Key as _, Snapshot};

use super::group::{groups_of, members};
use crate::find::{self, AnyPolicy, Read as _};
use crate::pages::page;
use crate::plan::access::{Access, service_name};
use crate::records::{
    AccessEntity, AccessJob, BY_ATTACHED, EntityKind, Group, Policies, Role, ServiceAccess, User,
};
use crate::{Iam, failures, ids, names};

/// How many reports of an account are kept, and for how long.
const JOBS_MAX: usize = 100;
const JOBS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a report is about.
enum Subject {
    User(Arc<User>),
    Group(Arc<Group>),
    Role(Arc<Role>),
    Policy(AnyPolicy),
}

/// Finds what an ARN names in the caller's account.
fn subject(snapshot: &Snapshot, context: &RequestContext, arn: &str) -> Result<Subject, ApiError> {
    let invalid = || failures::bad_policy_arn(arn);
    if names::policy_of_arn(context.partition(), arn).is_some() {
        return find::policy_by_arn(snapshot, context, arn, failures::no_policy).map(Subject::Policy);
    }
    let parsed: wharf_core::Arn = arn.parse().map_err(|_| invalid())?;
    let account = context.account();
    let own = parsed.service == "iam"
        && parsed.partition == context.partition()
        && parsed.account == Some(account)
        && parsed.region.is_none();
    let (kind, path_and_name) = parsed.resource.split_once('/').filter(|_| own).ok_or_else(invalid)?;
    let name = path_and_name.rsplit('/').next().unwrap_or_default();
    // Names are found without their case and path. Who may ask about one ARN is not told of another.
    let is_it = |path: &str, found: &str| names::arn(context.partition(), account, kind, path, found) == arn;
    match kind {
        "user" => {
            let user = find::user(snapshot, account, name)?;
            is_it(&user.path, &user.name)
                .then_some(Subject::User(user))
                .ok_or_else(|| failures::no_user(name))
        }
        "group" => {
            let group = find::group(snapshot, account, name)?;
            is_it(&group.path, &group.name)
                .then_some(Subject::Group(group))
                .ok_or_else(|| failures::no_group(name))
        }
        "role" => {
            let role = find::role(snapshot, account, name)?;
            is_it(&role.path, &role.name)
                .then_some(Subject::Role(role))
                .ok_or_else(|| failures::no_role(name))
        }
        _ => Err(invalid()),
    }
}

/// A policy, and for an inline one whose it is.
struct Granting {
    document: Arc<str>,
    entry: types::PolicyGrantingServiceAccess,
}

fn granting(
    snapshot: &Snapshot,
    context: &RequestContext,
    (kind, name): (&types::PolicyOwnerEntityType, &str),
    policies: &Policies,
) -> Vec<Granting> {
    let inline = policies.inline.iter().map(|(policy, document)| Granting {
        document: Arc::clone(document),
        entry: types::PolicyGrantingServiceAccess {
            entity_name: Some(name.to_owned()),
            entity_type: Some(kind.clone()),
            policy_arn: None,
            policy_name: policy.clone(),
            policy_type: types::PolicyType::Inline,
        },
    });
    let attached = policies.attached.iter().filter_map(|full| {
        let policy = find::policy(snapshot, context.account(), full)?;
        Some(Granting {
            document: policy.document(),
            entry: types::PolicyGrantingServiceAccess {
                entity_name: None,
                entity_type: None,
                policy_arn: Some(names::policy_arn(context.partition(), full)),
                policy_name: policy.name().to_owned(),
                policy_type: types::PolicyType::Managed,
            },
        })
    });
    inline.chain(attached).collect()
}

impl Subject {
    fn policies(&self, snapshot: &Snapshot, context: &RequestContext) -> Vec<Granting> {
        use types::PolicyOwnerEntityType as Owner;
        match self {
            Self::User(user) => {
                let mut all = granting(snapshot, context, (&Owner::User, &user.name), &user.policies);
                for group in groups_of(snapshot, user) {
                    all.extend(granting(snapshot, context, (&Owner::Group, &group.name), &group.policies));
                }
                all
            }
            Self::Group(group) => granting(snapshot, context, (&Owner::Group, &group.name), &group.policies),
            Self::Role(role) => granting(snapshot, context, (&Owner::Role, &role.name), &role.policies),
            Self::Policy(policy) => vec![Granting {
                document: policy.document(),
                entry: types::PolicyGrantingServiceAccess::default(),
            }],
        }
    }

    /// The users and roles that act by it.
    fn entities(&self, snapshot: &Snapshot, account: AccountId) -> Vec<AccessEntity> {
        match self {
            Self::User(user) => vec![of_user(user)],
            Self::Role(role) => vec![of_role(role)],
            Self::Group(group) => members(snapshot, group).iter().map(|user| of_user(user)).collect(),
            Self::Policy(policy) => {
                let key = (account, policy.full_name().0).to_bytes();
                let mut users: Vec<Arc<User>> = snapshot.indexed(BY_ATTACHED, &key).collect();
                for group in snapshot.indexed::<Group>(BY_ATTACHED, &key) {
                    users.extend(members(snapshot, &group));
                }
                users.sort_by(|a, b| a.id.cmp(&b.id));
                users.dedup_by(|a, b| a.id == b.id);
                let roles = snapshot.indexed::<Role>(BY_ATTACHED, &key);
                users.iter().map(|user| of_user(user)).chain(roles.map(|role| of_role(&role))).collect()
            }
        }
    }
}

fn of_user(user: &User) -> AccessEntity {
    AccessEntity {
        kind: EntityKind::User,
        id: user.id.clone(),
        name: user.name.clone(),
        path: user.path.clone(),
    }
}

fn of_role(role: &Role) -> AccessEntity {
    AccessEntity {
        kind: EntityKind::Role,
        id: role.id.clone(),
        name: role.name.clone(),
        path: role.path.clone(),
    }
}

impl Iam {
    pub(super) async fn generate_service_last_accessed_details(
        &self,
        context: &RequestContext,
        input: types::GenerateServiceLastAccessedDetailsRequest,
    ) -> Result<types::GenerateServiceLastAccessedDetailsResponse, ApiError> {
        if input.granularity == Some(types::AccessAdvisorUsageGranularityType::ActionLevel) {
            return Err(failures::refused("GenerateServiceLastAccessedDetails", "Granularity"));
        }
        let account = context.account();
        let job = self.access_job(context, &input.arn)?;
        let id = job.id.clone();
        self.change(|transaction| {
            let mut jobs: Vec<(Timestamp, String)> = transaction
                .prefix::<AccessJob>(&account.to_bytes())
                .map(|job| (job.at, job.id.clone()))
                .collect();
            jobs.sort();
            let too_many = (jobs.len() + 1).saturating_sub(JOBS_MAX);
            for (index, (at, id)) in jobs.into_iter().enumerate() {
                if index < too_many || context.now.since(at) > JOBS_KEPT {
                    transaction.delete::<AccessJob>(&(account, id));
                }
            }
            transaction.put(job);
            Ok(())
        })
        .await?;
        Ok(types::GenerateServiceLastAccessedDetailsResponse { job_id: Some(id) })
    }

    fn access_job(&self, context: &RequestContext, arn: &str) -> Result<AccessJob, ApiError> {
        let snapshot = self.store.snapshot();
        let account = context.account();
        let subject = subject(&snapshot, context, arn)?;
        let policies = subject.policies(&snapshot, context);
        let access = Access::of(policies.iter().map(|policy| &*policy.document));
        let entities = subject.entities(&snapshot, account);
        let used: Vec<_> =
            entities.iter().map(|entity| self.uses_of(&snapshot, account, &entity.id)).collect();
        let services = access
            .services()
            .into_iter()
            .map(|namespace| {
                let uses = used.iter().enumerate().filter_map(|(index, used)| {
                    let used = used.as_ref()?.services.get(&namespace)?;
                    Some((u32::try_from(index).ok()?, used.clone()))
                });
                ServiceAccess { uses: uses.collect(), namespace }
            })
            .collect();
        Ok(AccessJob { account, id: ids::uuid(&*self.rng), at: context.now, services, entities })
    }

    fn job(&self, context: &RequestContext, id: String) -> Result<Arc<AccessJob>, ApiError> {
        let key = (context.account(), id);
        self.store.snapshot().get::<AccessJob>(&key).ok_or_else(|| {
            errors::no_such_entity_exception(format!("The job with id {} cannot be found.", key.1))
        })
    }

    pub(super) async fn get_service_last_accessed_details(
        &self,
        context: &RequestContext,
        input: types::GetServiceLastAccessedDetailsRequest,
    ) -> Result<types::GetServiceLastAccessedDetailsResponse, ApiError> {
        let job = self.job(context, input.job_id)?;
        let page = page(
            job.services.iter(),
            |service| service.namespace.clone(),
            input.marker.as_deref(),
            input.max_items,
        )?
        .map(|service| last_accessed(context.partition(), &job, service));
        Ok(types::GetServiceLastAccessedDetailsResponse {
            error: None,
            is_truncated: page.is_truncated,
            job_completion_date: job.at,
            job_creation_date: job.at,
            job_status: types::JobStatusType::Completed,
            job_type: Some(types::AccessAdvisorUsageGranularityType::ServiceLevel),
            marker: page.marker,
            services_last_accessed: page.items,
        })
    }

    /// Those who have used the service first, the latest use at the top.
    pub(super) async fn get_service_last_accessed_details_with_entities(
        &self,
        context: &RequestContext,
        input: types::GetServiceLastAccessedDetailsWithEntitiesRequest,
    ) -> Result<types::GetServiceLastAccessedDetailsWithEntitiesResponse, ApiError> {
        let job = self.job(context, input.job_id)?;
        let service = job.services.iter().find(|service| service.namespace == input.service_namespace);
        let service = service.ok_or_else(|| {
            errors::no_such_entity_exception(format!(
                "The service {} is not part of the report.",
                input.service_namespace
            ))
        })?;
        let mut listed: Vec<(String, types::EntityDetails)> = job
            .entities
            .iter()
            .enumerate()
            .map(|(index, entity)| {
                let used = service.uses.iter().find(|(place, _)| *place as usize == index);
                let at = used.map(|(_, used)| used.at);
                let age = i64::MAX - at.map_or(0, Timestamp::as_millis);
                let details = types::EntityDetails {
                    entity_info: entity_info(context.partition(), job.account, entity),
                    last_authenticated: at,
                };
                (format!("{age:020} {}", entity.id), details)
            })
            .collect();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        let page = page(listed, |(place, _)| place.clone(), input.marker.as_deref(), input.max_items)?
            .map(|(_, details)| details);
        Ok(types::GetServiceLastAccessedDetailsWithEntitiesResponse {
            entity_details_list: page.items,
            error: None,
            is_truncated: page.is_truncated,
            job_completion_date: job.at,
            job_creation_date: job.at,
            job_status: types::JobStatusType::Completed,
            marker: page.marker,
        })
    }

    pub(super) async fn list_policies_granting_service_access(
        &self,
        context: &RequestContext,
        input: types::ListPoliciesGrantingServiceAccessRequest,
    ) -> Result<types::ListPoliciesGrantingServiceAccessResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let subject = subject(&snapshot, context, &input.arn)?;
        if matches!(subject, Subject::Policy(_)) {
            return Err(failures::bad_policy_arn(&input.arn));
        }
        let policies = subject.policies(&snapshot, context);
        let mut namespaces = input.service_namespaces;
        namespaces.sort();
        namespaces.dedup();
        let page = page(namespaces, Clone::clone, input.marker.as_deref(), None)?.map(|namespace| {
            let granting = policies
                .iter()
                .filter(|policy| Access::of([&*policy.document]).gives(&namespace))
                .map(|policy| policy.entry.clone())
                .collect();
            types::ListPoliciesGrantingServiceAccessEntry {
                policies: Some(granting),
                service_namespace: Some(namespace),
            }
        });
        Ok(types::ListPoliciesGrantingServiceAccessResponse {
            is_truncated: page.is_truncated,
            marker: page.marker,
            policies_granting_service_access: page.items,
        })
    }
}

fn last_accessed(
    partition: Partition,
    job: &AccessJob,
    service: &ServiceAccess,
) -> types::ServiceLastAccessed {
    let last = service.uses.iter().max_by_key(|(_, used)| used.at);
    let entity = last.and_then(|(place, _)| job.entities.get(*place as usize));
    types::ServiceLastAccessed {
        last_authenticated: last.map(|(_, used)| used.at),
        last_authenticated_entity: entity.map(|entity| entity_info(partition, job.account, entity).arn),
        last_authenticated_region: last.map(|(_, used)| used.region.to_string()),
        service_name: service_name(&service.namespace).to_owned(),
        service_namespace: service.namespace.clone(),
        total_authenticated_entities: Some(i32::try_from(service.uses.len()).unwrap_or(i32::MAX)),
        tracked_actions_last_accessed: None,
    }
}

fn entity_info(partition: Partition, account: AccountId, entity: &AccessEntity) -> types::EntityInfo {
    let (kind, owner) = match entity.kind {
        EntityKind::User => ("user", types::PolicyOwnerEntityType::User),
        EntityKind::Role => ("role", types::PolicyOwnerEntityType::Role),
    };
    types::EntityInfo {
        arn: names::arn(partition, account, kind, &entity.path, &entity.name),
        id: entity.id.clone(),
        name: entity.name.clone(),
        path: Some(entity.path.clone()),
        r#type: owner,
    }
}
