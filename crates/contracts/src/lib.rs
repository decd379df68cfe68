//! The small traits through which one service uses another, or a crate of Wharf's own.
//!
//! A service never depends on another service (law 2): it holds an `Arc<dyn Trait>` from here, and
//! the `wharf` crate decides who stands behind it. A contract speaks in values of its own; neither
//! stored records nor generated API types pass through.

#![forbid(unsafe_code)]

mod authorization;
mod authorizer;
mod credentials;
mod denial;
mod identity;
mod images;
mod interfaces;
mod kms;
mod log_sink;
mod oidc;
mod secret_sources;
mod task_metadata;
mod vendor;

pub use authorization::{
    AuthorizationTable, Check, ConditionKey, Entry, OperationRequest, Reach, Required, Resource,
    ResourcePolicy, ResourcePolicyKind, ServiceAuthorization, Tags, Values,
};
pub use authorizer::{AuthorizationRequest, Authorizer, Decision, Denial, RequestFacts, RootOnly, Transport};
pub use credentials::{
    AccessKey, AccessKeys, CredentialError, CredentialSource, Credentials, KeyStatus, Secret,
};
pub use denial::DenialEncoder;
pub use identity::{
    Identity, IdentityPolicies, IdentityRef, PolicySource, PrincipalUse, PrincipalUses, RoleFacts, Roles,
};
pub use images::{ImageConfig, ImageError, ImageSource, ResolvedImage};
pub use interfaces::{AssignPublicIp, Interface, InterfaceError, InterfaceRequest, Interfaces};
pub use kms::{KmsKey, KmsKeyError};
pub use log_sink::{LogDestination, LogEvent, LogSink, LogSinkError};
pub use oidc::{OidcProvider, OidcProviders};
pub use secret_sources::{ParameterSource, SecretReference, SecretSource};
pub use task_metadata::{MetadataResponse, TaskMetadata};
pub use vendor::{CredentialVendor, VendError, VendRequest, Vended};
