//! Amazon EC2, as far as a task's network needs it: the default VPC of each account and region,
//! which is there from the first look on, and the network interfaces of tasks.
//!
//! - `handlers/` answers the `Describe…` operations from a snapshot; `select` does ids, filters and
//!   pages for all of them. What changes groups, ACLs and tags is there too; `policy` has the data
//!   plane hold what was written.
//! - `interfaces` stands behind [`wharf_contracts::Interfaces`]: the record and the data plane, kept
//!   in step.
//! - `plan/` makes the default network, pure.
//!
//! Invariants: nothing is answered that is not in a record; a record of an interface exists before
//! anyone hears of the interface; a change of rules is told to its caller when packets meet it.

#![forbid(unsafe_code)]

mod addresses;
mod authorization;
mod handlers;
mod interfaces;
mod owner_locks;
mod plan;
mod policy;
mod records;
mod regions;
mod select;
mod tags;
mod view;

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use wharf_core::{ApiError, Clock, RequestContext, Rng, Scope};
use wharf_ec2_api::{Ec2, types};
use wharf_network::{DataPlane, NetworkError, Recovery, VpcSpec};
use wharf_state::{Builder, Store};

use crate::addresses::Addresses;
pub use crate::authorization::authorization;
use crate::owner_locks::OwnerLocks;
use crate::plan::default_network;
pub use crate::regions::region_names;
use crate::view::View;

/// "Security groups per network interface" of the Amazon VPC quotas.
pub(crate) const SECURITY_GROUPS_PER_INTERFACE_MAX: usize = 5;

/// What a VPC offers its tasks at link-local addresses. Told once of each VPC, before the first
/// interface in it exists.
#[async_trait]
pub trait VpcEndpoints: Send + Sync {
    /// # Errors
    /// When the endpoints cannot be opened; no interface is made then, and the next one tries again.
    async fn open(&self, vpc: &VpcSpec) -> Result<(), NetworkError>;

    /// Closes what was opened in this VPC, before it is removed: an open socket would keep its
    /// namespace alive. Closing what is not open succeeds.
    async fn close(&self, vpc_id: &str);
}

/// What the service is made of.
pub struct Ec2Config {
    /// With the tables of [`tables`].
    pub store: Store,
    pub plane: Arc<dyn DataPlane>,
    pub rng: Arc<dyn Rng>,
    pub clock: Arc<dyn Clock>,
    /// For the `resolv.conf` of tasks.
    pub name_servers: Vec<IpAddr>,
    pub endpoints: Option<Arc<dyn VpcEndpoints>>,
}

/// The service: the API, and network interfaces for other services.
pub struct Ec2Service {
    store: Store,
    plane: Arc<dyn DataPlane>,
    rng: Arc<dyn Rng>,
    clock: Arc<dyn Clock>,
    name_servers: Vec<IpAddr>,
    endpoints: Option<Arc<dyn VpcEndpoints>>,
    addresses: Addresses,
    owners: OwnerLocks,
    /// The VPCs that are made and whose endpoints are open in this life.
    ready: tokio::sync::Mutex<HashSet<String>>,
}

/// Names the service's tables.
pub fn tables(builder: Builder) -> Builder {
    builder
        .table::<records::Vpc>()
        .table::<records::Subnet>()
        .table::<records::SecurityGroup>()
        .table::<records::RouteTable>()
        .table::<records::InternetGateway>()
        .table::<records::NetworkAcl>()
        .table::<records::NetworkInterface>()
        .table::<records::ResourceTags>()
}

impl Ec2Service {
    pub fn new(config: Ec2Config) -> Self {
        let Ec2Config { store, plane, rng, clock, name_servers, endpoints } = config;
        Self {
            store,
            plane,
            rng,
            clock,
            name_servers,
            endpoints,
            addresses: Addresses::default(),
            owners: OwnerLocks::default(),
            ready: tokio::sync::Mutex::default(),
        }
    }

    /// To be called once, before anything else: brings records and data plane together after a
    /// restart. Interfaces that did not survive (a reboot) keep their records; they are made again
    /// when their owner asks, and are gone when it deletes them.
    ///
    /// # Errors
    /// When the data plane cannot work on this machine.
    pub async fn recover(&self) -> Result<Recovery, NetworkError> {
        let (vpcs, enis) = self.expected();
        let living: HashSet<String> = enis.iter().map(|eni| eni.vpc.id.clone()).collect();
        let recovery = self.plane.recover(vpcs.clone(), enis).await?;
        // Tasks that live on want their endpoints back.
        for vpc in vpcs.iter().filter(|vpc| living.contains(&vpc.id)) {
            self.ready(vpc).await?;
        }
        Ok(recovery)
    }

    /// Makes the scope's default network, in the store and in the kernel, so that the first task
    /// need not wait for it.
    ///
    /// # Errors
    /// When the store or the data plane fails.
    pub async fn warm(&self, scope: &Scope) -> Result<(), ApiError> {
        let view = self.view(scope).await?;
        if let Some(vpc) = view.default_vpc() {
            self.ready(&interfaces::vpc_spec(&vpc)).await.map_err(ApiError::internal)?;
        }
        Ok(())
    }

    /// Removes every interface and VPC from the data plane and forgets what is in memory. To be
    /// called before the store is emptied, when nothing runs in the interfaces any more.
    ///
    /// # Errors
    /// When the data plane cannot remove one; calling again continues.
    pub async fn forget(&self) -> Result<(), NetworkError> {
        let (vpcs, enis) = self.expected();
        for eni in enis {
            self.plane.detach(&eni.id).await?;
        }
        for vpc in vpcs {
            if let Some(endpoints) = &self.endpoints {
                endpoints.close(&vpc.id).await;
            }
            self.plane.remove_vpc(&vpc.id).await?;
        }
        self.addresses.clear();
        self.ready.lock().await.clear();
        Ok(())
    }

    /// A snapshot in which the scope has its default network.
    async fn view(&self, scope: &Scope) -> Result<View, ApiError> {
        let view = View::new(self.store.snapshot(), scope);
        if view.default_vpc().is_some() {
            return Ok(view);
        }
        let network = default_network::plan(scope, &*self.rng);
        let prefix = wharf_state::Key::to_bytes(scope);
        self.store
            .transact(|transaction| -> Result<(), Infallible> {
                if transaction.prefix::<records::Vpc>(&prefix).any(|vpc| vpc.is_default) {
                    return Ok(());
                }
                transaction.put(network.vpc);
                for subnet in network.subnets {
                    transaction.put(subnet);
                }
                transaction.put(network.security_group);
                transaction.put(network.route_table);
                transaction.put(network.internet_gateway);
                transaction.put(network.network_acl);
                Ok(())
            })
            .await
            .map_err(ApiError::internal)?;
        Ok(View::new(self.store.snapshot(), scope))
    }

    /// What the records say now; ids of VPCs are unique over all accounts and regions.
    fn policy_of(&self, vpc_id: &str) -> wharf_network::policy::Policy {
        let snapshot = self.store.snapshot();
        let scope = snapshot.range::<records::Vpc>(..).find(|vpc| vpc.id == vpc_id);
        scope.map(|vpc| policy::of_vpc(&View::new(snapshot.clone(), &vpc.scope), vpc_id)).unwrap_or_default()
    }

    /// Makes the VPC, has it keep its policy and opens its endpoints, once in a life.
    async fn ready(&self, vpc: &VpcSpec) -> Result<(), NetworkError> {
        let mut ready = self.ready.lock().await;
        if !ready.contains(&vpc.id) {
            self.plane.warm(vpc.clone()).await?;
            self.plane.set_policy(vpc.clone(), self.policy_of(&vpc.id)).await?;
            if let Some(endpoints) = &self.endpoints {
                endpoints.open(vpc).await?;
            }
            ready.insert(vpc.id.clone());
        }
        Ok(())
    }
}

/// The operations, each with the file that answers it.
macro_rules! answered {
    (
        from a view { $($operation:ident($input:ident) -> $result:ident by $($handler:ident)::+;)* }
        by a change { $($change:ident($changed:ident) -> $told:ty, by $($changer:ident)::+;)* }
    ) => {
        #[async_trait]
        impl Ec2 for Ec2Service {
            $(
                async fn $operation(
                    &self,
                    context: &RequestContext,
                    input: types::$input,
                ) -> Result<types::$result, ApiError> {
                    handlers::$($handler)::+(&self.view(&context.scope).await?, input)
                }
            )*
            $(
                async fn $change(
                    &self,
                    context: &RequestContext,
                    input: types::$changed,
                ) -> Result<$told, ApiError> {
                    handlers::$($changer)::+(self, context, input).await
                }
            )*
        }
    };
}

answered! {
    from a view {
        describe_account_attributes(DescribeAccountAttributesRequest) -> DescribeAccountAttributesResult
            by account::describe;
        describe_availability_zones(DescribeAvailabilityZonesRequest) -> DescribeAvailabilityZonesResult
            by zone::describe_zones;
        describe_internet_gateways(DescribeInternetGatewaysRequest) -> DescribeInternetGatewaysResult
            by internet_gateway::describe;
        describe_network_acls(DescribeNetworkAclsRequest) -> DescribeNetworkAclsResult
            by network_acl::describe;
        describe_network_interfaces(DescribeNetworkInterfacesRequest) -> DescribeNetworkInterfacesResult
            by network_interface::describe;
        describe_regions(DescribeRegionsRequest) -> DescribeRegionsResult
            by zone::describe_regions;
        describe_route_tables(DescribeRouteTablesRequest) -> DescribeRouteTablesResult
            by route_table::describe;
        describe_security_group_rules(DescribeSecurityGroupRulesRequest) -> DescribeSecurityGroupRulesResult
            by security_group::describe_rules;
        describe_security_groups(DescribeSecurityGroupsRequest) -> DescribeSecurityGroupsResult
            by security_group::describe;
        describe_subnets(DescribeSubnetsRequest) -> DescribeSubnetsResult
            by subnet::describe;
        describe_vpc_attribute(DescribeVpcAttributeRequest) -> DescribeVpcAttributeResult
            by vpc::attribute;
        describe_vpcs(DescribeVpcsRequest) -> DescribeVpcsResult
            by vpc::describe;
        describe_security_group_references(DescribeSecurityGroupReferencesRequest)
            -> DescribeSecurityGroupReferencesResult by security_group::describe_references;
        describe_tags(DescribeTagsRequest) -> DescribeTagsResult
            by tag::describe;
        get_security_groups_for_vpc(GetSecurityGroupsForVpcRequest) -> GetSecurityGroupsForVpcResult
            by security_group::for_vpc;
    }
    by a change {
        authorize_security_group_egress(AuthorizeSecurityGroupEgressRequest) -> types::AuthorizeSecurityGroupEgressResult, by security_group::change::authorize_egress;
        authorize_security_group_ingress(AuthorizeSecurityGroupIngressRequest) -> types::AuthorizeSecurityGroupIngressResult, by security_group::change::authorize_ingress;
        create_network_acl(CreateNetworkAclRequest) -> types::CreateNetworkAclResult, by network_acl::create;
        create_network_acl_entry(CreateNetworkAclEntryRequest) -> (), by network_acl::create_entry;
        create_security_group(CreateSecurityGroupRequest) -> types::CreateSecurityGroupResult, by security_group::change::create;
        create_tags(CreateTagsRequest) -> (), by tag::create;
        delete_network_acl(DeleteNetworkAclRequest) -> (), by network_acl::delete;
        delete_network_acl_entry(DeleteNetworkAclEntryRequest) -> (), by network_acl::delete_entry;
        delete_security_group(DeleteSecurityGroupRequest) -> types::DeleteSecurityGroupResult, by security_group::change::delete;
        delete_tags(DeleteTagsRequest) -> (), by tag::delete;
        modify_security_group_rules(ModifySecurityGroupRulesRequest) -> types::ModifySecurityGroupRulesResult, by security_group::change::modify_rules;
        replace_network_acl_association(ReplaceNetworkAclAssociationRequest) -> types::ReplaceNetworkAclAssociationResult, by network_acl::replace_association;
        replace_network_acl_entry(ReplaceNetworkAclEntryRequest) -> (), by network_acl::replace_entry;
        revoke_security_group_egress(RevokeSecurityGroupEgressRequest) -> types::RevokeSecurityGroupEgressResult, by security_group::change::revoke_egress;
        revoke_security_group_ingress(RevokeSecurityGroupIngressRequest) -> types::RevokeSecurityGroupIngressResult, by security_group::change::revoke_ingress;
        update_security_group_rule_descriptions_egress(UpdateSecurityGroupRuleDescriptionsEgressRequest) -> types::UpdateSecurityGroupRuleDescriptionsEgressResult, by security_group::change::describe_egress_anew;
        update_security_group_rule_descriptions_ingress(UpdateSecurityGroupRuleDescriptionsIngressRequest) -> types::UpdateSecurityGroupRuleDescriptionsIngressResult, by security_group::change::describe_ingress_anew;
    }
}
