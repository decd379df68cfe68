//! A data plane in memory, for the tests of services: same rules, no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::plane::{
    Attached, DataPlane, EniSpec, NetworkError, PlaneStatus, Recovery, VpcSpec, check_eni, check_id,
};
use crate::policy::Policy;

/// Holds what is attached, and refuses what it is told to refuse.
#[derive(Debug, Default)]
pub struct SimPlane(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    attached: BTreeMap<String, EniSpec>,
    vpcs: BTreeSet<String>,
    policies: BTreeMap<String, Policy>,
    foreign: BTreeSet<Ipv4Addr>,
    failure: Option<NetworkError>,
}

impl SimPlane {
    pub fn new() -> Self {
        Self::default()
    }

    /// The interfaces that exist, by id.
    pub fn attached(&self) -> Vec<EniSpec> {
        self.0.lock().attached.values().cloned().collect()
    }

    /// The policy that holds in a VPC.
    pub fn policy(&self, vpc_id: &str) -> Option<Policy> {
        self.0.lock().policies.get(vpc_id).cloned()
    }

    /// Someone else on the machine uses this address.
    pub fn occupy(&self, address: Ipv4Addr) {
        self.0.lock().foreign.insert(address);
    }

    /// The next [`DataPlane::attach`] fails with this.
    pub fn fail_next_attach(&self, error: NetworkError) {
        self.0.lock().failure = Some(error);
    }

    /// The machine restarts: nothing is attached any more.
    pub fn reboot(&self) {
        *self.0.lock() = State::default();
    }
}

#[async_trait]
impl DataPlane for SimPlane {
    async fn recover(&self, vpcs: Vec<VpcSpec>, expected: Vec<EniSpec>) -> Result<Recovery, NetworkError> {
        let mut state = self.0.lock();
        let before = state.attached.len();
        let wanted: BTreeSet<&str> = expected.iter().map(|eni| eni.id.as_str()).collect();
        state.attached.retain(|id, _| wanted.contains(id.as_str()));
        state.vpcs.retain(|id| vpcs.iter().any(|vpc| vpc.id == *id));
        let removed = before - state.attached.len();
        let (adopted, lost) =
            expected.into_iter().map(|eni| eni.id).partition(|id| state.attached.contains_key(id));
        Ok(Recovery { adopted, lost, removed })
    }

    async fn warm(&self, vpc: VpcSpec) -> Result<(), NetworkError> {
        check_id(&vpc.id, "vpc")?;
        self.0.lock().vpcs.insert(vpc.id);
        Ok(())
    }

    async fn attach(&self, eni: EniSpec) -> Result<Attached, NetworkError> {
        check_eni(&eni)?;
        let mut state = self.0.lock();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let taken = state.attached.values().any(|other| other.address == eni.address && other.id != eni.id);
        if taken || state.foreign.contains(&eni.address) {
            return Err(NetworkError::AddressInUse { address: eni.address });
        }
        let netns = PathBuf::from(format!("/run/wharf-sim/netns/{}", eni.id));
        state.vpcs.insert(eni.vpc.id.clone());
        state.attached.insert(eni.id.clone(), eni);
        Ok(Attached { netns })
    }

    async fn set_policy(&self, vpc: VpcSpec, policy: Policy) -> Result<(), NetworkError> {
        check_id(&vpc.id, "vpc")?;
        self.0.lock().policies.insert(vpc.id, policy);
        Ok(())
    }

    async fn set_groups(&self, eni_id: &str, groups: Vec<String>) -> Result<(), NetworkError> {
        if let Some(eni) = self.0.lock().attached.get_mut(eni_id) {
            eni.groups = groups;
        }
        Ok(())
    }

    async fn detach(&self, eni_id: &str) -> Result<(), NetworkError> {
        self.0.lock().attached.remove(eni_id);
        Ok(())
    }

    async fn remove_vpc(&self, vpc_id: &str) -> Result<(), NetworkError> {
        let mut state = self.0.lock();
        if state.attached.values().any(|eni| eni.vpc.id == vpc_id) {
            return Err(NetworkError::VpcInUse { vpc: vpc_id.to_owned() });
        }
        state.vpcs.remove(vpc_id);
        state.policies.remove(vpc_id);
        Ok(())
    }

    async fn listen(
        &self,
        vpc: VpcSpec,
        _address: Ipv4Addr,
        _port: u16,
    ) -> Result<TcpListener, NetworkError> {
        check_id(&vpc.id, "vpc")?;
        let unavailable = |error: std::io::Error| NetworkError::Kernel {
            operation: "listen on loopback".to_owned(),
            message: error.to_string(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(unavailable)?;
        listener.set_nonblocking(true).map_err(unavailable)?;
        Ok(listener)
    }

    fn status(&self) -> PlaneStatus {
        let state = self.0.lock();
        PlaneStatus { vpcs: state.vpcs.len(), interfaces: state.attached.len(), pooled: 0, notes: Vec::new() }
    }

    async fn teardown(&self) -> Result<(), NetworkError> {
        *self.0.lock() = State::default();
        Ok(())
    }
}
