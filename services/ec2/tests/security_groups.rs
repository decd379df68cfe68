//! Security groups, network ACLs and tags: what the API says, and what the data plane is told.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use wharf_core::{
    AccountId, ApiError, ManualClock, Principal, Region, RequestContext, RequestId, Scope, SeededRng,
    Timestamp,
};
use wharf_ec2::{Ec2Config, Ec2Service};
use wharf_ec2_api::{Ec2, types};
use wharf_network::policy::{AclAction, Peer, Policy, Traffic};
use wharf_network::sim::SimPlane;
use wharf_state::{MemoryJournal, Store};

struct World {
    journal: MemoryJournal,
    plane: Arc<SimPlane>,
    ec2: Ec2Service,
    context: RequestContext,
    vpc_id: String,
}

fn service(journal: &MemoryJournal, plane: &Arc<SimPlane>, seed: u64) -> Ec2Service {
    Ec2Service::new(Ec2Config {
        store: wharf_ec2::tables(Store::builder(Arc::new(journal.clone()))).open().unwrap(),
        plane: plane.clone(),
        rng: Arc::new(SeededRng::new(seed)),
        clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000))),
        name_servers: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53))],
        endpoints: None,
    })
}

impl World {
    async fn new() -> Self {
        let (journal, plane) = (MemoryJournal::new(), Arc::new(SimPlane::new()));
        let ec2 = service(&journal, &plane, 1);
        let scope = Scope { account: AccountId::DEFAULT, region: Region::default() };
        ec2.warm(&scope).await.unwrap();
        let context = RequestContext {
            request_id: RequestId::random(&SeededRng::new(1)),
            principal: Principal::Root { account: scope.account },
            scope,
            session: None,
            access_key_id: "test".to_owned(),
            source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            now: Timestamp::from_millis(1_800_000_000_000),
        };
        let vpcs = ec2.describe_vpcs(&context, types::DescribeVpcsRequest::default()).await.unwrap();
        let vpc_id = vpcs.vpcs.unwrap()[0].vpc_id.clone().unwrap();
        Self { journal, plane, ec2, context, vpc_id }
    }

    fn policy(&self) -> Policy {
        self.plane.policy(&self.vpc_id).unwrap()
    }

    async fn group(&self, name: &str) -> String {
        let input = types::CreateSecurityGroupRequest {
            group_name: name.into(),
            description: "for a test".into(),
            ..Default::default()
        };
        self.ec2.create_security_group(&self.context, input).await.unwrap().group_id.unwrap()
    }

    async fn allow(&self, group: &str, permission: types::IpPermission) -> Result<String, ApiError> {
        let input = types::AuthorizeSecurityGroupIngressRequest {
            group_id: Some(group.into()),
            ip_permissions: Some(vec![permission]),
            ..Default::default()
        };
        let added = self.ec2.authorize_security_group_ingress(&self.context, input).await?;
        Ok(added.security_group_rules.unwrap()[0].security_group_rule_id.clone().unwrap())
    }
}

fn tcp(port: i32, cidr: &str) -> types::IpPermission {
    types::IpPermission {
        ip_protocol: Some("tcp".into()),
        from_port: Some(port),
        to_port: Some(port),
        ip_ranges: Some(vec![types::IpRange { cidr_ip: Some(cidr.into()), ..Default::default() }]),
        ..Default::default()
    }
}

fn from_group(id: &str) -> types::IpPermission {
    types::IpPermission {
        ip_protocol: Some("-1".into()),
        user_id_group_pairs: Some(vec![types::UserIdGroupPair {
            group_id: Some(id.into()),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_data_plane_holds_what_the_api_was_told_and_holds_it_in_the_next_life() {
    let world = World::new().await;
    let default = world.policy();
    assert_eq!(default.groups.len(), 1, "the default group is there from the start");
    assert_eq!(default.subnet_acls.len(), 6);

    let (web, app) = (world.group("web").await, world.group("app").await);
    world.allow(&web, tcp(80, "0.0.0.0/0")).await.unwrap();
    world.allow(&app, from_group(&web)).await.unwrap();
    let policy = world.policy();
    assert_eq!(policy.groups[&web].ingress[0].traffic, Traffic::Ports { protocol: 6, ports: 80..=80 });
    assert_eq!(policy.groups[&app].ingress[0].peer, Peer::Group(web.clone()));
    assert_eq!(policy.groups[&web].egress.len(), 1, "a new group lets everything out");

    // Another life, another data plane: the records are enough.
    let plane = Arc::new(SimPlane::new());
    let next = service(&world.journal, &plane, 2);
    next.warm(&world.context.scope).await.unwrap();
    assert_eq!(plane.policy(&world.vpc_id).unwrap(), policy);
}

#[tokio::test]
async fn rules_come_and_go_by_their_form_and_by_their_id() {
    let world = World::new().await;
    let web = world.group("web").await;
    let first = world.allow(&web, tcp(80, "0.0.0.0/0")).await.unwrap();
    let twice = world.allow(&web, tcp(80, "0.0.0.0/0")).await.unwrap_err();
    assert_eq!(
        twice.to_string(),
        "InvalidPermission.Duplicate: the specified rule \"peer: 0.0.0.0/0, TCP, from port: 80, to port: 80, ALLOW\" already exists"
    );
    world.allow(&web, tcp(443, "10.0.0.0/8")).await.unwrap();

    let modify = types::ModifySecurityGroupRulesRequest {
        group_id: web.clone(),
        security_group_rules: vec![types::SecurityGroupRuleUpdate {
            security_group_rule_id: first.clone(),
            security_group_rule: Some(types::SecurityGroupRuleRequest {
                ip_protocol: Some("tcp".into()),
                from_port: Some(8080),
                to_port: Some(8090),
                cidr_ipv4: Some("192.0.2.0/24".into()),
                description: Some("the office".into()),
                ..Default::default()
            }),
        }],
        ..Default::default()
    };
    world.ec2.modify_security_group_rules(&world.context, modify).await.unwrap();
    assert_eq!(
        world.policy().groups[&web].ingress[0].traffic,
        Traffic::Ports { protocol: 6, ports: 8080..=8090 }
    );

    let revoke =
        |ids: Vec<String>, permissions: Vec<types::IpPermission>| types::RevokeSecurityGroupIngressRequest {
            group_id: Some(web.clone()),
            security_group_rule_ids: (!ids.is_empty()).then_some(ids),
            ip_permissions: (!permissions.is_empty()).then_some(permissions),
            ..Default::default()
        };
    let by_form = revoke(Vec::new(), vec![tcp(443, "10.0.0.0/8")]);
    world.ec2.revoke_security_group_ingress(&world.context, by_form.clone()).await.unwrap();
    let gone = world.ec2.revoke_security_group_ingress(&world.context, by_form).await.unwrap_err();
    assert_eq!(gone.code, "InvalidPermission.NotFound");
    let revoked =
        world.ec2.revoke_security_group_ingress(&world.context, revoke(vec![first], Vec::new())).await;
    let revoked = revoked.unwrap().revoked_security_group_rules.unwrap();
    assert_eq!(revoked[0].description.as_deref(), Some("the office"));
    assert!(world.policy().groups[&web].ingress.is_empty());
}

#[tokio::test]
async fn a_group_that_something_depends_on_stays() {
    let world = World::new().await;
    let (web, app) = (world.group("web").await, world.group("app").await);
    world.allow(&app, from_group(&web)).await.unwrap();
    let delete = |id: &str| {
        let input = types::DeleteSecurityGroupRequest { group_id: Some(id.into()), ..Default::default() };
        world.ec2.delete_security_group(&world.context, input)
    };
    let refused = delete(&web).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("DependencyViolation: resource {web} has a dependent object"));
    delete(&app).await.unwrap();
    delete(&web).await.unwrap();
    assert_eq!(world.policy().groups.len(), 1);
    assert_eq!(delete(&web).await.unwrap_err().code, "InvalidGroup.NotFound");
    let default = world.policy().groups.keys().next().unwrap().clone();
    assert_eq!(delete(&default).await.unwrap_err().code, "CannotDelete");

    let again = types::CreateSecurityGroupRequest {
        group_name: "web".into(),
        description: "x".into(),
        ..Default::default()
    };
    world.ec2.create_security_group(&world.context, again.clone()).await.unwrap();
    let twice = world.ec2.create_security_group(&world.context, again).await.unwrap_err();
    assert_eq!(twice.code, "InvalidGroup.Duplicate");
}

#[tokio::test]
async fn an_acl_of_its_own_decides_for_its_subnet() {
    let world = World::new().await;
    // Stock clients send a token with every call.
    let input = types::CreateNetworkAclRequest {
        vpc_id: world.vpc_id.clone(),
        client_token: Some("once".into()),
        ..Default::default()
    };
    let acl = world.ec2.create_network_acl(&world.context, input.clone()).await.unwrap().network_acl.unwrap();
    let id = acl.network_acl_id.unwrap();
    let again = world.ec2.create_network_acl(&world.context, input.clone()).await.unwrap();
    assert_eq!(again.network_acl.unwrap().network_acl_id.as_ref(), Some(&id));
    assert_eq!(again.client_token.as_deref(), Some("once"));
    let other = types::CreateNetworkAclRequest { vpc_id: "vpc-00000000000000000".into(), ..input };
    let other = world.ec2.create_network_acl(&world.context, other).await.unwrap_err();
    assert_eq!(other.code, "IdempotentParameterMismatch");
    assert_eq!(acl.entries.unwrap().len(), 2, "what nothing matches is denied, both ways");
    let entry = types::CreateNetworkAclEntryRequest {
        network_acl_id: id.clone(),
        rule_number: 100,
        protocol: "6".into(),
        rule_action: types::RuleAction::Deny,
        egress: false,
        cidr_block: Some("10.0.0.0/8".into()),
        port_range: Some(types::PortRange { from: Some(22), to: Some(23) }),
        ..Default::default()
    };
    world.ec2.create_network_acl_entry(&world.context, entry.clone()).await.unwrap();
    let twice = world.ec2.create_network_acl_entry(&world.context, entry).await.unwrap_err();
    assert_eq!(twice.code, "NetworkAclEntryAlreadyExists");

    let acls = world.ec2.describe_network_acls(&world.context, types::DescribeNetworkAclsRequest::default());
    let acls = acls.await.unwrap().network_acls.unwrap();
    let default = acls.iter().find(|acl| acl.is_default == Some(true)).unwrap();
    let association = default.associations.as_ref().unwrap()[0].clone();
    let replace = types::ReplaceNetworkAclAssociationRequest {
        association_id: association.network_acl_association_id.unwrap(),
        network_acl_id: id.clone(),
        ..Default::default()
    };
    world.ec2.replace_network_acl_association(&world.context, replace.clone()).await.unwrap();
    let policy = world.policy();
    assert_eq!(policy.subnet_acls[association.subnet_id.as_ref().unwrap()], id);
    assert_eq!(policy.acls[&id].ingress[&100].action, AclAction::Deny);
    let stale = world.ec2.replace_network_acl_association(&world.context, replace).await.unwrap_err();
    assert_eq!(stale.code, "InvalidAssociationID.NotFound", "an association is replaced, not changed");

    let delete = types::DeleteNetworkAclRequest { network_acl_id: id, ..Default::default() };
    let used = world.ec2.delete_network_acl(&world.context, delete).await.unwrap_err();
    assert_eq!(used.code, "DependencyViolation");
}

#[tokio::test]
async fn tags_are_found_by_filters_and_go_with_what_they_are_on() {
    let world = World::new().await;
    let web = world.group("web").await;
    let tag = |key: &str, value: &str| types::Tag { key: Some(key.into()), value: Some(value.into()) };
    let create = types::CreateTagsRequest {
        resources: vec![web.clone(), world.vpc_id.clone()],
        tags: vec![tag("Name", "front"), tag("team", "a")],
        ..Default::default()
    };
    world.ec2.create_tags(&world.context, create).await.unwrap();
    let find = |name: &str, value: &str| types::DescribeSecurityGroupsRequest {
        filters: Some(vec![types::Filter { name: Some(name.into()), values: Some(vec![value.into()]) }]),
        ..Default::default()
    };
    for (name, value, count) in
        [("tag:Name", "fr*", 1), ("tag:Name", "back", 0), ("tag-key", "team", 1), ("tag-value", "b", 0)]
    {
        let found = world.ec2.describe_security_groups(&world.context, find(name, value)).await.unwrap();
        assert_eq!(found.security_groups.unwrap().len(), count, "{name} {value}");
    }
    let all = world.ec2.describe_tags(&world.context, types::DescribeTagsRequest::default()).await.unwrap();
    assert_eq!(all.tags.unwrap().len(), 4);

    let delete = types::DeleteTagsRequest {
        resources: vec![world.vpc_id.clone()],
        tags: Some(vec![tag("team", "other"), types::Tag { key: Some("Name".into()), value: None }]),
        ..Default::default()
    };
    world.ec2.delete_tags(&world.context, delete).await.unwrap();
    let vpcs = world.ec2.describe_vpcs(&world.context, types::DescribeVpcsRequest::default()).await.unwrap();
    assert_eq!(vpcs.vpcs.unwrap()[0].tags.as_ref().unwrap(), &[tag("team", "a")]);

    let missing = types::CreateTagsRequest {
        resources: vec!["sg-00000000000000000".into()],
        tags: vec![tag("a", "b")],
        ..Default::default()
    };
    let refused = world.ec2.create_tags(&world.context, missing).await.unwrap_err();
    assert_eq!(refused.code, "InvalidGroup.NotFound");
    let gone = types::DeleteSecurityGroupRequest { group_id: Some(web), ..Default::default() };
    world.ec2.delete_security_group(&world.context, gone).await.unwrap();
    let all = world.ec2.describe_tags(&world.context, types::DescribeTagsRequest::default()).await.unwrap();
    assert_eq!(all.tags.unwrap().len(), 1);
}
