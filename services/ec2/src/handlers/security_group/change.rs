//! What makes, changes and removes security groups and their rules.

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext, Scope};
use wharf_ec2_api::types;
use wharf_state::{Key as _, Transaction};

use super::rule::{self, Wanted};
use crate::Ec2Service;
use crate::plan::default_network::id as new_id;
use crate::records::{
    Direction, NetworkInterface, Peer, ResourceTags, SecurityGroup, SecurityGroupRule, Traffic, Vpc,
};
use crate::select::{check_dry_run, shortened};
use crate::tags::{self, Tags};
use crate::view::View;

/// "VPC security groups per Region" of the Amazon VPC quotas.
const GROUPS_MAX: usize = 2500;
/// "Inbound or outbound rules per security group".
const RULES_MAX: usize = 60;
const NAME_CHARS_MAX: usize = 255;

pub fn group_not_found(id: &str) -> ApiError {
    let message = format!("The security group '{}' does not exist", shortened(id));
    ApiError::sender("InvalidGroup.NotFound", message)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::sender("InvalidParameterValue", message.into())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name == SecurityGroup::DEFAULT {
        return Err(invalid("Cannot use reserved security group name: default"));
    }
    if name.starts_with("sg-") {
        let name = shortened(name);
        return Err(invalid(format!(
            "Value ({name}) for parameter GroupName is invalid. Group names may not be in the format sg-*"
        )));
    }
    if name.is_empty()
        || name.chars().count() > NAME_CHARS_MAX
        || !name.chars().all(rule::is_description_character)
    {
        return Err(invalid(format!(
            "Value ({}) for parameter GroupName is invalid. Character sets beyond ASCII are not supported.",
            shortened(name)
        )));
    }
    Ok(())
}

fn check_description(text: &str) -> Result<(), ApiError> {
    if text.chars().count() > NAME_CHARS_MAX || !text.chars().all(rule::is_description_character) {
        return Err(invalid(
            "Invalid security group description. Valid descriptions are strings less than 256 characters from \
             the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        ));
    }
    if text.is_empty() {
        let message = "The request must contain the parameter GroupDescription";
        return Err(ApiError::sender("MissingParameter", message));
    }
    Ok(())
}

pub async fn create(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::CreateSecurityGroupRequest,
) -> Result<types::CreateSecurityGroupResult, ApiError> {
    check_name(&input.group_name)?;
    check_description(&input.description)?;
    let tags =
        tags::of_specifications(input.tag_specifications.as_deref(), &types::ResourceType::SecurityGroup)?;
    check_dry_run(input.dry_run)?;
    let scope = &context.scope;
    let view = ec2.view(scope).await?;
    let vpc_id = match &input.vpc_id {
        Some(id) => id.clone(),
        None => view
            .default_vpc()
            .map(|vpc| vpc.id.clone())
            .ok_or_else(|| ApiError::sender("VPCIdNotSpecified", "No default VPC for this user"))?,
    };
    let group = SecurityGroup {
        scope: scope.clone(),
        id: new_id("sg", &*ec2.rng),
        vpc_id: vpc_id.clone(),
        name: input.group_name.clone(),
        description: input.description.clone(),
        rules: vec![SecurityGroupRule {
            id: new_id("sgr", &*ec2.rng),
            direction: Direction::Egress,
            peer: Peer::Cidr(wharf_network::Ipv4Cidr::EVERYWHERE),
            traffic: Traffic::All,
            description: None,
        }],
    };
    let id = group.id.clone();
    ec2.store
        .transact(|transaction| {
            if transaction.get::<Vpc>(&(scope.clone(), vpc_id.clone())).is_none() {
                let message = format!("The vpc ID '{}' does not exist", shortened(&vpc_id));
                return Err(ApiError::sender("InvalidVpcID.NotFound", message));
            }
            let mut count = 0;
            for other in transaction.prefix::<SecurityGroup>(&scope.to_bytes()) {
                count += 1;
                if other.vpc_id == group.vpc_id && other.name == group.name {
                    let message = format!(
                        "The security group '{}' already exists for VPC '{vpc_id}'",
                        shortened(&group.name)
                    );
                    return Err(ApiError::sender("InvalidGroup.Duplicate", message));
                }
            }
            if count >= GROUPS_MAX {
                let message = "The maximum number of security groups has been reached.";
                return Err(ApiError::sender("SecurityGroupLimitExceeded", message));
            }
            tags::put(transaction, scope, &group.id, &tags)?;
            transaction.put(group);
            Ok(())
        })
        .await?;
    ec2.apply_policy(scope, &vpc_id).await?;
    Ok(types::CreateSecurityGroupResult {
        security_group_arn: Some(view.arn(format!("security-group/{id}"))),
        group_id: Some(id),
        tags: Some(tags::to_api(&tags)),
    })
}

pub async fn delete(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::DeleteSecurityGroupRequest,
) -> Result<types::DeleteSecurityGroupResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let scope = &context.scope;
    let view = ec2.view(scope).await?;
    let id = named(&view, input.group_id.as_ref(), input.group_name.as_ref())?;
    let vpc_id = ec2
        .store
        .transact(|transaction| {
            let key = (scope.clone(), id.clone());
            let group = transaction.get::<SecurityGroup>(&key).ok_or_else(|| group_not_found(&id))?;
            if group.name == SecurityGroup::DEFAULT {
                let message = format!(
                    "the specified group: \"{id}\" name: \"{}\" cannot be deleted by a user",
                    group.name
                );
                return Err(ApiError::sender("CannotDelete", message));
            }
            let prefix = scope.to_bytes();
            let used = transaction
                .prefix::<NetworkInterface>(&prefix)
                .any(|interface| interface.security_group_ids.contains(&id));
            let named = transaction.prefix::<SecurityGroup>(&prefix).any(|other| {
                other.id != id && other.rules.iter().any(|rule| rule.peer == Peer::Group(id.clone()))
            });
            if used || named {
                let message = format!("resource {id} has a dependent object");
                return Err(ApiError::sender("DependencyViolation", message));
            }
            for tagged in group.rules.iter().map(|rule| &rule.id).chain([&id]) {
                transaction.delete::<ResourceTags>(&(scope.clone(), tagged.clone()));
            }
            transaction.delete::<SecurityGroup>(&key);
            Ok(group.vpc_id.clone())
        })
        .await?;
    ec2.apply_policy(scope, &vpc_id).await?;
    Ok(types::DeleteSecurityGroupResult { r#return: Some(true), group_id: Some(id) })
}

/// The group of an id, or of a name in the default VPC.
fn named(view: &View, id: Option<&String>, name: Option<&String>) -> Result<String, ApiError> {
    match (id, name) {
        (Some(id), _) => Ok(id.clone()),
        (None, Some(name)) => {
            let vpc = view.default_vpc();
            let vpc_id = vpc.as_ref().map_or("none", |vpc| vpc.id.as_str());
            let mut groups = view.all::<SecurityGroup>();
            groups
                .find(|group| group.name == *name && group.vpc_id == vpc_id)
                .map(|group| group.id.clone())
                .ok_or_else(|| {
                    let message = format!(
                        "The security group '{}' does not exist in default VPC '{vpc_id}'",
                        shortened(name)
                    );
                    ApiError::sender("InvalidGroup.NotFound", message)
                })
        }
        (None, None) => {
            let message = "The request must contain the parameter groupName or groupId";
            Err(ApiError::sender("MissingParameter", message))
        }
    }
}

/// What the four operations on rules have in common.
pub struct Rules {
    direction: Direction,
    group_id: Option<String>,
    group_name: Option<String>,
    permissions: Vec<types::IpPermission>,
    rule_ids: Vec<String>,
    tags: Tags,
    dry_run: Option<bool>,
}

/// The one rule that a request may hold without `IpPermissions`.
struct Single {
    protocol: Option<String>,
    from: Option<i32>,
    to: Option<i32>,
    cidr: Option<String>,
    group_name: Option<String>,
    group_owner: Option<String>,
}

impl Single {
    fn add_to(self, permissions: &mut Vec<types::IpPermission>) {
        if self.protocol.is_none() && self.cidr.is_none() && self.group_name.is_none() {
            return;
        }
        let pair = self.group_name.map(|name| types::UserIdGroupPair {
            group_name: Some(name),
            user_id: self.group_owner,
            ..Default::default()
        });
        permissions.push(types::IpPermission {
            // A group alone stands for all that it sends.
            ip_protocol: self.protocol.or_else(|| pair.is_some().then(|| "-1".to_owned())),
            from_port: self.from,
            to_port: self.to,
            ip_ranges: self
                .cidr
                .map(|cidr| vec![types::IpRange { cidr_ip: Some(cidr), ..Default::default() }]),
            user_id_group_pairs: pair.map(|pair| vec![pair]),
            ..Default::default()
        });
    }
}

macro_rules! rules_of {
    ($input:ident, $direction:expr, $group_id:expr, $group_name:expr, $rule_ids:expr, $tags:expr) => {{
        let mut permissions = $input.ip_permissions.unwrap_or_default();
        Single {
            protocol: $input.ip_protocol,
            from: $input.from_port,
            to: $input.to_port,
            cidr: $input.cidr_ip,
            group_name: $input.source_security_group_name,
            group_owner: $input.source_security_group_owner_id,
        }
        .add_to(&mut permissions);
        Rules {
            direction: $direction,
            group_id: $group_id,
            group_name: $group_name,
            permissions,
            rule_ids: $rule_ids,
            tags: $tags,
            dry_run: $input.dry_run,
        }
    }};
}

const RULE: types::ResourceType = types::ResourceType::SecurityGroupRule;

pub async fn authorize_ingress(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::AuthorizeSecurityGroupIngressRequest,
) -> Result<types::AuthorizeSecurityGroupIngressResult, ApiError> {
    let tags = tags::of_specifications(input.tag_specifications.as_deref(), &RULE)?;
    let rules = rules_of!(input, Direction::Ingress, input.group_id, input.group_name, Vec::new(), tags);
    let added = authorize(ec2, context, rules).await?;
    Ok(types::AuthorizeSecurityGroupIngressResult { r#return: Some(true), security_group_rules: Some(added) })
}

pub async fn authorize_egress(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::AuthorizeSecurityGroupEgressRequest,
) -> Result<types::AuthorizeSecurityGroupEgressResult, ApiError> {
    let tags = tags::of_specifications(input.tag_specifications.as_deref(), &RULE)?;
    let rules = rules_of!(input, Direction::Egress, Some(input.group_id), None, Vec::new(), tags);
    let added = authorize(ec2, context, rules).await?;
    Ok(types::AuthorizeSecurityGroupEgressResult { r#return: Some(true), security_group_rules: Some(added) })
}

pub async fn revoke_ingress(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::RevokeSecurityGroupIngressRequest,
) -> Result<types::RevokeSecurityGroupIngressResult, ApiError> {
    let ids = input.security_group_rule_ids.unwrap_or_default();
    let rules = rules_of!(input, Direction::Ingress, input.group_id, input.group_name, ids, Tags::new());
    let revoked = revoke(ec2, context, rules).await?;
    Ok(types::RevokeSecurityGroupIngressResult {
        r#return: Some(true),
        unknown_ip_permissions: None,
        revoked_security_group_rules: Some(revoked),
    })
}

pub async fn revoke_egress(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::RevokeSecurityGroupEgressRequest,
) -> Result<types::RevokeSecurityGroupEgressResult, ApiError> {
    let ids = input.security_group_rule_ids.unwrap_or_default();
    let rules = rules_of!(input, Direction::Egress, Some(input.group_id), None, ids, Tags::new());
    let revoked = revoke(ec2, context, rules).await?;
    Ok(types::RevokeSecurityGroupEgressResult {
        r#return: Some(true),
        unknown_ip_permissions: None,
        revoked_security_group_rules: Some(revoked),
    })
}

/// A group of the same VPC by the id or name in a permission.
fn peer_group(
    transaction: &Transaction<'_>,
    group: &SecurityGroup,
    pair: &types::UserIdGroupPair,
) -> Result<String, ApiError> {
    let scope = &group.scope;
    if let Some(owner) = &pair.user_id
        && *owner != scope.account.to_string()
    {
        let message = format!("You have specified a group of another account: '{}'", shortened(owner));
        return Err(ApiError::sender("InvalidGroup.NotFound", message));
    }
    if pair.vpc_peering_connection_id.is_some() {
        let message = "the field \"VpcPeeringConnectionId\" of ec2:AuthorizeSecurityGroupIngress";
        return Err(ApiError::not_implemented(message));
    }
    let found: Option<Arc<SecurityGroup>> = match (&pair.group_id, &pair.group_name) {
        (Some(id), _) => transaction.get::<SecurityGroup>(&(scope.clone(), id.clone())),
        (None, Some(name)) => transaction
            .prefix::<SecurityGroup>(&scope.to_bytes())
            .find(|other| other.name == *name && other.vpc_id == group.vpc_id),
        (None, None) => None,
    };
    let named = pair.group_id.as_deref().or(pair.group_name.as_deref()).unwrap_or_default();
    let found = found.ok_or_else(|| group_not_found(named))?;
    if found.vpc_id != group.vpc_id {
        let message =
            format!("You have specified two resources that belong to different networks: '{}'", found.id);
        return Err(ApiError::sender("InvalidGroup.NotFound", message));
    }
    Ok(found.id.clone())
}

fn wanted_of(
    transaction: &Transaction<'_>,
    group: &SecurityGroup,
    permissions: &[types::IpPermission],
) -> Result<Vec<Wanted>, ApiError> {
    rule::wanted(permissions, &|pair| peer_group(transaction, group, pair))
}

fn get(transaction: &Transaction<'_>, scope: &Scope, id: &str) -> Result<Arc<SecurityGroup>, ApiError> {
    transaction.get::<SecurityGroup>(&(scope.clone(), id.to_owned())).ok_or_else(|| group_not_found(id))
}

async fn authorize(
    ec2: &Ec2Service,
    context: &RequestContext,
    asked: Rules,
) -> Result<Vec<types::SecurityGroupRule>, ApiError> {
    check_dry_run(asked.dry_run)?;
    if asked.permissions.is_empty() {
        return Err(ApiError::sender(
            "MissingParameter",
            "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.",
        ));
    }
    let scope = &context.scope;
    let view = ec2.view(scope).await?;
    let id = named(&view, asked.group_id.as_ref(), asked.group_name.as_ref())?;
    let (group, added) = ec2
        .store
        .transact(|transaction| {
            let mut group = (*get(transaction, scope, &id)?).clone();
            let wanted = wanted_of(transaction, &group, &asked.permissions)?;
            let mut added = Vec::with_capacity(wanted.len());
            for one in wanted {
                let there = |rule: &SecurityGroupRule| rule.direction == asked.direction && one.is(rule);
                if group.rules.iter().any(there) {
                    let message = format!("the specified rule \"{}\" already exists", one.described());
                    return Err(ApiError::sender("InvalidPermission.Duplicate", message));
                }
                let rule = SecurityGroupRule {
                    id: new_id("sgr", &*ec2.rng),
                    direction: asked.direction,
                    peer: one.peer,
                    traffic: one.traffic,
                    description: one.description,
                };
                tags::put(transaction, scope, &rule.id, &asked.tags)?;
                added.push(rule.clone());
                group.rules.push(rule);
            }
            if group.rules.iter().filter(|rule| rule.direction == asked.direction).count() > RULES_MAX {
                let message = "The maximum number of rules per security group has been reached.";
                return Err(ApiError::sender("RulesPerSecurityGroupLimitExceeded", message));
            }
            transaction.put(group.clone());
            Ok((group, added))
        })
        .await?;
    ec2.apply_policy(scope, &group.vpc_id).await?;
    let view = View::new(ec2.store.snapshot(), scope);
    Ok(added.iter().map(|rule| rule::shown_rule(&view, &group, rule)).collect())
}

async fn revoke(
    ec2: &Ec2Service,
    context: &RequestContext,
    asked: Rules,
) -> Result<Vec<types::RevokedSecurityGroupRule>, ApiError> {
    check_dry_run(asked.dry_run)?;
    let scope = &context.scope;
    let view = ec2.view(scope).await?;
    let id = named(&view, asked.group_id.as_ref(), asked.group_name.as_ref())?;
    if asked.permissions.is_empty() && asked.rule_ids.is_empty() {
        return Err(ApiError::sender(
            "MissingParameter",
            "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.",
        ));
    }
    let (group, removed) = ec2
        .store
        .transact(|transaction| {
            let mut group = (*get(transaction, scope, &id)?).clone();
            let mut removed = Vec::new();
            let wanted = wanted_of(transaction, &group, &asked.permissions)?;
            let by_form = wanted.iter().map(|one| {
                group
                    .rules
                    .iter()
                    .position(|rule| rule.direction == asked.direction && one.is(rule))
                    .ok_or_else(|| {
                        let message = "The specified rule does not exist in this security group.";
                        ApiError::sender("InvalidPermission.NotFound", message)
                    })
            });
            let by_id = asked.rule_ids.iter().map(|id| {
                let rule = |rule: &SecurityGroupRule| rule.direction == asked.direction && rule.id == *id;
                group.rules.iter().position(rule).ok_or_else(|| rule_not_found(id))
            });
            let mut indexes = by_form.chain(by_id).collect::<Result<Vec<_>, _>>()?;
            indexes.sort_unstable();
            indexes.dedup();
            for index in indexes.into_iter().rev() {
                let rule = group.rules.remove(index);
                transaction.delete::<ResourceTags>(&(scope.clone(), rule.id.clone()));
                removed.push(rule);
            }
            transaction.put(group.clone());
            Ok::<_, ApiError>((group, removed))
        })
        .await?;
    ec2.apply_policy(scope, &group.vpc_id).await?;
    Ok(removed.iter().rev().map(|rule| rule::revoked_rule(&group, rule)).collect())
}

fn rule_not_found(id: &str) -> ApiError {
    let message = format!("The security group rule ID '{}' does not exist", shortened(id));
    ApiError::sender("InvalidSecurityGroupRuleId.NotFound", message)
}

/// A rule with all of it in one structure, as `ModifySecurityGroupRules` writes it.
fn wanted_of_request(
    transaction: &Transaction<'_>,
    group: &SecurityGroup,
    request: &types::SecurityGroupRuleRequest,
) -> Result<Wanted, ApiError> {
    let permission = types::IpPermission {
        ip_protocol: request.ip_protocol.clone(),
        from_port: request.from_port,
        to_port: request.to_port,
        ip_ranges: request.cidr_ipv4.clone().map(|cidr| {
            vec![types::IpRange { cidr_ip: Some(cidr), description: request.description.clone() }]
        }),
        ipv6_ranges: request.cidr_ipv6.clone().map(|cidr| {
            vec![types::Ipv6Range { cidr_ipv6: Some(cidr), description: request.description.clone() }]
        }),
        prefix_list_ids: request
            .prefix_list_id
            .clone()
            .map(|id| vec![types::PrefixListId { prefix_list_id: Some(id), ..Default::default() }]),
        user_id_group_pairs: request.referenced_group_id.clone().map(|id| {
            vec![types::UserIdGroupPair {
                group_id: Some(id),
                description: request.description.clone(),
                ..Default::default()
            }]
        }),
    };
    let mut wanted = wanted_of(transaction, group, &[permission])?;
    match (wanted.pop(), wanted.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(ApiError::sender(
            "InvalidParameterCombination",
            "Exactly one of CidrIpv4, CidrIpv6, PrefixListId and ReferencedGroupId must be specified.",
        )),
    }
}

pub async fn modify_rules(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::ModifySecurityGroupRulesRequest,
) -> Result<types::ModifySecurityGroupRulesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let scope = &context.scope;
    ec2.view(scope).await?;
    let vpc_id = ec2
        .store
        .transact(|transaction| {
            let mut group = (*get(transaction, scope, &input.group_id)?).clone();
            for update in &input.security_group_rules {
                let id = &update.security_group_rule_id;
                let index =
                    group.rules.iter().position(|rule| rule.id == *id).ok_or_else(|| rule_not_found(id))?;
                let Some(request) = &update.security_group_rule else { continue };
                let wanted = wanted_of_request(transaction, &group, request)?;
                let direction = group.rules[index].direction;
                let twin =
                    group.rules.iter().enumerate().any(|(other, rule)| {
                        other != index && rule.direction == direction && wanted.is(rule)
                    });
                if twin {
                    let message = format!("the specified rule \"{}\" already exists", wanted.described());
                    return Err(ApiError::sender("InvalidPermission.Duplicate", message));
                }
                let rule = &mut group.rules[index];
                rule.traffic = wanted.traffic;
                rule.peer = wanted.peer;
                rule.description = wanted.description;
            }
            let vpc_id = group.vpc_id.clone();
            transaction.put(group);
            Ok(vpc_id)
        })
        .await?;
    ec2.apply_policy(scope, &vpc_id).await?;
    Ok(types::ModifySecurityGroupRulesResult { r#return: Some(true) })
}

pub async fn describe_ingress_anew(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::UpdateSecurityGroupRuleDescriptionsIngressRequest,
) -> Result<types::UpdateSecurityGroupRuleDescriptionsIngressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let (permissions, by_id) = (input.ip_permissions, input.security_group_rule_descriptions);
    let group = (input.group_id, input.group_name);
    describe_anew(ec2, context, Direction::Ingress, group, permissions, by_id).await?;
    Ok(types::UpdateSecurityGroupRuleDescriptionsIngressResult { r#return: Some(true) })
}

pub async fn describe_egress_anew(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::UpdateSecurityGroupRuleDescriptionsEgressRequest,
) -> Result<types::UpdateSecurityGroupRuleDescriptionsEgressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let (permissions, by_id) = (input.ip_permissions, input.security_group_rule_descriptions);
    let group = (input.group_id, input.group_name);
    describe_anew(ec2, context, Direction::Egress, group, permissions, by_id).await?;
    Ok(types::UpdateSecurityGroupRuleDescriptionsEgressResult { r#return: Some(true) })
}

async fn describe_anew(
    ec2: &Ec2Service,
    context: &RequestContext,
    direction: Direction,
    group: (Option<String>, Option<String>),
    permissions: Option<Vec<types::IpPermission>>,
    by_id: Option<Vec<types::SecurityGroupRuleDescription>>,
) -> Result<(), ApiError> {
    let scope = &context.scope;
    let view = ec2.view(scope).await?;
    let id = named(&view, group.0.as_ref(), group.1.as_ref())?;
    ec2.store
        .transact(|transaction| {
            let mut group = (*get(transaction, scope, &id)?).clone();
            for one in wanted_of(transaction, &group, permissions.as_deref().unwrap_or_default())? {
                let rule = group
                    .rules
                    .iter_mut()
                    .find(|rule| rule.direction == direction && one.is(rule))
                    .ok_or_else(|| {
                        let message = "The specified rule does not exist in this security group.";
                        ApiError::sender("InvalidPermission.NotFound", message)
                    })?;
                rule.description = one.description;
            }
            for one in by_id.iter().flatten() {
                let id = one.security_group_rule_id.as_deref().unwrap_or_default();
                let rule = group
                    .rules
                    .iter_mut()
                    .find(|rule| rule.direction == direction && rule.id == id)
                    .ok_or_else(|| rule_not_found(id))?;
                rule.description = rule::description(one.description.as_ref())?;
            }
            transaction.put(group);
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(())
}
