//! `DescribeAccountAttributes`.

use wharf_core::ApiError;
use wharf_ec2_api::types;

use crate::select::{check_dry_run, shortened};
use crate::view::View;

/// The attributes that belong to a network; there are no instances and no elastic addresses here.
pub fn describe(
    view: &View,
    input: types::DescribeAccountAttributesRequest,
) -> Result<types::DescribeAccountAttributesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let default_vpc = view.default_vpc().map_or_else(|| "none".to_owned(), |vpc| vpc.id.clone());
    let known = [
        ("supported-platforms", "VPC".to_owned()),
        ("default-vpc", default_vpc),
        ("vpc-max-security-groups-per-interface", crate::SECURITY_GROUPS_PER_INTERFACE_MAX.to_string()),
    ];
    let asked = input.attribute_names.unwrap_or_default();
    if let Some(unknown) = asked.iter().find(|name| !known.iter().any(|(known, _)| *known == name.as_str())) {
        let unknown = shortened(unknown.as_str());
        return Err(match unknown.as_str() {
            "max-instances" | "max-elastic-ips" | "vpc-max-elastic-ips" => ApiError::not_implemented(
                format_args!("the attribute \"{unknown}\" of ec2:DescribeAccountAttributes"),
            ),
            _ => ApiError::sender(
                "InvalidParameterValue",
                format!("Value ({unknown}) for parameter attributeName is invalid."),
            ),
        });
    }
    let attributes = known
        .into_iter()
        .filter(|(name, _)| asked.is_empty() || asked.iter().any(|wanted| wanted.as_str() == *name))
        .map(|(name, value)| types::AccountAttribute {
            attribute_name: Some(name.to_owned()),
            attribute_values: Some(vec![types::AccountAttributeValue { attribute_value: Some(value) }]),
        })
        .collect();
    Ok(types::DescribeAccountAttributesResult { account_attributes: Some(attributes) })
}
