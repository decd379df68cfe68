//! The service against a store in memory and a data plane in memory.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use wharf_contracts::{AssignPublicIp, Interface, InterfaceError, InterfaceRequest, Interfaces};
use wharf_core::{
    AccountId, ApiError, ManualClock, Principal, Region, RequestContext, RequestId, Scope, SeededRng,
    Timestamp,
};
use wharf_ec2::{Ec2Config, Ec2Service, VpcEndpoints};
use wharf_ec2_api::{Ec2, types};
use wharf_network::sim::SimPlane;
use wharf_network::{Egress, NetworkError, VpcSpec};
use wharf_state::{MemoryJournal, Store};

struct World {
    journal: MemoryJournal,
    plane: Arc<SimPlane>,
    opened: Arc<Endpoints>,
    lives: u64,
}

/// How often endpoints were opened and closed.
#[derive(Default)]
struct Endpoints(AtomicUsize, AtomicUsize);

#[async_trait]
impl VpcEndpoints for Endpoints {
    async fn open(&self, _vpc: &VpcSpec) -> Result<(), NetworkError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn close(&self, _vpc_id: &str) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

impl World {
    fn new() -> Self {
        let plane = Arc::new(SimPlane::new());
        Self { journal: MemoryJournal::new(), plane, opened: Arc::default(), lives: 0 }
    }

    /// A life of the control plane on what the last one left.
    fn start(&mut self) -> Ec2Service {
        self.lives += 1;
        let store = wharf_ec2::tables(Store::builder(Arc::new(self.journal.clone()))).open().unwrap();
        Ec2Service::new(Ec2Config {
            store,
            plane: self.plane.clone(),
            rng: Arc::new(SeededRng::new(self.lives)),
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000))),
            name_servers: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53))],
            endpoints: Some(self.opened.clone()),
        })
    }
}

fn scope(account: &str) -> Scope {
    Scope { account: account.parse().unwrap(), region: Region::default() }
}

fn context(scope: &Scope) -> RequestContext {
    RequestContext {
        request_id: RequestId::random(&SeededRng::new(1)),
        scope: scope.clone(),
        principal: Principal::Root { account: scope.account },
        session: None,
        access_key_id: "test".to_owned(),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        now: Timestamp::from_millis(1_800_000_000_000),
    }
}

async fn subnets(service: &Ec2Service, scope: &Scope) -> Vec<types::Subnet> {
    let result = service.describe_subnets(&context(scope), Default::default()).await.unwrap();
    result.subnets.unwrap()
}

async fn interfaces(service: &Ec2Service, scope: &Scope) -> Vec<types::NetworkInterface> {
    let result = service.describe_network_interfaces(&context(scope), Default::default()).await.unwrap();
    result.network_interfaces.unwrap()
}

async fn request(service: &Ec2Service, scope: &Scope, owner: &str) -> InterfaceRequest {
    InterfaceRequest {
        scope: scope.clone(),
        subnet_id: subnets(service, scope).await[0].subnet_id.clone().unwrap(),
        security_group_ids: Vec::new(),
        assign_public_ip: AssignPublicIp::Enabled,
        owner: owner.to_owned(),
        description: format!("arn:aws:ecs:us-east-1:000000000000:attachment/{owner}"),
    }
}

async fn create(service: &Ec2Service, scope: &Scope, owner: &str) -> Interface {
    service.create(request(service, scope, owner).await).await.unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T, InterfaceError>) -> ApiError {
    match result.unwrap_err() {
        InterfaceError::Refused(error) => error,
        other @ InterfaceError::Unavailable { .. } => panic!("{other}"),
    }
}

fn filters(name: &str, values: &[&str]) -> Vec<types::Filter> {
    let values = values.iter().map(ToString::to_string).collect();
    vec![types::Filter { name: Some(name.to_owned()), values: Some(values) }]
}

#[tokio::test]
async fn every_account_and_region_has_a_default_network_of_its_own_that_stays() {
    let mut world = World::new();
    let service = world.start();
    let mut vpcs = HashSet::new();
    for scope in [
        scope("000000000000"),
        scope("111111111111"),
        Scope { account: AccountId::DEFAULT, region: "eu-west-1".parse().unwrap() },
    ] {
        let context = context(&scope);
        let [vpc] = &service.describe_vpcs(&context, Default::default()).await.unwrap().vpcs.unwrap()[..]
        else {
            panic!("one VPC")
        };
        assert_eq!((vpc.is_default, vpc.cidr_block.as_deref()), (Some(true), Some("172.31.0.0/16")));
        assert_eq!(vpc.owner_id, Some(scope.account.to_string()));
        let subnets = subnets(&service, &scope).await;
        assert_eq!(subnets.len(), if scope.region == Region::default() { 6 } else { 3 });
        for subnet in &subnets {
            assert_eq!((&subnet.vpc_id, subnet.available_ip_address_count), (&vpc.vpc_id, Some(4091)));
            assert!(subnet.availability_zone.as_ref().unwrap().starts_with(scope.region.as_str()));
        }
        assert!(vpcs.insert(vpc.vpc_id.clone()));
    }
    drop(service);
    let again =
        world.start().describe_vpcs(&context(&scope("111111111111")), Default::default()).await.unwrap();
    assert!(vpcs.contains(&again.vpcs.unwrap()[0].vpc_id));
    assert_eq!(world.opened.0.load(Ordering::SeqCst), 0, "looking makes nothing in the kernel");
}

#[tokio::test]
async fn the_parts_of_the_default_network_fit_together() {
    let service = World::new().start();
    let scope = scope("000000000000");
    let context = context(&scope);
    let vpc = service.describe_vpcs(&context, Default::default()).await.unwrap().vpcs.unwrap().remove(0);
    let vpc_id = vpc.vpc_id.unwrap();

    let groups = service.describe_security_groups(&context, Default::default()).await.unwrap();
    let group = groups.security_groups.unwrap().remove(0);
    assert_eq!((group.group_name.as_deref(), group.vpc_id.as_ref()), (Some("default"), Some(&vpc_id)));
    let ingress = &group.ip_permissions.unwrap()[0];
    assert_eq!(ingress.user_id_group_pairs.as_ref().unwrap()[0].group_id, group.group_id);
    let egress = &group.ip_permissions_egress.unwrap()[0];
    assert_eq!(egress.ip_ranges.as_ref().unwrap()[0].cidr_ip.as_deref(), Some("0.0.0.0/0"));
    let rules = service.describe_security_group_rules(&context, Default::default()).await.unwrap();
    assert_eq!(rules.security_group_rules.unwrap().len(), 2);
    let by_name = types::DescribeSecurityGroupsRequest {
        group_names: Some(vec!["default".to_owned()]),
        ..Default::default()
    };
    assert_eq!(
        service.describe_security_groups(&context, by_name).await.unwrap().security_groups.unwrap().len(),
        1
    );

    let gateways = service.describe_internet_gateways(&context, Default::default()).await.unwrap();
    let gateway = gateways.internet_gateways.unwrap().remove(0);
    let tables = service.describe_route_tables(&context, Default::default()).await.unwrap();
    let table = tables.route_tables.unwrap().remove(0);
    let routes = table.routes.unwrap();
    assert_eq!(routes[0].gateway_id.as_deref(), Some("local"));
    assert_eq!(routes[1].gateway_id, gateway.internet_gateway_id);
    let acls = service.describe_network_acls(&context, Default::default()).await.unwrap();
    let acl = acls.network_acls.unwrap().remove(0);
    assert_eq!((acl.associations.unwrap().len(), acl.entries.unwrap().len()), (6, 4));

    let zones = service.describe_availability_zones(&context, Default::default()).await.unwrap();
    assert_eq!(zones.availability_zones.unwrap().len(), 6);
    let attribute = types::DescribeVpcAttributeRequest {
        vpc_id: vpc_id.clone(),
        attribute: types::VpcAttributeName::EnableDnsHostnames,
        dry_run: None,
    };
    let attribute = service.describe_vpc_attribute(&context, attribute).await.unwrap();
    assert_eq!(attribute.enable_dns_hostnames.unwrap().value, Some(true));
    assert_eq!(attribute.enable_dns_support, None);
    let account = service.describe_account_attributes(&context, Default::default()).await.unwrap();
    let default_vpc = account.account_attributes.unwrap().remove(1);
    assert_eq!(default_vpc.attribute_values.unwrap()[0].attribute_value, Some(vpc_id));
}

#[tokio::test]
async fn resources_are_found_by_id_filter_and_page_and_refused_in_ec2s_words() {
    let service = World::new().start();
    let scope = scope("000000000000");
    let context = context(&scope);
    let find =
        |filters: Vec<types::Filter>, ids: Option<Vec<String>>, max_results| types::DescribeSubnetsRequest {
            filters: Some(filters),
            subnet_ids: ids,
            max_results,
            ..Default::default()
        };
    let count = async |input| service.describe_subnets(&context, input).await.unwrap().subnets.unwrap().len();
    assert_eq!(count(find(filters("availability-zone", &["us-east-1a", "us-east-1b"]), None, None)).await, 2);
    assert_eq!(count(find(filters("cidr-block", &["172.31.?.0/20"]), None, None)).await, 1);
    assert_eq!(count(find(filters("map-public-ip-on-launch", &["false"]), None, None)).await, 0);
    assert_eq!(count(find(filters("tag:Name", &["*"]), None, None)).await, 0);

    let first = service.describe_subnets(&context, find(Vec::new(), None, Some(5))).await.unwrap();
    assert_eq!(first.subnets.as_ref().unwrap().len(), 5);
    let rest = types::DescribeSubnetsRequest { next_token: first.next_token, ..Default::default() };
    let rest = service.describe_subnets(&context, rest).await.unwrap();
    assert_eq!((rest.subnets.unwrap().len(), rest.next_token), (1, None));

    let error = async |input| service.describe_subnets(&context, input).await.unwrap_err();
    let missing = error(find(Vec::new(), Some(vec!["subnet-0".to_owned()]), None)).await;
    assert_eq!(missing.to_string(), "InvalidSubnetID.NotFound: The subnet ID 'subnet-0' does not exist");
    let unknown = error(find(filters("colour", &["x"]), None, None)).await;
    assert_eq!(unknown.to_string(), "InvalidParameterValue: The filter 'colour' is invalid");
    let dry = error(types::DescribeSubnetsRequest { dry_run: Some(true), ..Default::default() }).await;
    assert_eq!((dry.code.as_ref(), dry.status), ("DryRunOperation", 412));
    let group = types::DescribeSecurityGroupsRequest {
        group_ids: Some(vec!["sg-0".to_owned()]),
        ..Default::default()
    };
    let group = service.describe_security_groups(&context, group).await.unwrap_err();
    assert_eq!(group.to_string(), "InvalidGroup.NotFound: The security group 'sg-0' does not exist");
    // What another account has does not exist.
    let theirs = subnets(&service, &self::scope("111111111111")).await[0].subnet_id.clone().unwrap();
    assert_eq!(error(find(Vec::new(), Some(vec![theirs]), None)).await.code, "InvalidSubnetID.NotFound");
}

#[tokio::test]
async fn an_owner_has_one_interface_that_is_listed_while_it_exists() {
    let mut world = World::new();
    let service = world.start();
    let scope = scope("000000000000");
    let interface = create(&service, &scope, "attachment-1").await;
    assert_eq!(create(&service, &scope, "attachment-1").await, interface);
    assert_eq!(world.opened.0.load(Ordering::SeqCst), 1);
    let attached = world.plane.attached();
    assert_eq!((attached.len(), attached[0].egress), (1, Egress::Internet));
    assert_eq!(
        (attached[0].address, attached[0].mac.to_string()),
        (interface.private_ipv4, interface.mac_address.clone())
    );

    let [listed] = &interfaces(&service, &scope).await[..] else { panic!("one interface") };
    assert_eq!(listed.network_interface_id.as_ref(), Some(&interface.id));
    assert_eq!(listed.private_ip_address, Some(interface.private_ipv4.to_string()));
    assert_eq!(listed.status, Some(types::NetworkInterfaceStatus::InUse));
    assert_eq!(listed.association, None);
    assert_eq!(listed.groups.as_ref().unwrap()[0].group_name.as_deref(), Some("default"));
    let address = interface.private_ipv4.to_string().replace('.', "-");
    assert_eq!(interface.private_dns_name, format!("ip-{address}.ec2.internal"));
    assert_eq!(subnets(&service, &scope).await[0].available_ip_address_count, Some(4090));

    service.delete(&scope, "attachment-1").await.unwrap();
    service.delete(&scope, "attachment-1").await.unwrap();
    assert!(interfaces(&service, &scope).await.is_empty() && world.plane.attached().is_empty());
    assert_eq!(subnets(&service, &scope).await[0].available_ip_address_count, Some(4091));
}

#[tokio::test]
async fn what_cannot_be_placed_is_refused_and_leaves_nothing() {
    let mut world = World::new();
    let service = world.start();
    let scope = scope("000000000000");
    let good = request(&service, &scope, "attachment-1").await;
    let bad_subnet = InterfaceRequest { subnet_id: "subnet-0123".to_owned(), ..good.clone() };
    assert_eq!(refused(service.create(bad_subnet).await).code, "InvalidSubnetID.NotFound");
    let bad_group = InterfaceRequest { security_group_ids: vec!["sg-0123".to_owned()], ..good.clone() };
    assert_eq!(refused(service.create(bad_group).await).code, "InvalidGroup.NotFound");
    let zones = service.check(&scope, std::slice::from_ref(&good.subnet_id), &[]).await.unwrap();
    assert_eq!(Some(&zones[0]), subnets(&service, &scope).await[0].availability_zone.as_ref());
    let missing = service.check(&scope, &[good.subnet_id.clone(), "subnet-9".to_owned()], &[]).await;
    assert_eq!(
        refused(missing).to_string(),
        "InvalidSubnetID.NotFound: The subnet ID 'subnet-9' does not exist"
    );

    world.plane.fail_next_attach(NetworkError::NoNftables);
    let failed = service.create(good.clone()).await.unwrap_err();
    assert!(matches!(failed, InterfaceError::Unavailable { message } if message.contains("nftables")));
    assert!(interfaces(&service, &scope).await.is_empty());
    assert!(world.plane.attached().is_empty());
    service.create(good).await.unwrap();
}

#[tokio::test]
async fn an_address_that_somebody_else_has_is_passed_over() {
    let mut world = World::new();
    let scope = scope("000000000000");
    let taken = {
        // The same seed draws the same address in another world.
        let mut other = World::new();
        let service = other.start();
        create(&service, &scope, "attachment-1").await.private_ipv4
    };
    world.plane.occupy(taken);
    let service = world.start();
    let interface = create(&service, &scope, "attachment-1").await;
    assert_ne!(interface.private_ipv4, taken);
    let [listed] = &interfaces(&service, &scope).await[..] else { panic!("one interface") };
    assert_eq!(listed.private_ip_address, Some(interface.private_ipv4.to_string()));
    assert_eq!(world.plane.attached()[0].address, interface.private_ipv4);
}

#[tokio::test]
async fn a_new_life_adopts_what_is_recorded_and_removes_what_is_not() {
    let mut world = World::new();
    let scope = scope("000000000000");
    let service = world.start();
    let kept = create(&service, &scope, "attachment-1").await;
    drop(service);
    // A crash after the data plane was done and before the record was durable.
    let mut stray = world.plane.attached().remove(0);
    stray.id = format!("eni-{}", "0".repeat(17));
    stray.address = stray.subnet.cidr.last();
    wharf_network::DataPlane::attach(&*world.plane, stray).await.unwrap();

    let service = world.start();
    let recovery = service.recover().await.unwrap();
    assert_eq!((recovery.adopted, recovery.removed), (vec![kept.id.clone()], 1));
    assert_eq!(world.opened.0.load(Ordering::SeqCst), 2, "the endpoints are open again");
    assert_eq!(create(&service, &scope, "attachment-1").await, kept);
    let second = create(&service, &scope, "attachment-2").await;
    assert_ne!(second.private_ipv4, kept.private_ipv4);
    drop(service);

    // A reboot: the owner asks again and has the same interface.
    world.plane.reboot();
    let service = world.start();
    assert_eq!(service.recover().await.unwrap().lost.len(), 2);
    assert_eq!(create(&service, &scope, "attachment-1").await, kept);
    service.delete(&scope, "attachment-2").await.unwrap();
    service.forget().await.unwrap();
    assert!(world.plane.attached().is_empty());
    assert_eq!(wharf_network::DataPlane::status(&*world.plane).vpcs, 0);
    assert_eq!(world.opened.1.load(Ordering::SeqCst), 1, "its endpoint is closed before it is removed");
}

#[tokio::test]
async fn many_owners_at_once_get_addresses_of_their_own_until_the_subnet_is_full() {
    let mut world = World::new();
    let service = Arc::new(world.start());
    let scope = scope("000000000000");
    let template = request(&service, &scope, "").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4091 {
        let service = Arc::clone(&service);
        let request = InterfaceRequest { owner: format!("attachment-{}", number % 4000), ..template.clone() };
        tasks.spawn(async move { service.create(request).await.unwrap().private_ipv4 });
    }
    let addresses: HashSet<Ipv4Addr> = tasks.join_all().await.into_iter().collect();
    assert_eq!((addresses.len(), world.plane.attached().len()), (4000, 4000));
    for number in 4000..4091 {
        create(&service, &scope, &format!("attachment-{number}")).await;
    }
    let full =
        refused(service.create(InterfaceRequest { owner: "one more".to_owned(), ..template.clone() }).await);
    assert_eq!(full.code, "InsufficientFreeAddressesInSubnet");
    service.delete(&scope, "attachment-7").await.unwrap();
    create(&service, &scope, "one more").await;
}
