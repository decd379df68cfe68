//! `DescribeInternetGateways`.

use wharf_core::ApiError;
use wharf_ec2_api::types;

use crate::records;
use crate::select::{Kind, Selection, check_dry_run, select, texts};
use crate::view::View;

const KIND: Kind<types::InternetGateway> = Kind {
    id: |gateway| gateway.internet_gateway_id.as_deref().unwrap_or_default(),
    not_found: "InvalidInternetGatewayID.NotFound",
    noun: "internetGateway ID",
    parameter: "InternetGatewayIds",
    filters: &[
        ("internet-gateway-id", |gateway| texts(gateway.internet_gateway_id.as_ref())),
        ("owner-id", |gateway| texts(gateway.owner_id.as_ref())),
        ("attachment.state", |gateway| {
            gateway.attachments.iter().flatten().flat_map(|one| texts(one.state.as_ref())).collect()
        }),
        ("attachment.vpc-id", |gateway| {
            gateway.attachments.iter().flatten().flat_map(|one| texts(one.vpc_id.as_ref())).collect()
        }),
    ],
    tags: |one| one.tags.as_deref().unwrap_or_default(),
};

pub fn describe(
    view: &View,
    input: types::DescribeInternetGatewaysRequest,
) -> Result<types::DescribeInternetGatewaysResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.internet_gateway_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let shown = |gateway: &records::InternetGateway| types::InternetGateway {
        internet_gateway_id: Some(gateway.id.clone()),
        owner_id: Some(view.owner_id()),
        attachments: Some(vec![types::InternetGatewayAttachment {
            // The API's model knows "attached"; for internet gateways EC2 says "available".
            state: Some(types::AttachmentStatus::Unknown("available".to_owned())),
            vpc_id: Some(gateway.vpc_id.clone()),
        }]),
        tags: Some(view.tags(&gateway.id)),
    };
    let all = view.all::<records::InternetGateway>().map(|gateway| shown(&gateway)).collect();
    let (gateways, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeInternetGatewaysResult { internet_gateways: Some(gateways), next_token })
}
