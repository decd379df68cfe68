//! Network interfaces for other services: the record and the data plane, kept in step.
//!
//! The record is written while the data plane makes the interface; the caller hears of it when both
//! are done. After a crash in between, either the record is there without the interface (its owner
//! asks again, and it is made), or the interface without the record (`recover` removes it).

use std::sync::Arc;

use async_trait::async_trait;
use wharf_contracts::{AssignPublicIp, Interface, InterfaceError, InterfaceRequest, Interfaces};
use wharf_core::{ApiError, Scope};
use wharf_network::{Attached, EniSpec, MacAddress, NetworkError, SubnetSpec, VpcSpec};
use wharf_state::TransactError;

use crate::handlers::network_interface::private_dns_name;
use crate::handlers::security_group::change::group_not_found;
use crate::plan::default_network::id;
use crate::records::{Egress, NetworkInterface, SecurityGroup, Subnet, Vpc};
use crate::select::shortened;
use crate::view::View;
use crate::{Ec2Service, SECURITY_GROUPS_PER_INTERFACE_MAX};

/// How many addresses are tried that turn out to be somebody else's on this machine.
const ADDRESS_TRIES: usize = 64;

/// Where an interface goes: all of it in one VPC.
struct Placement {
    vpc: Arc<Vpc>,
    subnet: Arc<Subnet>,
    security_group_ids: Vec<String>,
}

#[async_trait]
impl Interfaces for Ec2Service {
    async fn check(
        &self,
        scope: &Scope,
        subnet_ids: &[String],
        security_group_ids: &[String],
    ) -> Result<Vec<String>, InterfaceError> {
        let view = self.view(scope).await.map_err(unavailable)?;
        let mut zones = Vec::with_capacity(subnet_ids.len());
        let mut vpc_id: Option<String> = None;
        for subnet_id in subnet_ids {
            let placement = place(&view, subnet_id, security_group_ids).map_err(InterfaceError::Refused)?;
            if vpc_id.as_ref().is_some_and(|first| *first != placement.vpc.id) {
                let message = "All subnets must belong to the same VPC.";
                return Err(InterfaceError::Refused(ApiError::sender("InvalidParameterValue", message)));
            }
            vpc_id = Some(placement.vpc.id.clone());
            zones.push(placement.subnet.zone.clone());
        }
        Ok(zones)
    }

    async fn create(&self, request: InterfaceRequest) -> Result<Interface, InterfaceError> {
        let _guard = self.owners.lock(&request.scope, &request.owner).await;
        let view = self.view(&request.scope).await.map_err(unavailable)?;
        if let Some(record) = view.interface_of(&request.owner) {
            let placement = place(&view, &record.subnet_id, &record.security_group_ids)
                .map_err(InterfaceError::Refused)?;
            self.ready(&vpc_spec(&placement.vpc)).await.map_err(unavailable)?;
            let attached = self.plane.attach(spec(&record, &placement)).await.map_err(unavailable)?;
            return Ok(self.interface(&record, &placement, attached));
        }
        let placement =
            place(&view, &request.subnet_id, &request.security_group_ids).map_err(InterfaceError::Refused)?;
        self.ready(&vpc_spec(&placement.vpc)).await.map_err(unavailable)?;
        self.make(&view, &request, &placement).await
    }

    async fn delete(&self, scope: &Scope, owner: &str) -> Result<(), InterfaceError> {
        let _guard = self.owners.lock(scope, owner).await;
        let view = View::new(self.store.snapshot(), scope);
        let Some(record) = view.interface_of(owner) else { return Ok(()) };
        self.plane.detach(&record.id).await.map_err(unavailable)?;
        self.remove_record(&record).await?;
        self.addresses.release(&record.subnet_id, record.address);
        Ok(())
    }
}

impl Ec2Service {
    async fn make(
        &self,
        view: &View,
        request: &InterfaceRequest,
        placement: &Placement,
    ) -> Result<Interface, InterfaceError> {
        let subnet = &placement.subnet;
        let mut record = NetworkInterface {
            scope: request.scope.clone(),
            id: id("eni", &*self.rng),
            owner: request.owner.clone(),
            description: request.description.clone(),
            vpc_id: placement.vpc.id.clone(),
            subnet_id: subnet.id.clone(),
            security_group_ids: placement.security_group_ids.clone(),
            address: subnet.cidr.gateway(),
            mac: MacAddress::of(&placement.vpc.id, subnet.cidr.gateway()),
            egress: match request.assign_public_ip {
                AssignPublicIp::Enabled => Egress::Internet,
                AssignPublicIp::Disabled => Egress::VpcOnly,
            },
            attachment_id: id("eni-attach", &*self.rng),
            attached_at: self.clock.now(),
        };
        let mut written = false;
        for _ in 0..ADDRESS_TRIES {
            let allocated = self.addresses.allocate(view, subnet, &*self.rng);
            record.address = match allocated {
                Ok(address) => address,
                Err(error) => {
                    if written {
                        self.remove_record(&record).await?;
                    }
                    return Err(InterfaceError::Refused(error));
                }
            };
            record.mac = MacAddress::of(&record.vpc_id, record.address);
            let (stored, attached) = tokio::join!(
                self.store.transact(|transaction| -> Result<(), ApiError> {
                    // One may have been deleted since it was looked for; from here on it cannot.
                    for id in &record.security_group_ids {
                        let key = (record.scope.clone(), id.clone());
                        transaction.get::<SecurityGroup>(&key).ok_or_else(|| group_not_found(id))?;
                    }
                    transaction.put(record.clone());
                    Ok(())
                }),
                self.plane.attach(spec(&record, placement)),
            );
            written |= stored.is_ok();
            match (stored, attached) {
                (Ok(()), Ok(attached)) => return Ok(self.interface(&record, placement, attached)),
                (Ok(()), Err(NetworkError::AddressInUse { address })) => {
                    tracing::info!(%address, eni = record.id, "an address is in use by another on this machine");
                    self.addresses.mark_foreign(&subnet.id, address, &*self.rng);
                }
                (Ok(()), Err(error)) => {
                    self.remove_record(&record).await?;
                    self.addresses.release(&subnet.id, record.address);
                    return Err(unavailable(error));
                }
                (Err(error), attached) => {
                    if attached.is_ok() {
                        self.plane.detach(&record.id).await.map_err(unavailable)?;
                    }
                    self.addresses.release(&subnet.id, record.address);
                    let TransactError::Aborted(refused) = error else { return Err(unavailable(error)) };
                    if written {
                        self.remove_record(&record).await?;
                    }
                    return Err(InterfaceError::Refused(refused));
                }
            }
        }
        self.remove_record(&record).await?;
        let message =
            format!("{ADDRESS_TRIES} addresses of {} are in use by others on this machine", subnet.id);
        Err(InterfaceError::Unavailable { message })
    }

    async fn remove_record(&self, record: &NetworkInterface) -> Result<(), InterfaceError> {
        let key = (record.scope.clone(), record.id.clone());
        let removed: Result<(), TransactError<std::convert::Infallible>> = self
            .store
            .transact(|transaction| {
                transaction.delete::<NetworkInterface>(&key);
                Ok(())
            })
            .await;
        removed.map_err(unavailable)
    }

    fn interface(&self, record: &NetworkInterface, placement: &Placement, attached: Attached) -> Interface {
        let subnet = &placement.subnet;
        Interface {
            id: record.id.clone(),
            mac_address: record.mac.to_string(),
            private_ipv4: record.address,
            private_dns_name: private_dns_name(&record.scope.region, record.address),
            subnet_id: subnet.id.clone(),
            subnet_cidr: subnet.cidr.to_string(),
            gateway: subnet.cidr.gateway(),
            vpc_id: placement.vpc.id.clone(),
            availability_zone: subnet.zone.clone(),
            netns: attached.netns,
            name_servers: self.name_servers.clone(),
        }
    }

    /// What the data plane should hold, by the records of all accounts.
    pub(crate) fn expected(&self) -> (Vec<VpcSpec>, Vec<EniSpec>) {
        let snapshot = self.store.snapshot();
        let vpcs = snapshot.range::<Vpc>(..).map(|vpc| vpc_spec(&vpc)).collect();
        let mut enis = Vec::new();
        for record in snapshot.range::<NetworkInterface>(..) {
            let view = View::new(snapshot.clone(), &record.scope);
            match place(&view, &record.subnet_id, &record.security_group_ids) {
                Ok(placement) => enis.push(spec(&record, &placement)),
                Err(error) => {
                    tracing::error!(eni = record.id, %error, "a network interface has lost its place");
                }
            }
        }
        (vpcs, enis)
    }
}

/// Finds subnet, VPC and groups, and checks that they belong together.
fn place(view: &View, subnet_id: &str, security_group_ids: &[String]) -> Result<Placement, ApiError> {
    let subnet = view.get::<Subnet>(subnet_id).ok_or_else(|| {
        let message = format!("The subnet ID '{}' does not exist", shortened(subnet_id));
        ApiError::sender("InvalidSubnetID.NotFound", message)
    })?;
    let vpc = view.get::<Vpc>(&subnet.vpc_id).ok_or_else(|| {
        ApiError::sender("InvalidVpcID.NotFound", format!("The vpc ID '{}' does not exist", subnet.vpc_id))
    })?;
    if security_group_ids.len() > SECURITY_GROUPS_PER_INTERFACE_MAX {
        let message =
            format!("An interface has at most {SECURITY_GROUPS_PER_INTERFACE_MAX} security groups.");
        return Err(ApiError::sender("SecurityGroupsPerInterfaceLimitExceeded", message));
    }
    let mut groups = Vec::with_capacity(security_group_ids.len().max(1));
    for id in security_group_ids {
        let group = view.get::<SecurityGroup>(id).ok_or_else(|| group_not_found(id))?;
        if group.vpc_id != vpc.id {
            let message =
                format!("Security group {} and subnet {} belong to different networks.", group.id, subnet.id);
            return Err(ApiError::sender("InvalidParameter", message));
        }
        if !groups.contains(&group.id) {
            groups.push(group.id.clone());
        }
    }
    if groups.is_empty() {
        let group = view.default_group(&vpc.id).ok_or_else(|| {
            ApiError::sender(
                "InvalidGroup.NotFound",
                format!("The VPC '{}' has no default security group", vpc.id),
            )
        })?;
        groups.push(group.id.clone());
    }
    Ok(Placement { vpc, subnet, security_group_ids: groups })
}

pub(crate) fn vpc_spec(vpc: &Vpc) -> VpcSpec {
    VpcSpec { id: vpc.id.clone(), cidr: vpc.cidr }
}

fn spec(record: &NetworkInterface, placement: &Placement) -> EniSpec {
    EniSpec {
        id: record.id.clone(),
        vpc: vpc_spec(&placement.vpc),
        subnet: SubnetSpec { id: placement.subnet.id.clone(), cidr: placement.subnet.cidr },
        address: record.address,
        mac: record.mac,
        egress: match record.egress {
            Egress::Internet => wharf_network::Egress::Internet,
            Egress::VpcOnly => wharf_network::Egress::VpcOnly,
        },
        groups: record.security_group_ids.clone(),
    }
}

fn unavailable(error: impl std::error::Error) -> InterfaceError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    InterfaceError::Unavailable { message }
}
