//! What IAM is asked about IAM's own operations: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for AWS Identity and
//! Access Management (IAM)". An entity that exists is asked for under its own path and with its tags;
//! one that does not, under its name alone. To make something with tags takes the permission to tag
//! it, too (IAM User Guide, "Tags for AWS Identity and Access Management resources").
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationTable, Check, Entry, OperationRequest, Required, Resource, ServiceAuthorization,
};
use wharf_core::{ApiError, Principal};

use crate::find::{self, AnyPolicy};
use crate::handlers::{oidc_provider_name, saml_provider_name, service_linked_role_name};
use crate::records::{
    AccessKey, Account, Group, InstanceProfile, OidcProvider, Policies, Role, SamlProvider,
    ServerCertificate, User,
};
use crate::{Iam, names};

type Request<'a> = OperationRequest<'a>;
type Answer = Result<Required, ApiError>;

const BOUNDARY: &str = "iam:PermissionsBoundary";
const POLICY_ARN: &str = "iam:PolicyARN";

const ENTRIES: &[Entry<Iam>] = &[
    Entry::new("AddRoleToInstanceProfile", add_role_to_instance_profile),
    Entry::new("AddUserToGroup", on_group),
    Entry::new("AttachGroupPolicy", |iam, request| {
        Ok(with_policy_arn(request, request.on([group(iam, request)])).into())
    }),
    Entry::new("AttachRolePolicy", attached_to_role),
    Entry::new("AttachUserPolicy", attached_to_user),
    Entry::new("ChangePassword", change_password),
    Entry::new("CreateAccessKey", on_user),
    Entry::new("CreateAccountAlias", on_any),
    Entry::new("CreateGroup", |_, request| Ok(request.on([made(request, "group", "GroupName")]).into())),
    Entry::new("CreateInstanceProfile", |_, request| {
        Ok(tagged(
            request,
            made(request, "instance-profile", "InstanceProfileName"),
            "iam:TagInstanceProfile",
        ))
    }),
    Entry::new("CreateLoginProfile", on_user),
    Entry::new("CreatePolicy", |_, request| {
        Ok(tagged(request, made(request, "policy", "PolicyName"), "iam:TagPolicy"))
    }),
    Entry::new("CreatePolicyVersion", on_policy),
    Entry::new("CreateRole", |_, request| {
        Ok(tagged(request, made(request, "role", "RoleName"), "iam:TagRole"))
    }),
    Entry::new("CreateServiceLinkedRole", create_service_linked_role),
    Entry::new("CreateUser", |_, request| {
        Ok(tagged(request, made(request, "user", "UserName"), "iam:TagUser"))
    }),
    Entry::new("DeleteAccessKey", on_user),
    Entry::new("DeleteAccountAlias", on_any),
    Entry::new("DeleteAccountPasswordPolicy", on_any),
    Entry::new("DeleteGroup", on_group),
    Entry::new("DeleteGroupPolicy", on_group),
    Entry::new("DeleteInstanceProfile", on_instance_profile),
    Entry::new("DeleteLoginProfile", on_user),
    Entry::new("DeletePolicy", on_policy),
    Entry::new("DeletePolicyVersion", on_policy),
    Entry::new("DeleteRole", on_bounded_role),
    Entry::new("DeleteRolePermissionsBoundary", on_bounded_role),
    Entry::new("DeleteRolePolicy", on_bounded_role),
    Entry::new("DeleteServerCertificate", on_server_certificate),
    Entry::new("DeleteServiceLinkedRole", on_role),
    Entry::new("DeleteUser", on_user),
    Entry::new("DeleteUserPermissionsBoundary", on_bounded_user),
    Entry::new("DeleteUserPolicy", on_bounded_user),
    Entry::new("DetachGroupPolicy", |iam, request| {
        Ok(with_policy_arn(request, request.on([group(iam, request)])).into())
    }),
    Entry::new("DetachRolePolicy", attached_to_role),
    Entry::new("DetachUserPolicy", attached_to_user),
    Entry::new("GenerateCredentialReport", on_any),
    Entry::new("GenerateServiceLastAccessedDetails", on_arn),
    Entry::new("GetAccessKeyLastUsed", get_access_key_last_used),
    Entry::new("GetAccountAuthorizationDetails", on_any),
    Entry::new("GetAccountPasswordPolicy", on_any),
    Entry::new("GetAccountSummary", on_any),
    Entry::new("GetCredentialReport", on_any),
    Entry::new("GetGroup", on_group),
    Entry::new("GetGroupPolicy", on_group),
    Entry::new("GetInstanceProfile", on_instance_profile),
    Entry::new("GetLoginProfile", on_user),
    Entry::new("GetPolicy", on_policy),
    Entry::new("GetPolicyVersion", on_policy),
    Entry::new("GetRole", on_bounded_role),
    Entry::new("GetRolePolicy", on_role),
    Entry::new("GetServerCertificate", on_server_certificate),
    Entry::new("GetServiceLastAccessedDetails", on_any),
    Entry::new("GetServiceLastAccessedDetailsWithEntities", on_any),
    Entry::new("GetServiceLinkedRoleDeletionStatus", get_service_linked_role_deletion_status),
    Entry::new("GetUser", on_user),
    Entry::new("GetUserPolicy", on_user),
    Entry::new("ListAccessKeys", on_user),
    Entry::new("ListAccountAliases", on_any),
    Entry::new("ListAttachedGroupPolicies", on_group),
    Entry::new("ListAttachedRolePolicies", on_role),
    Entry::new("ListAttachedUserPolicies", on_user),
    Entry::new("ListEntitiesForPolicy", on_policy),
    Entry::new("ListGroupPolicies", on_group),
    Entry::new("ListGroups", |_, request| Ok(under_path(request, "group"))),
    Entry::new("ListGroupsForUser", on_user),
    Entry::new("ListInstanceProfileTags", on_instance_profile),
    Entry::new("ListInstanceProfiles", |_, request| Ok(under_path(request, "instance-profile"))),
    Entry::new("ListInstanceProfilesForRole", on_role),
    Entry::new("ListPolicies", on_any),
    Entry::new("ListPoliciesGrantingServiceAccess", on_arn),
    Entry::new("ListPolicyTags", on_policy),
    Entry::new("ListPolicyVersions", on_policy),
    Entry::new("ListRolePolicies", on_role),
    Entry::new("ListRoleTags", on_role),
    Entry::new("ListRoles", |_, request| Ok(under_path(request, "role"))),
    Entry::new("ListSSHPublicKeys", on_user),
    Entry::new("ListServerCertificateTags", on_server_certificate),
    Entry::new("ListServerCertificates", |_, request| Ok(under_path(request, "server-certificate"))),
    Entry::new("ListServiceSpecificCredentials", on_user),
    Entry::new("ListSigningCertificates", on_user),
    Entry::new("ListUserPolicies", on_user),
    Entry::new("ListUserTags", on_user),
    Entry::new("ListUsers", |_, request| Ok(under_path(request, "user"))),
    Entry::new("ListVirtualMFADevices", on_any),
    Entry::new("PutGroupPolicy", on_group),
    Entry::new("PutRolePermissionsBoundary", |iam, request| {
        Ok(asked_boundary(request, role(iam, request).0))
    }),
    Entry::new("PutRolePolicy", on_bounded_role),
    Entry::new("PutUserPermissionsBoundary", |iam, request| {
        Ok(asked_boundary(request, user(iam, request).0))
    }),
    Entry::new("PutUserPolicy", on_bounded_user),
    Entry::new("RemoveRoleFromInstanceProfile", on_instance_profile),
    Entry::new("RemoveUserFromGroup", on_group),
    Entry::new("SetDefaultPolicyVersion", on_policy),
    Entry::new("TagInstanceProfile", |iam, request| Ok(tagging(request, instance_profile(iam, request)))),
    Entry::new("TagPolicy", |iam, request| Ok(tagging(request, policy(iam, request)))),
    Entry::new("TagRole", |iam, request| Ok(tagging(request, role(iam, request).0))),
    Entry::new("TagServerCertificate", |iam, request| Ok(tagging(request, server_certificate(iam, request)))),
    Entry::new("TagUser", |iam, request| Ok(tagging(request, user(iam, request).0))),
    Entry::new("UntagInstanceProfile", |iam, request| Ok(untagging(request, instance_profile(iam, request)))),
    Entry::new("UntagPolicy", |iam, request| Ok(untagging(request, policy(iam, request)))),
    Entry::new("UntagRole", |iam, request| Ok(untagging(request, role(iam, request).0))),
    Entry::new("UntagServerCertificate", |iam, request| {
        Ok(untagging(request, server_certificate(iam, request)))
    }),
    Entry::new("UntagUser", |iam, request| Ok(untagging(request, user(iam, request).0))),
    Entry::new("UpdateAccessKey", on_user),
    Entry::new("UpdateAccountPasswordPolicy", on_any),
    Entry::new("UpdateAssumeRolePolicy", on_bounded_role),
    Entry::new("UpdateGroup", update_group),
    Entry::new("UpdateLoginProfile", on_user),
    Entry::new("UpdateRole", on_bounded_role),
    Entry::new("UpdateRoleDescription", on_bounded_role),
    Entry::new("UpdateServerCertificate", on_server_certificate),
    Entry::new("UpdateUser", update_user),
    Entry::new("UploadServerCertificate", |_, request| {
        Ok(tagged(
            request,
            made(request, "server-certificate", "ServerCertificateName"),
            "iam:TagServerCertificate",
        ))
    }),
    Entry::new("AddClientIDToOpenIDConnectProvider", on_oidc_provider),
    Entry::new("CreateOpenIDConnectProvider", create_oidc_provider),
    Entry::new("CreateSAMLProvider", create_saml_provider),
    Entry::new("DeleteOpenIDConnectProvider", on_oidc_provider),
    Entry::new("DeleteSAMLProvider", on_saml_provider),
    Entry::new("GetContextKeysForCustomPolicy", on_any),
    Entry::new("GetContextKeysForPrincipalPolicy", on_policy_source),
    Entry::new("GetOpenIDConnectProvider", on_oidc_provider),
    Entry::new("GetSAMLProvider", on_saml_provider),
    Entry::new("ListMFADevices", on_user),
    Entry::new("ListOpenIDConnectProviderTags", on_oidc_provider),
    Entry::new("ListOpenIDConnectProviders", on_any),
    Entry::new("ListSAMLProviderTags", on_saml_provider),
    Entry::new("ListSAMLProviders", on_any),
    Entry::new("RemoveClientIDFromOpenIDConnectProvider", on_oidc_provider),
    Entry::new("SimulateCustomPolicy", on_any),
    Entry::new("SimulatePrincipalPolicy", on_policy_source),
    Entry::new("UpdateOpenIDConnectProviderThumbprint", on_oidc_provider),
    Entry::new("UpdateSAMLProvider", on_saml_provider),
    Entry::new("TagOpenIDConnectProvider", |iam, request| Ok(tagging(request, oidc_provider(iam, request)))),
    Entry::new("TagSAMLProvider", |iam, request| Ok(tagging(request, saml_provider(iam, request)))),
    Entry::new("UntagOpenIDConnectProvider", |iam, request| {
        Ok(untagging(request, oidc_provider(iam, request)))
    }),
    Entry::new("UntagSAMLProvider", |iam, request| Ok(untagging(request, saml_provider(iam, request)))),
];

/// The table, for the pipeline.
pub fn authorization(iam: &Arc<Iam>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_iam_api::MODEL, Arc::clone(iam), ENTRIES)
}

/// The operations that have an entry.
#[cfg(test)]
pub fn operations() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|entry| entry.operation)
}

fn on_any(_: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on_any().into())
}

/// A listing is asked for on the path that it is of, as AWS's denials show: `user/`, `role/app/`.
fn under_path(request: &Request<'_>, kind: &str) -> Required {
    let path = request.text("PathPrefix").unwrap_or(names::ROOT_PATH);
    request.on([request.global("iam", format!("{kind}{path}"))]).into()
}

fn on_user(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([user(iam, request).0]).into())
}

fn on_group(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([group(iam, request)]).into())
}

fn on_role(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([role(iam, request).0]).into())
}

fn on_policy(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([policy(iam, request)]).into())
}

fn on_instance_profile(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([instance_profile(iam, request)]).into())
}

fn on_server_certificate(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([server_certificate(iam, request)]).into())
}

fn on_arn(_: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on(request.text("Arn").map(|arn| request.named(arn))).into())
}

/// With the boundary that the role has.
fn on_bounded_role(iam: &Iam, request: &Request<'_>) -> Answer {
    let (role, boundary) = role(iam, request);
    Ok(request.on([role]).with_some(BOUNDARY, boundary).into())
}

fn on_bounded_user(iam: &Iam, request: &Request<'_>) -> Answer {
    let (user, boundary) = user(iam, request);
    Ok(request.on([user]).with_some(BOUNDARY, boundary).into())
}

fn attached_to_role(iam: &Iam, request: &Request<'_>) -> Answer {
    let (role, boundary) = role(iam, request);
    Ok(with_policy_arn(request, request.on([role]).with_some(BOUNDARY, boundary)).into())
}

fn attached_to_user(iam: &Iam, request: &Request<'_>) -> Answer {
    let (user, boundary) = user(iam, request);
    Ok(with_policy_arn(request, request.on([user]).with_some(BOUNDARY, boundary)).into())
}

fn with_policy_arn(request: &Request<'_>, check: Check) -> Check {
    check.with_some(POLICY_ARN, request.text("PolicyArn"))
}

/// With the boundary that the request would set.
fn asked_boundary(request: &Request<'_>, resource: Resource) -> Required {
    request.on([resource]).with_some(BOUNDARY, request.text("PermissionsBoundary")).into()
}

/// Something is made, perhaps with a boundary and with tags.
fn tagged(request: &Request<'_>, new: Resource, tag_action: &'static str) -> Required {
    let tags = request.tags("Tags");
    let check = request
        .on([new.clone()])
        .with_some(BOUNDARY, request.text("PermissionsBoundary"))
        .with_request_tags(&tags);
    let mut checks = vec![check];
    if !tags.is_empty() {
        checks.push(request.action(tag_action, [new]).with_request_tags(&tags));
    }
    checks.into()
}

fn tagging(request: &Request<'_>, resource: Resource) -> Required {
    request.on([resource]).with_request_tags(&request.tags("Tags")).into()
}

fn untagging(request: &Request<'_>, resource: Resource) -> Required {
    let keys = request.texts("TagKeys").into_iter().map(str::to_owned);
    request.on([resource]).with_tag_keys(keys).into()
}

fn add_role_to_instance_profile(iam: &Iam, request: &Request<'_>) -> Answer {
    let (role, _) = role(iam, request);
    let pass = request.pass_role(&role.arn, "ec2.amazonaws.com");
    Ok(vec![request.on([instance_profile(iam, request)]), pass].into())
}

/// An account may let every user change the own password, whatever policies say.
fn change_password(iam: &Iam, request: &Request<'_>) -> Answer {
    let account = iam.store.snapshot().get::<Account>(&request.context.account());
    let policy = account.as_ref().and_then(|account| account.password_policy.as_ref());
    if policy.is_some_and(|policy| policy.allow_users_to_change) {
        return Ok(Required::Nothing);
    }
    on_user(iam, request)
}

fn create_service_linked_role(_: &Iam, request: &Request<'_>) -> Answer {
    let service = request.text("AWSServiceName").unwrap_or_default();
    let name =
        service_linked_role_name(service, request.text("CustomSuffix")).unwrap_or_else(|| "*".to_owned());
    let role = request.global("iam", format!("role/aws-service-role/{service}/{name}"));
    Ok(request.on([role]).with("iam:AWSServiceName", service).into())
}

/// The role of `task/aws-service-role/SERVICE/ROLE/UUID`.
fn get_service_linked_role_deletion_status(_: &Iam, request: &Request<'_>) -> Answer {
    let task = request.text("DeletionTaskId").unwrap_or_default();
    let role =
        task.strip_prefix("task/").and_then(|rest| rest.rsplit_once('/')).map_or("*", |(role, _)| role);
    Ok(request.on([request.global("iam", format!("role/{role}"))]).into())
}

fn get_access_key_last_used(iam: &Iam, request: &Request<'_>) -> Answer {
    let snapshot = iam.store.snapshot();
    let account = request.context.account();
    let key = snapshot.get::<AccessKey>(&request.text("AccessKeyId").unwrap_or_default().to_owned());
    let user = key
        .filter(|key| key.account == account)
        .and_then(|key| snapshot.get::<User>(&(account, key.user.clone()?)));
    Ok(request.on(user.map(|user| user_resource(request, &user))).into())
}

/// Renaming takes the permission on both names.
fn update_user(iam: &Iam, request: &Request<'_>) -> Answer {
    let (user, _) = user(iam, request);
    Ok(request.on(renamed(request, user, "user", "UserName", ("NewPath", "NewUserName"))).into())
}

fn update_group(iam: &Iam, request: &Request<'_>) -> Answer {
    let group = group(iam, request);
    Ok(request.on(renamed(request, group, "group", "GroupName", ("NewPath", "NewGroupName"))).into())
}

fn renamed(
    request: &Request<'_>,
    old: Resource,
    kind: &str,
    name_member: &str,
    (new_path, new_name): (&str, &str),
) -> Vec<Resource> {
    if request.text(new_path).is_none() && request.text(new_name).is_none() {
        return vec![old];
    }
    let tail = old.arn.split_once(&format!(":{kind}/")).map_or("", |(_, tail)| tail);
    let old_path = tail.rsplit_once('/').map_or_else(|| "/".to_owned(), |(path, _)| format!("/{path}/"));
    let path = request.text(new_path).unwrap_or(&old_path);
    let name = request.text(new_name).or_else(|| request.text(name_member)).unwrap_or_default();
    let new = request.global("iam", format!("{kind}{path}{name}")).with_tags(&old.tags);
    vec![old, new]
}

/// What the request would make: under its path.
fn made(request: &Request<'_>, kind: &str, name_member: &str) -> Resource {
    let path = request.text("Path").unwrap_or(names::ROOT_PATH);
    request.global("iam", format!("{kind}{path}{}", request.text(name_member).unwrap_or_default()))
}

fn user_resource(request: &Request<'_>, user: &User) -> Resource {
    request.global("iam", format!("user{}{}", user.path, user.name)).with_tags(&user.tags)
}

/// The ARN of a boundary, for its condition key.
fn boundary_arn(request: &Request<'_>, policies: &Policies) -> Option<String> {
    policies.boundary.as_ref().map(|policy| names::policy_arn(request.context.partition(), policy))
}

/// The user that the request names, or else its caller; and the user's boundary.
fn user(iam: &Iam, request: &Request<'_>) -> (Resource, Option<String>) {
    let snapshot = iam.store.snapshot();
    let account = request.context.account();
    let found = match (request.text("UserName"), &request.context.principal) {
        (Some(name), _) => match find::named::<User>(&snapshot, account, name) {
            Some(user) => user,
            None => return (request.global("iam", format!("user/{name}")), None),
        },
        (None, principal) => {
            let user = match principal {
                Principal::User { id, .. } => snapshot.get::<User>(&(account, id.to_string())),
                _ => None,
            };
            match user {
                Some(user) => user,
                None => return (Resource::new(principal.arn(request.context.partition()), account), None),
            }
        }
    };
    (user_resource(request, &found), boundary_arn(request, &found.policies))
}

fn group(iam: &Iam, request: &Request<'_>) -> Resource {
    let name = request.text("GroupName").unwrap_or_default();
    match find::named::<Group>(&iam.store.snapshot(), request.context.account(), name) {
        Some(group) => request.global("iam", format!("group{}{}", group.path, group.name)),
        None => request.global("iam", format!("group/{name}")),
    }
}

/// The role that the request names, and its boundary.
fn role(iam: &Iam, request: &Request<'_>) -> (Resource, Option<String>) {
    let name = request.text("RoleName").unwrap_or_default();
    match find::named::<Role>(&iam.store.snapshot(), request.context.account(), name) {
        Some(role) => (
            request.global("iam", format!("role{}{}", role.path, role.name)).with_tags(&role.tags),
            boundary_arn(request, &role.policies),
        ),
        None => (request.global("iam", format!("role/{name}")), None),
    }
}

fn policy(iam: &Iam, request: &Request<'_>) -> Resource {
    let arn = request.text("PolicyArn").unwrap_or("*");
    let name = names::policy_of_arn(request.context.partition(), arn);
    let found = name.and_then(|name| find::policy(&iam.store.snapshot(), request.context.account(), &name));
    match found {
        Some(AnyPolicy::Customer(policy)) => {
            request.global("iam", format!("policy{}{}", policy.path, policy.name)).with_tags(&policy.tags)
        }
        // The policies of AWS belong to nobody else: whoever may read policies may read them. No
        // handler looks at another account's.
        Some(AnyPolicy::Aws(_)) | None => Resource::new(arn, request.context.account()),
    }
}

fn instance_profile(iam: &Iam, request: &Request<'_>) -> Resource {
    let name = request.text("InstanceProfileName").unwrap_or_default();
    match find::named::<InstanceProfile>(&iam.store.snapshot(), request.context.account(), name) {
        Some(profile) => request
            .global("iam", format!("instance-profile{}{}", profile.path, profile.name))
            .with_tags(&profile.tags),
        None => request.global("iam", format!("instance-profile/{name}")),
    }
}

fn server_certificate(iam: &Iam, request: &Request<'_>) -> Resource {
    let name = request.text("ServerCertificateName").unwrap_or_default();
    match find::named::<ServerCertificate>(&iam.store.snapshot(), request.context.account(), name) {
        Some(found) => request
            .global("iam", format!("server-certificate{}{}", found.path, found.name))
            .with_tags(&found.tags),
        None => request.global("iam", format!("server-certificate/{name}")),
    }
}

fn on_oidc_provider(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([oidc_provider(iam, request)]).into())
}

fn on_saml_provider(iam: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on([saml_provider(iam, request)]).into())
}

fn create_oidc_provider(_: &Iam, request: &Request<'_>) -> Answer {
    let name = wharf_contracts::OidcProvider::name_of(request.text("Url").unwrap_or("*"));
    let new = request.global("iam", format!("oidc-provider/{name}"));
    Ok(tagged(request, new, "iam:TagOpenIDConnectProvider"))
}

fn create_saml_provider(_: &Iam, request: &Request<'_>) -> Answer {
    let name = request.text("Name").unwrap_or("*");
    Ok(tagged(request, request.global("iam", format!("saml-provider/{name}")), "iam:TagSAMLProvider"))
}

/// The user, group or role whose policies are looked at.
fn on_policy_source(_: &Iam, request: &Request<'_>) -> Answer {
    Ok(request.on(request.text("PolicySourceArn").map(|arn| request.named(arn))).into())
}

fn oidc_provider(iam: &Iam, request: &Request<'_>) -> Resource {
    let arn = request.text("OpenIDConnectProviderArn").unwrap_or("*");
    let name = oidc_provider_name(request.context, arn);
    let found = name.and_then(|name| {
        iam.store.snapshot().get::<OidcProvider>(&(request.context.account(), name.to_owned()))
    });
    match found {
        Some(found) => request.named(arn).with_tags(&found.tags),
        None => request.named(arn),
    }
}

fn saml_provider(iam: &Iam, request: &Request<'_>) -> Resource {
    let arn = request.text("SAMLProviderArn").unwrap_or("*");
    let name = saml_provider_name(request.context, arn);
    let found = name.and_then(|name| {
        iam.store.snapshot().get::<SamlProvider>(&(request.context.account(), name.to_owned()))
    });
    match found {
        Some(found) => request.named(arn).with_tags(&found.tags),
        None => request.named(arn),
    }
}
