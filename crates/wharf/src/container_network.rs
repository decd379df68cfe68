//! The network of containers run by hand: an interface in the default VPC of the server's own account
//! and region, with a way out, in a security group that lets everything in. Nobody reaches that
//! address but this machine and the same VPC; others come by published ports.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use wharf_containers::{Attached, ContainerNetwork, NetworkError};
use wharf_contracts::{AssignPublicIp, InterfaceRequest, Interfaces};
use wharf_core::{ApiError, Clock, Principal, RequestContext, RequestId, Rng, Scope};
use wharf_ec2_api::Ec2;
use wharf_ec2_api::types::{
    AuthorizeSecurityGroupIngressRequest, CreateSecurityGroupRequest, DescribeSecurityGroupsRequest,
    DescribeSubnetsRequest, Filter,
};

const GROUP: &str = "wharf-run";

pub struct DefaultVpc {
    ec2: Arc<wharf_ec2::Ec2Service>,
    home: Scope,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    /// One at a time makes the group.
    group: Mutex<()>,
}

impl DefaultVpc {
    pub fn new(
        ec2: Arc<wharf_ec2::Ec2Service>,
        home: Scope,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        Self { ec2, home, clock, rng, group: Mutex::new(()) }
    }

    fn context(&self) -> RequestContext {
        RequestContext {
            request_id: RequestId::random(&*self.rng),
            scope: self.home.clone(),
            principal: Principal::Root { account: self.home.account },
            session: None,
            access_key_id: String::new(),
            source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            now: self.clock.now(),
        }
    }

    /// A default subnet and its VPC.
    async fn subnet(&self) -> Result<(String, String), NetworkError> {
        let input = DescribeSubnetsRequest {
            filters: Some(vec![filter("default-for-az", "true")]),
            ..DescribeSubnetsRequest::default()
        };
        let subnets = self.ec2.describe_subnets(&self.context(), input).await.map_err(failed)?.subnets;
        let mut subnets = subnets.unwrap_or_default();
        subnets.sort_by(|a, b| a.availability_zone.cmp(&b.availability_zone));
        let first = subnets.into_iter().next().and_then(|subnet| Some((subnet.subnet_id?, subnet.vpc_id?)));
        first.ok_or_else(|| {
            NetworkError(
                "the default VPC has no subnet any more: use `--network none`, or make it anew".to_owned(),
            )
        })
    }

    /// The group that lets everything in.
    async fn group(&self, vpc_id: &str) -> Result<String, NetworkError> {
        let _one = self.group.lock().await;
        let context = self.context();
        let input = DescribeSecurityGroupsRequest {
            filters: Some(vec![filter("group-name", GROUP), filter("vpc-id", vpc_id)]),
            ..DescribeSecurityGroupsRequest::default()
        };
        let found = self.ec2.describe_security_groups(&context, input).await.map_err(failed)?;
        let found = found.security_groups.unwrap_or_default().into_iter().find_map(|group| group.group_id);
        if let Some(id) = found {
            return Ok(id);
        }
        let input = CreateSecurityGroupRequest {
            description: "Containers run by hand with wharf run".to_owned(),
            group_name: GROUP.to_owned(),
            vpc_id: Some(vpc_id.to_owned()),
            ..CreateSecurityGroupRequest::default()
        };
        let made = self.ec2.create_security_group(&context, input).await.map_err(failed)?.group_id;
        let id = made.ok_or_else(|| NetworkError("the security group has no id".to_owned()))?;
        let input = AuthorizeSecurityGroupIngressRequest {
            group_id: Some(id.clone()),
            ip_protocol: Some("-1".to_owned()),
            cidr_ip: Some("0.0.0.0/0".to_owned()),
            ..AuthorizeSecurityGroupIngressRequest::default()
        };
        self.ec2.authorize_security_group_ingress(&context, input).await.map_err(failed)?;
        Ok(id)
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter { name: Some(name.to_owned()), values: Some(vec![value.to_owned()]) }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn failed(error: ApiError) -> NetworkError {
    NetworkError(error.to_string())
}

#[async_trait]
impl ContainerNetwork for DefaultVpc {
    async fn attach(&self, owner: &str) -> Result<Attached, NetworkError> {
        let (subnet_id, vpc_id) = self.subnet().await?;
        let group = self.group(&vpc_id).await?;
        let interface = self
            .ec2
            .create(InterfaceRequest {
                scope: self.home.clone(),
                subnet_id,
                security_group_ids: vec![group],
                assign_public_ip: AssignPublicIp::Enabled,
                owner: owner.to_owned(),
                description: format!("wharf run {owner}"),
            })
            .await
            .map_err(|error| NetworkError(error.to_string()))?;
        Ok(Attached {
            address: interface.private_ipv4,
            gateway: interface.gateway,
            mac_address: interface.mac_address,
            netns: interface.netns,
            name_servers: interface.name_servers,
        })
    }

    async fn detach(&self, owner: &str) -> Result<(), NetworkError> {
        self.ec2.delete(&self.home, owner).await.map_err(|error| NetworkError(error.to_string()))
    }
}
