//! Network ACLs: `DescribeNetworkAcls`, and what makes, changes and removes them.

use wharf_core::{ApiError, RequestContext, Scope};
use wharf_ec2_api::types;
use wharf_state::{Key as _, Transaction};

use super::security_group::rule;
use crate::Ec2Service;
use crate::plan::default_network::id as new_id;
use crate::records::{self, AclAction, AclEntry, Direction, NetworkAcl, Peer, ResourceTags, Subnet, Traffic};
use crate::select::{Kind, Selection, check_dry_run, select, shortened, texts};
use crate::tags;
use crate::view::View;

/// The rule that stands behind all others and cannot be removed; EC2 shows it as `*`.
const LAST_RULE: u16 = 32_767;
/// "Network ACLs per VPC" and "Rules per network ACL" (each way) of the Amazon VPC quotas.
const ACLS_PER_VPC_MAX: usize = 200;
const ENTRIES_MAX: usize = 20;
/// EC2 Developer Guide, "Ensuring idempotency".
const TOKEN_BYTES_MAX: usize = 64;

const KIND: Kind<types::NetworkAcl> = Kind {
    id: |acl| acl.network_acl_id.as_deref().unwrap_or_default(),
    not_found: "InvalidNetworkAclID.NotFound",
    noun: "networkAcl ID",
    parameter: "NetworkAclIds",
    filters: &[
        ("network-acl-id", |acl| texts(acl.network_acl_id.as_ref())),
        ("vpc-id", |acl| texts(acl.vpc_id.as_ref())),
        ("owner-id", |acl| texts(acl.owner_id.as_ref())),
        ("default", |acl| texts(acl.is_default)),
        ("association.association-id", |acl| associations(acl, |one| one.network_acl_association_id.clone())),
        ("association.network-acl-id", |acl| associations(acl, |one| one.network_acl_id.clone())),
        ("association.subnet-id", |acl| associations(acl, |one| one.subnet_id.clone())),
        ("entry.cidr", |acl| entries(acl, |one| one.cidr_block.clone())),
        ("entry.egress", |acl| entries(acl, |one| one.egress.map(|egress| egress.to_string()))),
        ("entry.protocol", |acl| entries(acl, |one| one.protocol.clone())),
        ("entry.rule-action", |acl| entries(acl, |one| one.rule_action.as_ref().map(ToString::to_string))),
        ("entry.rule-number", |acl| entries(acl, |one| one.rule_number.map(|number| number.to_string()))),
        ("entry.icmp.code", |acl| entries(acl, |one| number(one.icmp_type_code.as_ref()?.code))),
        ("entry.icmp.type", |acl| entries(acl, |one| number(one.icmp_type_code.as_ref()?.r#type))),
        ("entry.ipv6-cidr", |acl| entries(acl, |one| one.ipv6_cidr_block.clone())),
        ("entry.port-range.from", |acl| entries(acl, |one| number(one.port_range.as_ref()?.from))),
        ("entry.port-range.to", |acl| entries(acl, |one| number(one.port_range.as_ref()?.to))),
    ],
    tags: |one| one.tags.as_deref().unwrap_or_default(),
};

fn number(value: Option<i32>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn associations(
    acl: &types::NetworkAcl,
    field: fn(&types::NetworkAclAssociation) -> Option<String>,
) -> Vec<String> {
    acl.associations.iter().flatten().filter_map(field).collect()
}

fn entries(acl: &types::NetworkAcl, field: fn(&types::NetworkAclEntry) -> Option<String>) -> Vec<String> {
    acl.entries.iter().flatten().filter_map(field).collect()
}

pub fn describe(
    view: &View,
    input: types::DescribeNetworkAclsRequest,
) -> Result<types::DescribeNetworkAclsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.network_acl_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let all = view.all::<NetworkAcl>().map(|acl| shown(view, &acl)).collect();
    let (acls, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeNetworkAclsResult { network_acls: Some(acls), next_token })
}

/// The subnets whose packets an ACL sees.
fn is_under(subnet: &Subnet, acl: &NetworkAcl) -> bool {
    subnet.vpc_id == acl.vpc_id && subnet.acl_id.as_ref().map_or(acl.is_default, |id| *id == acl.id)
}

fn shown(view: &View, acl: &NetworkAcl) -> types::NetworkAcl {
    let subnets = view.all::<Subnet>().filter(|subnet| is_under(subnet, acl));
    let last = |direction| AclEntry {
        direction,
        number: LAST_RULE,
        action: AclAction::Deny,
        traffic: Traffic::All,
        cidr: Peer::Cidr(wharf_network::Ipv4Cidr::EVERYWHERE),
    };
    let mut entries = acl.entries.clone();
    entries.extend([last(Direction::Egress), last(Direction::Ingress)]);
    entries.sort_by_key(|entry| (entry.direction == Direction::Ingress, entry.number));
    types::NetworkAcl {
        network_acl_id: Some(acl.id.clone()),
        vpc_id: Some(acl.vpc_id.clone()),
        owner_id: Some(view.owner_id()),
        is_default: Some(acl.is_default),
        associations: Some(
            subnets
                .map(|subnet| types::NetworkAclAssociation {
                    network_acl_association_id: Some(subnet.acl_association_id.clone()),
                    network_acl_id: Some(acl.id.clone()),
                    subnet_id: Some(subnet.id.clone()),
                })
                .collect(),
        ),
        entries: Some(entries.iter().map(shown_entry).collect()),
        tags: Some(view.tags(&acl.id)),
    }
}

fn shown_entry(entry: &AclEntry) -> types::NetworkAclEntry {
    let mut shown = types::NetworkAclEntry {
        egress: Some(entry.direction == Direction::Egress),
        rule_number: Some(entry.number.into()),
        rule_action: Some(match entry.action {
            AclAction::Allow => types::RuleAction::Allow,
            AclAction::Deny => types::RuleAction::Deny,
        }),
        ..Default::default()
    };
    // By number, unlike in security groups.
    let protocol = match entry.traffic {
        Traffic::All => "-1".to_owned(),
        Traffic::Protocol(protocol) => protocol.to_string(),
        Traffic::Ports { protocol, from, to } => {
            shown.port_range = Some(types::PortRange { from: Some(from.into()), to: Some(to.into()) });
            protocol.to_string()
        }
        Traffic::Icmp { protocol, kind, code } => {
            let number = |value: Option<u8>| Some(value.map_or(-1, i32::from));
            shown.icmp_type_code = Some(types::IcmpTypeCode { r#type: number(kind), code: number(code) });
            protocol.to_string()
        }
    };
    shown.protocol = Some(protocol);
    match &entry.cidr {
        Peer::Cidr(cidr) => shown.cidr_block = Some(cidr.to_string()),
        Peer::Ipv6Cidr(cidr) => shown.ipv6_cidr_block = Some(cidr.clone()),
        // No entry names a group.
        Peer::Group(_) => {}
    }
    shown
}

fn not_found(id: &str) -> ApiError {
    let message = format!("The networkAcl ID '{}' does not exist", shortened(id));
    ApiError::sender("InvalidNetworkAclID.NotFound", message)
}

fn get(transaction: &Transaction<'_>, scope: &Scope, id: &str) -> Result<NetworkAcl, ApiError> {
    let key = (scope.clone(), id.to_owned());
    transaction.get::<NetworkAcl>(&key).map(|acl| (*acl).clone()).ok_or_else(|| not_found(id))
}

pub async fn create(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::CreateNetworkAclRequest,
) -> Result<types::CreateNetworkAclResult, ApiError> {
    let kind = types::ResourceType::NetworkAcl;
    let tags = tags::of_specifications(input.tag_specifications.as_deref(), &kind)?;
    if input.client_token.as_ref().is_some_and(|token| token.len() > TOKEN_BYTES_MAX || !token.is_ascii()) {
        let message = format!("A client token has at most {TOKEN_BYTES_MAX} ASCII characters.");
        return Err(ApiError::sender("InvalidParameterValue", message));
    }
    check_dry_run(input.dry_run)?;
    let scope = &context.scope;
    ec2.view(scope).await?;
    let acl = NetworkAcl {
        scope: scope.clone(),
        id: new_id("acl", &*ec2.rng),
        vpc_id: input.vpc_id,
        is_default: false,
        entries: Vec::new(),
        client_token: input.client_token,
    };
    let acl = ec2
        .store
        .transact(|transaction| {
            let mut made = transaction.prefix::<NetworkAcl>(&scope.to_bytes());
            if let Some(made) =
                made.find(|made| acl.client_token.is_some() && made.client_token == acl.client_token)
            {
                if made.vpc_id == acl.vpc_id {
                    return Ok((*made).clone());
                }
                let message = "The request uses the same client token as a previous, but non-identical request. \
                               Do not reuse a client token with different requests, unless the requests are identical.";
                return Err(ApiError::sender("IdempotentParameterMismatch", message));
            }
            drop(made);
            if transaction.get::<records::Vpc>(&(scope.clone(), acl.vpc_id.clone())).is_none() {
                let message = format!("The vpc ID '{}' does not exist", shortened(&acl.vpc_id));
                return Err(ApiError::sender("InvalidVpcID.NotFound", message));
            }
            let acls = transaction.prefix::<NetworkAcl>(&scope.to_bytes());
            if acls.filter(|other| other.vpc_id == acl.vpc_id).count() >= ACLS_PER_VPC_MAX {
                let message = "The maximum number of network ACLs has been reached.";
                return Err(ApiError::sender("NetworkAclLimitExceeded", message));
            }
            tags::put(transaction, scope, &acl.id, &tags)?;
            transaction.put(acl.clone());
            Ok(acl)
        })
        .await?;
    ec2.apply_policy(scope, &acl.vpc_id).await?;
    let view = View::new(ec2.store.snapshot(), scope);
    let network_acl = Some(shown(&view, &acl));
    Ok(types::CreateNetworkAclResult { network_acl, client_token: acl.client_token })
}

pub async fn delete(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::DeleteNetworkAclRequest,
) -> Result<(), ApiError> {
    check_dry_run(input.dry_run)?;
    let scope = &context.scope;
    let id = &input.network_acl_id;
    let vpc_id = ec2
        .store
        .transact(|transaction| {
            let acl = get(transaction, scope, id)?;
            if acl.is_default {
                let message = format!("The default network ACL '{id}' cannot be deleted.");
                return Err(ApiError::sender("InvalidParameterValue", message));
            }
            if transaction.prefix::<Subnet>(&scope.to_bytes()).any(|subnet| is_under(&subnet, &acl)) {
                let message = format!("The networkAcl '{id}' has dependencies and cannot be deleted.");
                return Err(ApiError::sender("DependencyViolation", message));
            }
            let key = (scope.clone(), id.clone());
            transaction.delete::<ResourceTags>(&key);
            transaction.delete::<NetworkAcl>(&key);
            Ok(acl.vpc_id)
        })
        .await?;
    ec2.apply_policy(scope, &vpc_id).await
}

/// Where in an ACL an entry stands.
fn place(number: i32, egress: bool) -> Result<(Direction, u16), ApiError> {
    let direction = if egress { Direction::Egress } else { Direction::Ingress };
    let number = u16::try_from(number).ok().filter(|number| (1..LAST_RULE).contains(number));
    number.map(|number| (direction, number)).ok_or_else(|| {
        let message = "Value for parameter ruleNumber is invalid. Rule numbers are 1 to 32766.";
        ApiError::sender("InvalidParameterValue", message)
    })
}

/// The parts that `CreateNetworkAclEntry` and `ReplaceNetworkAclEntry` have in common.
struct EntryRequest {
    number: i32,
    egress: bool,
    protocol: String,
    action: types::RuleAction,
    cidr: Option<String>,
    ipv6_cidr: Option<String>,
    icmp: Option<types::IcmpTypeCode>,
    ports: Option<types::PortRange>,
}

impl EntryRequest {
    fn into_entry(self) -> Result<AclEntry, ApiError> {
        let (direction, number) = place(self.number, self.egress)?;
        let (from, to) = match (&self.icmp, &self.ports) {
            (Some(icmp), _) => (icmp.r#type, icmp.code),
            (None, Some(ports)) => (ports.from, ports.to),
            (None, None) => (None, None),
        };
        Ok(AclEntry {
            direction,
            number,
            action: match self.action {
                types::RuleAction::Allow => AclAction::Allow,
                types::RuleAction::Deny => AclAction::Deny,
                types::RuleAction::Unknown(text) => {
                    let message =
                        format!("Value ({}) for parameter ruleAction is invalid.", shortened(&text));
                    return Err(ApiError::sender("InvalidParameterValue", message));
                }
            },
            traffic: rule::traffic(&self.protocol, from, to)?,
            cidr: match (&self.cidr, &self.ipv6_cidr) {
                (Some(cidr), None) => rule::ipv4(cidr)?,
                (None, Some(cidr)) => rule::ipv6(cidr)?,
                _ => {
                    let message = "Exactly one of CidrBlock and Ipv6CidrBlock must be specified.";
                    return Err(ApiError::sender("InvalidParameterCombination", message));
                }
            },
        })
    }
}

macro_rules! entry_of {
    ($input:ident) => {
        EntryRequest {
            number: $input.rule_number,
            egress: $input.egress,
            protocol: $input.protocol,
            action: $input.rule_action,
            cidr: $input.cidr_block,
            ipv6_cidr: $input.ipv6_cidr_block,
            icmp: $input.icmp_type_code,
            ports: $input.port_range,
        }
        .into_entry()
    };
}

pub async fn create_entry(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::CreateNetworkAclEntryRequest,
) -> Result<(), ApiError> {
    let id = input.network_acl_id.clone();
    let dry_run = input.dry_run;
    let entry = entry_of!(input)?;
    check_dry_run(dry_run)?;
    change(ec2, context, &id, |acl| {
        let same_way = acl.entries.iter().filter(|other| other.direction == entry.direction);
        if same_way.clone().any(|other| other.number == entry.number) {
            let message = format!("The network acl entry identified by {} already exists.", entry.number);
            return Err(ApiError::sender("NetworkAclEntryAlreadyExists", message));
        }
        if same_way.count() >= ENTRIES_MAX {
            let message = "The maximum number of network ACL entries has been reached.";
            return Err(ApiError::sender("NetworkAclEntryLimitExceeded", message));
        }
        acl.entries.push(entry);
        Ok(())
    })
    .await
}

pub async fn replace_entry(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::ReplaceNetworkAclEntryRequest,
) -> Result<(), ApiError> {
    let id = input.network_acl_id.clone();
    let dry_run = input.dry_run;
    let entry = entry_of!(input)?;
    check_dry_run(dry_run)?;
    change(ec2, context, &id, |acl| {
        let place = find_entry(acl, entry.direction, entry.number)?;
        *place = entry;
        Ok(())
    })
    .await
}

pub async fn delete_entry(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::DeleteNetworkAclEntryRequest,
) -> Result<(), ApiError> {
    let (direction, number) = place(input.rule_number, input.egress)?;
    check_dry_run(input.dry_run)?;
    change(ec2, context, &input.network_acl_id, |acl| {
        find_entry(acl, direction, number)?;
        acl.entries.retain(|entry| (entry.direction, entry.number) != (direction, number));
        Ok(())
    })
    .await
}

fn find_entry(acl: &mut NetworkAcl, direction: Direction, number: u16) -> Result<&mut AclEntry, ApiError> {
    acl.entries.iter_mut().find(|entry| (entry.direction, entry.number) == (direction, number)).ok_or_else(
        || {
            let message = format!("The network acl entry identified by {number} does not exist.");
            ApiError::sender("InvalidNetworkAclEntry.NotFound", message)
        },
    )
}

/// Changes one ACL, in the records and in the data plane.
async fn change(
    ec2: &Ec2Service,
    context: &RequestContext,
    id: &str,
    work: impl FnOnce(&mut NetworkAcl) -> Result<(), ApiError> + Send,
) -> Result<(), ApiError> {
    let scope = &context.scope;
    ec2.view(scope).await?;
    let vpc_id = ec2
        .store
        .transact(|transaction| {
            let mut acl = get(transaction, scope, id)?;
            work(&mut acl)?;
            let vpc_id = acl.vpc_id.clone();
            transaction.put(acl);
            Ok::<_, ApiError>(vpc_id)
        })
        .await?;
    ec2.apply_policy(scope, &vpc_id).await
}

pub async fn replace_association(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::ReplaceNetworkAclAssociationRequest,
) -> Result<types::ReplaceNetworkAclAssociationResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let scope = &context.scope;
    ec2.view(scope).await?;
    let association = new_id("aclassoc", &*ec2.rng);
    let vpc_id = ec2
        .store
        .transact(|transaction| {
            let subnet = transaction
                .prefix::<Subnet>(&scope.to_bytes())
                .find(|subnet| subnet.acl_association_id == input.association_id)
                .ok_or_else(|| {
                    let id = shortened(&input.association_id);
                    let message = format!("The association ID '{id}' does not exist");
                    ApiError::sender("InvalidAssociationID.NotFound", message)
                })?;
            let acl = get(transaction, scope, &input.network_acl_id)?;
            if acl.vpc_id != subnet.vpc_id {
                let message =
                    format!("networkAcl {} and subnet {} belong to different networks.", acl.id, subnet.id);
                return Err(ApiError::sender("InvalidParameterValue", message));
            }
            transaction.put(Subnet {
                acl_id: (!acl.is_default).then(|| acl.id.clone()),
                acl_association_id: association.clone(),
                ..(*subnet).clone()
            });
            Ok(acl.vpc_id)
        })
        .await?;
    ec2.apply_policy(scope, &vpc_id).await?;
    Ok(types::ReplaceNetworkAclAssociationResult { new_association_id: Some(association) })
}
