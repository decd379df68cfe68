//! Every AWS service, wired: the one place that names them. A new service is a line in each list.

use std::net::IpAddr;
use std::sync::Arc;

use wharf_authorizer::IamAuthorizer;
use wharf_contracts::{Authorizer, ImageSource};
use wharf_core::{AccountId, Clock, Rng, Scope};
use wharf_engine::Engine;
use wharf_network::DataPlane;
use wharf_ssm::public::PublicFacts;
use wharf_state::{Builder, Store};
use wharf_vault::Vault;
use wharf_wire::Registration;

use crate::failure::{Context as _, Result};
use crate::vpc_endpoint::TaskEndpoints;

/// The tables and histories of all services.
pub fn tables(builder: Builder) -> Builder {
    let builder = wharf_containers::tables(builder);
    let builder = wharf_ec2::tables(builder);
    let builder = wharf_ecs::tables(builder);
    let builder = wharf_iam::register(builder);
    let builder = wharf_secretsmanager::tables(builder);
    let builder = wharf_ssm::tables(builder);
    wharf_logs::register(builder)
}

/// For `wharf status`.
pub const NAMES: [&str; 7] = ["ec2", "ecs", "iam", "logs", "secretsmanager", "ssm", "sts"];

/// What the services stand on.
pub struct Parts {
    pub store: Store,
    /// Seals what must not be on the disk in clear.
    pub vault: Vault,
    pub engine: Arc<dyn Engine>,
    pub images: Arc<dyn ImageSource>,
    pub data_plane: Arc<dyn DataPlane>,
    pub endpoints: Arc<TaskEndpoints>,
    /// For the `resolv.conf` of tasks.
    pub name_servers: Vec<IpAddr>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// Whose root user has the key `test`.
    pub default_account: AccountId,
}

pub struct Services {
    authorizer: Arc<dyn Authorizer>,
    pub ec2: Arc<wharf_ec2::Ec2Service>,
    pub ecs: Arc<wharf_ecs::Ecs>,
    pub iam: Arc<wharf_iam::Iam>,
    pub logs: Arc<wharf_logs::Logs>,
    pub secretsmanager: Arc<wharf_secretsmanager::SecretsManager>,
    pub ssm: Arc<wharf_ssm::Ssm>,
    pub sts: Arc<wharf_sts::Sts>,
}

impl Services {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            store,
            vault,
            engine,
            images,
            data_plane,
            endpoints,
            name_servers,
            clock,
            rng,
            default_account,
        } = parts;
        let iam = wharf_iam::Iam::new(wharf_iam::Dependencies {
            store: store.clone(),
            rng: Arc::clone(&rng),
            vault: vault.clone(),
            default_account,
        });
        let authorizer: Arc<dyn Authorizer> = Arc::new(IamAuthorizer::new(iam.clone()));
        let secretsmanager = wharf_secretsmanager::SecretsManager::new(wharf_secretsmanager::Dependencies {
            store: store.clone(),
            vault: vault.clone(),
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            authorizer: Arc::clone(&authorizer),
        });
        let ssm = wharf_ssm::Ssm::new(wharf_ssm::Dependencies {
            store: store.clone(),
            vault: vault.clone(),
            clock: Arc::clone(&clock),
            authorizer: Arc::clone(&authorizer),
            public: PublicFacts {
                regions: wharf_ec2::region_names().map(ToOwned::to_owned).collect(),
                services: NAMES.map(ToOwned::to_owned).to_vec(),
            },
        });
        let sts = wharf_sts::Sts::new(wharf_sts::Dependencies {
            vault,
            rng: Arc::clone(&rng),
            roles: iam.clone(),
            identities: iam.clone(),
            oidc_providers: iam.clone(),
        });
        let logs = wharf_logs::Logs::new(store.clone(), Arc::clone(&clock));
        let ec2 = Arc::new(wharf_ec2::Ec2Service::new(wharf_ec2::Ec2Config {
            store: store.clone(),
            plane: data_plane,
            rng: Arc::clone(&rng),
            clock: Arc::clone(&clock),
            name_servers,
            endpoints: Some(endpoints.clone()),
        }));
        let ecs = wharf_ecs::Ecs::new(wharf_ecs::Dependencies {
            store,
            engine,
            images,
            interfaces: ec2.clone(),
            log_sink: logs.clone(),
            clock,
            rng,
            endpoint_url: None,
        });
        endpoints.answer_with(ecs.clone());
        Self { authorizer, ec2, ecs, iam, logs, secretsmanager, ssm, sts }
    }

    /// Brings records and machine together, then begins to reconcile.
    pub async fn start(&self, home: &Scope) -> Result<()> {
        self.ec2.recover().await.context(|| "the network could not be taken over".to_owned())?;
        self.ec2.warm(home).await.context(|| "the default VPC could not be made".to_owned())?;
        self.ecs.start().await.context(|| "the running tasks could not be taken over".to_owned())?;
        tokio::spawn(Arc::clone(&self.logs).sweep_forever());
        tokio::spawn(Arc::clone(&self.secretsmanager).sweep_forever());
        tokio::spawn(Arc::clone(&self.ssm).sweep_forever());
        tokio::spawn(Arc::clone(&self.iam).flush_uses_forever());
        Ok(())
    }

    /// Kills every task and forgets all that is in memory; the store is emptied afterwards.
    pub async fn reset(&self) -> Result<()> {
        let what = || "the state could not be emptied".to_owned();
        self.ecs.reset().await.context(what)?;
        self.ec2.forget().await.context(what)
    }

    /// Decides every request by IAM's policies.
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        Arc::clone(&self.authorizer)
    }

    /// What the pipeline answers for.
    pub fn registrations(&self) -> Vec<Registration> {
        let registration = Registration::with_authorization;
        vec![
            registration(wharf_ec2_api::service(self.ec2.clone()), wharf_ec2::authorization(&self.ec2)),
            registration(wharf_ecs::service(self.ecs.clone()), wharf_ecs::authorization(&self.ecs)),
            registration(wharf_iam_api::service(self.iam.clone()), wharf_iam::authorization(&self.iam)),
            registration(wharf_logs_api::service(self.logs.clone()), wharf_logs::authorization(&self.logs)),
            registration(
                wharf_secretsmanager_api::service(self.secretsmanager.clone()),
                wharf_secretsmanager::authorization(&self.secretsmanager),
            ),
            registration(wharf_ssm_api::service(self.ssm.clone()), wharf_ssm::authorization(&self.ssm)),
            registration(wharf_sts_api::service(self.sts.clone()), wharf_sts::authorization(&self.sts)),
        ]
    }
}
