//! From records to what an answer shows.

use std::sync::Arc;

use wharf_core::{AccountId, Partition};
use wharf_iam_api::types;

use crate::find::{self, AnyPolicy, Read};
use crate::records::{
    Group, InstanceProfile, Policies, PolicyName, Role, ServerCertificate, UseRecord, User,
};
use crate::{document, names, tags};

/// How much of an entity an answer shows: a listing leaves out tags, boundary and last use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Listed,
    Full,
}

pub fn user(partition: Partition, user: &User, detail: Detail) -> types::User {
    let full = detail == Detail::Full;
    types::User {
        arn: find::user_arn(partition, user),
        create_date: user.created_at,
        // Nobody can sign in with a password: there is no console to sign in to.
        password_last_used: None,
        path: user.path.clone(),
        permissions_boundary: boundary(partition, &user.policies).filter(|_| full),
        tags: tags::described(&user.tags).filter(|_| full),
        user_id: user.id.clone(),
        user_name: user.name.clone(),
    }
}

pub fn group(partition: Partition, group: &Group) -> types::Group {
    types::Group {
        arn: names::arn(partition, group.account, "group", &group.path, &group.name),
        create_date: group.created_at,
        group_id: group.id.clone(),
        group_name: group.name.clone(),
        path: group.path.clone(),
    }
}

pub fn role_arn(partition: Partition, role: &Role) -> String {
    names::arn(partition, role.account, "role", &role.path, &role.name)
}

/// A role; `used` is its last use, for the answers that tell it.
pub fn role(
    partition: Partition,
    role: &Role,
    detail: Detail,
    used: Option<types::RoleLastUsed>,
) -> types::Role {
    let full = detail == Detail::Full;
    types::Role {
        arn: role_arn(partition, role),
        assume_role_policy_document: Some(document::encoded(&role.trust_policy)),
        create_date: role.created_at,
        description: role.description.clone(),
        max_session_duration: Some(role.max_session_seconds.cast_signed()),
        path: role.path.clone(),
        permissions_boundary: boundary(partition, &role.policies).filter(|_| full),
        role_id: role.id.clone(),
        role_last_used: used,
        role_name: role.name.clone(),
        source_role_template: None,
        tags: tags::described(&role.tags).filter(|_| full),
    }
}

/// Empty when the role was never used.
pub fn last_used(used: Option<&UseRecord>) -> types::RoleLastUsed {
    types::RoleLastUsed {
        last_used_date: used.map(|used| used.last.at),
        region: used.map(|used| used.last.region.to_string()),
    }
}

pub fn boundary(partition: Partition, policies: &Policies) -> Option<types::AttachedPermissionsBoundary> {
    policies.boundary.as_ref().map(|policy| types::AttachedPermissionsBoundary {
        permissions_boundary_arn: Some(names::policy_arn(partition, policy)),
        permissions_boundary_type: Some(types::PermissionsBoundaryAttachmentType::PermissionsBoundaryPolicy),
    })
}

pub fn attached(partition: Partition, policy: &PolicyName) -> types::AttachedPolicy {
    types::AttachedPolicy {
        policy_arn: Some(names::policy_arn(partition, policy)),
        policy_name: Some(policy.name().to_owned()),
    }
}

/// The inline policies of a user, group or role.
pub fn inline(policies: &Policies) -> Vec<types::PolicyDetail> {
    policies
        .inline
        .iter()
        .map(|(name, text)| types::PolicyDetail {
            policy_document: Some(document::encoded(text)),
            policy_name: Some(name.clone()),
        })
        .collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub fn policy(
    read: &impl Read,
    partition: Partition,
    account: AccountId,
    policy: &AnyPolicy,
    detail: Detail,
) -> types::Policy {
    let full = detail == Detail::Full;
    let name = policy.full_name();
    let common = types::Policy {
        arn: Some(names::policy_arn(partition, &name)),
        attachment_count: Some(count(find::attachments(read, account, &name))),
        is_attachable: Some(true),
        path: Some(policy.path().to_owned()),
        permissions_boundary_usage_count: Some(count(find::boundary_uses(read, account, &name))),
        policy_name: Some(policy.name().to_owned()),
        ..types::Policy::default()
    };
    match policy {
        AnyPolicy::Customer(policy) => types::Policy {
            create_date: Some(policy.created_at),
            default_version_id: Some(version_id(policy.default_version)),
            description: policy.description.clone().filter(|_| full),
            policy_id: Some(policy.id.clone()),
            // As AWS: an answer about one policy has the list, even when it is empty.
            tags: full.then(|| tags::listed(&policy.tags)),
            update_date: Some(policy.updated_at),
            ..common
        },
        AnyPolicy::Aws(policy) => types::Policy {
            create_date: Some(policy.created_at),
            default_version_id: Some(version_id(policy.version)),
            description: Some(policy.description.clone()).filter(|_| full),
            policy_id: Some(policy.id.clone()),
            tags: full.then(Vec::new),
            update_date: Some(policy.updated_at),
            ..common
        },
    }
}

pub fn version_id(number: u32) -> String {
    format!("v{number}")
}

/// The versions of a policy, the newest first.
pub fn versions(policy: &AnyPolicy, with_documents: WithDocuments) -> Vec<types::PolicyVersion> {
    let version = |number: u32, created_at, text: &Arc<str>, default: u32| types::PolicyVersion {
        create_date: Some(created_at),
        document: (with_documents == WithDocuments::Yes).then(|| document::encoded(text)),
        is_default_version: Some(number == default),
        version_id: Some(version_id(number)),
    };
    match policy {
        AnyPolicy::Customer(policy) => policy
            .versions
            .iter()
            .rev()
            .map(|of| version(of.number, of.created_at, &of.document, policy.default_version))
            .collect(),
        AnyPolicy::Aws(policy) => {
            vec![version(policy.version, policy.updated_at, &policy.document, policy.version)]
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WithDocuments {
    Yes,
    No,
}

pub fn instance_profile(
    read: &impl Read,
    partition: Partition,
    profile: &InstanceProfile,
    detail: Detail,
) -> types::InstanceProfile {
    let id = profile.role.as_ref();
    let role = id.and_then(|id| read.record::<Role>(&(profile.account, id.clone())));
    types::InstanceProfile {
        arn: names::arn(partition, profile.account, "instance-profile", &profile.path, &profile.name),
        create_date: profile.created_at,
        instance_profile_id: profile.id.clone(),
        instance_profile_name: profile.name.clone(),
        path: profile.path.clone(),
        roles: role.iter().map(|role| self::role(partition, role, Detail::Listed, None)).collect(),
        tags: (detail == Detail::Full).then(|| tags::listed(&profile.tags)),
    }
}

pub fn certificate(
    partition: Partition,
    certificate: &ServerCertificate,
) -> types::ServerCertificateMetadata {
    types::ServerCertificateMetadata {
        arn: names::arn(
            partition,
            certificate.account,
            "server-certificate",
            &certificate.path,
            &certificate.name,
        ),
        expiration: Some(certificate.expires_at),
        path: certificate.path.clone(),
        server_certificate_id: certificate.id.clone(),
        server_certificate_name: certificate.name.clone(),
        upload_date: Some(certificate.uploaded_at),
    }
}
