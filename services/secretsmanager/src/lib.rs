//! The secretsmanager service. Every operation that is not written here answers `NotImplemented`.
#![forbid(unsafe_code)]

use std::sync::Arc;

use async_trait::async_trait;
use wharf_secretsmanager_api::Secretsmanager as Api;

#[derive(Debug, Default)]
pub struct Secretsmanager;

impl Secretsmanager {
    pub fn new() -> Arc<Self> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Api for Secretsmanager {}
