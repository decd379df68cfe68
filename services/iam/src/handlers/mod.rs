//! The operations of the API, one file a resource. Here they are only put behind the trait.

use async_trait::async_trait;
use wharf_iam_api::Iam as Api;

use crate::Iam;

#[async_trait]
impl Api for Iam {}
