//! Tags of every kind of resource (Amazon EC2 User Guide, "Tag restrictions").

use std::collections::BTreeMap;

use wharf_core::{ApiError, Scope};
use wharf_ec2_api::types;
use wharf_state::Transaction;

use crate::records::{
    InternetGateway, NetworkAcl, NetworkInterface, ResourceTags, RouteTable, SecurityGroup, Subnet, Vpc,
};
use crate::select::shortened;

pub type Tags = BTreeMap<String, String>;

const TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 127;
const VALUE_CHARS_MAX: usize = 255;

/// What a resource's id begins with, what EC2 calls its kind, the error for one that is not there, and
/// the noun in that error's sentence.
const KINDS: [(&str, &str, &str, &str); 8] = [
    ("vpc", "vpc", "InvalidVpcID.NotFound", "vpc"),
    ("subnet", "subnet", "InvalidSubnetID.NotFound", "subnet"),
    ("sg", "security-group", "InvalidGroup.NotFound", "securityGroup"),
    ("sgr", "security-group-rule", "InvalidSecurityGroupRuleId.NotFound", "securityGroupRule"),
    ("rtb", "route-table", "InvalidRouteTableID.NotFound", "routeTable"),
    ("igw", "internet-gateway", "InvalidInternetGatewayID.NotFound", "internetGateway"),
    ("acl", "network-acl", "InvalidNetworkAclID.NotFound", "networkAcl"),
    ("eni", "network-interface", "InvalidNetworkInterfaceID.NotFound", "networkInterface"),
];

/// What kind of resource an id names, such as `security-group`.
pub fn kind_of(id: &str) -> Option<&'static str> {
    let prefix = id.split('-').next().unwrap_or_default();
    KINDS.iter().find(|(known, ..)| *known == prefix).map(|(_, kind, ..)| *kind)
}

/// Checks keys and values, and that no key stands twice.
///
/// # Errors
/// `InvalidParameterValue` and its kin, in EC2's words.
pub fn from_api(given: Option<&[types::Tag]>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.clone().unwrap_or_default();
        let value = tag.value.clone().unwrap_or_default();
        check_key(&key)?;
        if value.chars().count() > VALUE_CHARS_MAX {
            let message = format!("Tag value exceeds the maximum length of {VALUE_CHARS_MAX} characters");
            return Err(ApiError::sender("InvalidParameterValue", message));
        }
        if tags.insert(key.clone(), value).is_some() {
            let message = format!("Duplicate tag key '{}' specified.", shortened(&key));
            return Err(ApiError::sender("InvalidParameterValue", message));
        }
    }
    Ok(tags)
}

fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() {
        return Err(ApiError::sender("InvalidParameterValue", "Tag key cannot be null or empty"));
    }
    if key.chars().count() > KEY_CHARS_MAX {
        let message = format!("Tag key exceeds the maximum length of {KEY_CHARS_MAX} characters");
        return Err(ApiError::sender("InvalidParameterValue", message));
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        let message = "Tag keys starting with 'aws:' are reserved for internal use";
        return Err(ApiError::sender("InvalidParameterValue", message));
    }
    Ok(())
}

/// The tags of a request's `TagSpecifications`, all of which must be for `kind`.
///
/// # Errors
/// `InvalidParameterValue` when one is for another kind, or a tag is not well-formed.
pub fn of_specifications(
    given: Option<&[types::TagSpecification]>,
    kind: &types::ResourceType,
) -> Result<Tags, ApiError> {
    let mut all = Vec::new();
    for specification in given.unwrap_or_default() {
        if specification.resource_type.as_ref() != Some(kind) {
            let given = specification.resource_type.as_ref().map(ToString::to_string).unwrap_or_default();
            let message =
                format!("'{}' is not a valid taggable resource type for this operation.", shortened(&given));
            return Err(ApiError::sender("InvalidParameterValue", message));
        }
        all.extend(specification.tags.iter().flatten().cloned());
    }
    from_api(Some(&all))
}

/// Adds tags to what there is.
///
/// # Errors
/// `TagLimitExceeded`.
pub fn put(transaction: &mut Transaction<'_>, scope: &Scope, id: &str, tags: &Tags) -> Result<(), ApiError> {
    if tags.is_empty() {
        return Ok(());
    }
    let key = (scope.clone(), id.to_owned());
    let mut all = transaction.get::<ResourceTags>(&key).map(|record| record.tags.clone()).unwrap_or_default();
    all.extend(tags.clone());
    if all.len() > TAGS_MAX {
        let message = format!("More than {TAGS_MAX} tags specified");
        return Err(ApiError::sender("TagLimitExceeded", message));
    }
    transaction.put(ResourceTags { scope: scope.clone(), id: id.to_owned(), tags: all });
    Ok(())
}

/// Takes tags away: `None` takes all; a value must be the one that is there.
pub fn remove(transaction: &mut Transaction<'_>, scope: &Scope, id: &str, wanted: Option<&[types::Tag]>) {
    let key = (scope.clone(), id.to_owned());
    let Some(record) = transaction.get::<ResourceTags>(&key) else { return };
    let mut tags = record.tags.clone();
    match wanted {
        None => tags.clear(),
        Some(wanted) => {
            for tag in wanted {
                let name = tag.key.as_deref().unwrap_or_default();
                if tags.get(name).is_some_and(|here| tag.value.as_ref().is_none_or(|value| value == here)) {
                    tags.remove(name);
                }
            }
        }
    }
    if tags.is_empty() {
        transaction.delete::<ResourceTags>(&key);
    } else {
        transaction.put(ResourceTags { tags, ..(*record).clone() });
    }
}

/// # Errors
/// The kind's own `NotFound`, or `InvalidID` for an id of no kind.
pub fn check_exists(transaction: &Transaction<'_>, scope: &Scope, id: &str) -> Result<(), ApiError> {
    let key = (scope.clone(), id.to_owned());
    let prefix = id.split('-').next().unwrap_or_default();
    let there = match prefix {
        "vpc" => transaction.get::<Vpc>(&key).is_some(),
        "subnet" => transaction.get::<Subnet>(&key).is_some(),
        "sg" => transaction.get::<SecurityGroup>(&key).is_some(),
        "sgr" => transaction
            .prefix::<SecurityGroup>(&wharf_state::Key::to_bytes(scope))
            .any(|group| group.rules.iter().any(|rule| rule.id == id)),
        "rtb" => transaction.get::<RouteTable>(&key).is_some(),
        "igw" => transaction.get::<InternetGateway>(&key).is_some(),
        "acl" => transaction.get::<NetworkAcl>(&key).is_some(),
        "eni" => transaction.get::<NetworkInterface>(&key).is_some(),
        _ => {
            return Err(ApiError::sender("InvalidID", format!("The ID '{}' is not valid", shortened(id))));
        }
    };
    if there {
        return Ok(());
    }
    let known = KINDS.iter().find(|(known, ..)| *known == prefix);
    let (code, noun) = known.map_or(("InvalidID", "resource"), |(.., code, noun)| (*code, *noun));
    Err(ApiError::sender(code, format!("The {noun} ID '{}' does not exist", shortened(id))))
}

pub fn to_api(tags: &Tags) -> Vec<types::Tag> {
    let tag =
        |(key, value): (&String, &String)| types::Tag { key: Some(key.clone()), value: Some(value.clone()) };
    tags.iter().map(tag).collect()
}
