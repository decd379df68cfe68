//! `DescribeAvailabilityZones`, `DescribeRegions`.

use wharf_core::ApiError;
use wharf_ec2_api::types;

use crate::regions::{self, OptIn};
use crate::select::{FilterField, check_dry_run, filter, shortened, texts};
use crate::view::View;

const ZONE_FILTERS: &[FilterField<types::AvailabilityZone>] = &[
    ("zone-name", |zone| texts(zone.zone_name.as_ref())),
    ("zone-id", |zone| texts(zone.zone_id.as_ref())),
    ("zone-type", |zone| texts(zone.zone_type.as_ref())),
    ("region-name", |zone| texts(zone.region_name.as_ref())),
    ("group-name", |zone| texts(zone.group_name.as_ref())),
    ("network-border-group", |zone| texts(zone.network_border_group.as_ref())),
    ("opt-in-status", |zone| texts(zone.opt_in_status.as_ref())),
    ("state", |zone| texts(zone.state.as_ref())),
    ("message", |_| Vec::new()),
    ("parent-zone-id", |_| Vec::new()),
    ("parent-zone-name", |_| Vec::new()),
];

/// Local and Wavelength zones, which `AllAvailabilityZones` would add, do not exist here.
pub fn describe_zones(
    view: &View,
    input: types::DescribeAvailabilityZonesRequest,
) -> Result<types::DescribeAvailabilityZonesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let region = &view.scope.region;
    let mut zones: Vec<_> = regions::zones(region)
        .into_iter()
        .map(|zone| types::AvailabilityZone {
            zone_name: Some(zone.name),
            zone_id: Some(zone.id),
            zone_type: Some("availability-zone".to_owned()),
            region_name: Some(region.to_string()),
            group_name: Some(format!("{region}-zg-1")),
            network_border_group: Some(region.to_string()),
            opt_in_status: Some(types::AvailabilityZoneOptInStatus::OptInNotRequired),
            state: Some(types::AvailabilityZoneState::Available),
            messages: Some(Vec::new()),
            ..Default::default()
        })
        .collect();
    for (asked, field, noun) in [
        (input.zone_names, zone_name as fn(&types::AvailabilityZone) -> Option<&str>, "zone"),
        (input.zone_ids, zone_id, "zone ID"),
    ] {
        let asked = asked.unwrap_or_default();
        if let Some(missing) = asked.iter().find(|name| !zones.iter().any(|zone| field(zone) == Some(name))) {
            let message = format!("Invalid availability {noun}: [{}]", shortened(missing));
            return Err(ApiError::sender("InvalidParameterValue", message));
        }
        if !asked.is_empty() {
            zones.retain(|zone| asked.iter().any(|name| field(zone) == Some(name)));
        }
    }
    let zones = filter(ZONE_FILTERS, |_| &[], zones, &input.filters.unwrap_or_default())?;
    Ok(types::DescribeAvailabilityZonesResult { availability_zones: Some(zones) })
}

fn zone_name(zone: &types::AvailabilityZone) -> Option<&str> {
    zone.zone_name.as_deref()
}

fn zone_id(zone: &types::AvailabilityZone) -> Option<&str> {
    zone.zone_id.as_deref()
}

const REGION_FILTERS: &[FilterField<types::Region>] = &[
    ("region-name", |region| texts(region.region_name.as_ref())),
    ("endpoint", |region| texts(region.endpoint.as_ref())),
    ("opt-in-status", |region| texts(region.opt_in_status.as_ref())),
];

/// Every region can be used here; those that an account has to ask for count as asked for.
pub fn describe_regions(
    view: &View,
    input: types::DescribeRegionsRequest,
) -> Result<types::DescribeRegionsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let mut found: Vec<_> = regions::of_partition(&view.scope.region)
        .map(|facts| types::Region {
            region_name: Some(facts.name.to_owned()),
            endpoint: Some(regions::endpoint(facts.name)),
            opt_in_status: Some(
                match facts.opt_in {
                    OptIn::NotRequired => "opt-in-not-required",
                    OptIn::Required => "opted-in",
                }
                .to_owned(),
            ),
            ..Default::default()
        })
        .collect();
    let asked = input.region_names.unwrap_or_default();
    let named = |region: &types::Region, name: &String| region.region_name.as_ref() == Some(name);
    if let Some(missing) = asked.iter().find(|name| !found.iter().any(|region| named(region, name))) {
        let message = format!("Invalid region: [{}]", shortened(missing));
        return Err(ApiError::sender("InvalidParameterValue", message));
    }
    if !asked.is_empty() {
        found.retain(|region| asked.iter().any(|name| named(region, name)));
    }
    let regions = filter(REGION_FILTERS, |_| &[], found, &input.filters.unwrap_or_default())?;
    Ok(types::DescribeRegionsResult { regions: Some(regions) })
}
