//! The condition keys of a request, made when a policy looks at them.
//!
//! IAM User Guide, "AWS global condition context keys". The services' own keys come from their
//! tables.

use std::borrow::Cow;

use wharf_contracts::{AuthorizationRequest, Check, ConditionKey, Resource, Transport};
use wharf_core::Principal;
use wharf_policy::{Context, Values};

use crate::compiled::Entity;

pub(crate) struct RequestKeys<'a> {
    pub request: &'a AuthorizationRequest<'a>,
    pub check: &'a Check,
    pub resource: &'a Resource,
    pub entity: Option<&'a Entity>,
}

impl Context for RequestKeys<'_> {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        if let Some(global) = key.strip_prefix("aws:") {
            if let Some(tag) = global.strip_prefix("principaltag/") {
                return self.principal_tag(tag).map(one);
            }
            if let Some(tag) = global.strip_prefix("resourcetag/") {
                return self.resource_tag(tag).map(one);
            }
            if let Some(values) = self.global(global) {
                return Some(values);
            }
        }
        if let Some((service, tag)) = key.split_once(":resourcetag/")
            && self.check.action.split_once(':').is_some_and(|(of, _)| of.eq_ignore_ascii_case(service))
            && let Some(value) = self.resource_tag(tag)
        {
            return Some(one(value));
        }
        self.of_table(key).or_else(|| self.of_login(key))
    }
}

fn one<'a>(value: impl Into<Cow<'a, str>>) -> Values<'a> {
    Values::One(value.into())
}

impl RequestKeys<'_> {
    /// A key under `aws:`, which is not written again; `None` when there is none, or it comes from a
    /// table.
    fn global(&self, key: &str) -> Option<Values<'_>> {
        let context = self.request.context;
        let facts = self.request.facts;
        let session = context.session.as_deref();
        let principal = &context.principal;
        let anonymous = *principal == Principal::Anonymous;
        let boolean = |value: bool| one(if value { "true" } else { "false" });
        Some(match key {
            "currenttime" => one(context.now.to_iso8601()),
            "epochtime" => one((context.now.as_millis() / 1000).to_string()),
            "sourceip" => one(context.source_ip.to_string()),
            "securetransport" => boolean(facts.transport == Transport::Tls),
            "useragent" => one(facts.user_agent?),
            "referer" => one(facts.referer?),
            "requestedregion" => one(context.region().as_str()),
            "principalarn" => one(principal.principal_arn(context.partition())?),
            "principalaccount" if !anonymous => one(principal.account().to_string()),
            "principaltype" => one(principal.principal_type()),
            "principalisawsservice" => boolean(false),
            "userid" => one(principal.user_id()),
            "username" => match principal {
                Principal::User { name, .. } => one(&**name),
                _ => return None,
            },
            "resourceaccount" if self.resource.arn != "*" => one(self.resource.owner.to_string()),
            "viaawsservice" => boolean(!facts.called_via.is_empty()),
            "calledvia" if !facts.called_via.is_empty() => {
                Values::Many(facts.called_via.iter().map(|service| (*service).into()).collect())
            }
            "calledviafirst" => one(*facts.called_via.first()?),
            "calledvialast" => one(*facts.called_via.last()?),
            "tokenissuetime" => one(session?.issued_at.to_iso8601()),
            // Long-term credentials do not have it.
            "multifactorauthpresent" => boolean(session?.mfa_at.is_some()),
            "multifactorauthage" => one(context.now.since(session?.mfa_at?).as_secs().to_string()),
            "federatedprovider" => one(session?.federated_provider.as_deref()?),
            "sourceidentity" => one(session?.source_identity.as_deref()?),
            _ => return None,
        })
    }

    /// A session's own tags go before those of its role or user.
    fn principal_tag(&self, tag: &str) -> Option<&str> {
        let named = |(key, _): &(&String, &String)| key.eq_ignore_ascii_case(tag);
        let of_session = self.request.context.session.as_ref().and_then(|of| of.tags.iter().find(named));
        let of_entity = || self.entity.and_then(|entity| entity.tags().iter().find(named));
        of_session.or_else(of_entity).map(|(_, value)| value.as_str())
    }

    fn resource_tag(&self, tag: &str) -> Option<&str> {
        let mut tags = self.resource.tags.iter();
        tags.find(|(key, _)| key.eq_ignore_ascii_case(tag)).map(|(_, value)| value.as_str())
    }

    fn of_table(&self, key: &str) -> Option<Values<'_>> {
        let mut keys = self.resource.keys.iter().chain(&self.check.keys);
        let ConditionKey { values, .. } = keys.find(|of| of.name.eq_ignore_ascii_case(key))?;
        Some(match values {
            wharf_contracts::Values::One(value) => one(value),
            wharf_contracts::Values::Many(values) => Values::Many(values.iter().map(Into::into).collect()),
        })
    }

    /// What the token of a federated login said.
    fn of_login(&self, key: &str) -> Option<Values<'_>> {
        let keys = &self.request.context.session.as_ref()?.federated_keys;
        let (_, values) = keys.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        match values.as_slice() {
            [value] => Some(one(value)),
            values => Some(Values::Many(values.iter().map(Into::into).collect())),
        }
    }
}
