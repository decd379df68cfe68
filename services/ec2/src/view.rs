//! The records of one account and region, as one snapshot shows them.

use std::sync::Arc;

use wharf_core::{Arn, Scope};
use wharf_ec2_api::types;
use wharf_state::{Key as _, Record, Snapshot};

use crate::records::{NetworkInterface, ResourceTags, SecurityGroup, Subnet, Vpc};
use crate::tags;

pub struct View {
    snapshot: Snapshot,
    pub scope: Scope,
}

impl View {
    pub fn new(snapshot: Snapshot, scope: &Scope) -> Self {
        Self { snapshot, scope: scope.clone() }
    }

    /// All records of one kind, by id.
    pub fn all<R: Record>(&self) -> impl Iterator<Item = Arc<R>> + use<'_, R> {
        self.snapshot.prefix::<R>(&self.scope.to_bytes())
    }

    pub fn get<R: Record<Key = (Scope, String)>>(&self, id: &str) -> Option<Arc<R>> {
        self.snapshot.get::<R>(&(self.scope.clone(), id.to_owned()))
    }

    pub fn default_vpc(&self) -> Option<Arc<Vpc>> {
        self.all::<Vpc>().find(|vpc| vpc.is_default)
    }

    pub fn default_group(&self, vpc_id: &str) -> Option<Arc<SecurityGroup>> {
        self.all::<SecurityGroup>()
            .find(|group| group.vpc_id == vpc_id && group.name == SecurityGroup::DEFAULT)
    }

    pub fn interface_of(&self, owner: &str) -> Option<Arc<NetworkInterface>> {
        let key = (self.scope.clone(), owner.to_owned()).to_bytes();
        self.snapshot.index::<NetworkInterface>(NetworkInterface::BY_OWNER, &key).next()
    }

    pub fn interfaces_in(&self, subnet: &Subnet) -> impl Iterator<Item = Arc<NetworkInterface>> + use<'_> {
        let key = (self.scope.clone(), subnet.id.clone()).to_bytes();
        self.snapshot.index::<NetworkInterface>(NetworkInterface::BY_SUBNET, &key)
    }

    /// The tags of the resource that has this id.
    pub fn tags(&self, id: &str) -> Vec<types::Tag> {
        tags::to_api(&self.tags_of(id))
    }

    pub fn tags_of(&self, id: &str) -> tags::Tags {
        self.get::<ResourceTags>(id).map(|record| record.tags.clone()).unwrap_or_default()
    }

    pub fn owner_id(&self) -> String {
        self.scope.account.to_string()
    }

    pub fn arn(&self, resource: String) -> String {
        Arn::regional("ec2", &self.scope.region, self.scope.account, resource).to_string()
    }
}
