//! The grammar: what a document of each kind may hold, and its compilation.
//!
//! IAM User Guide, "Grammar of the IAM JSON policy language". Element names and effects are read as
//! they are written; a document of IAM's own has version 2012-10-17, others may be older.

use std::collections::HashSet;

use crate::condition::{Condition, ConditionError, is_operator};
use crate::error::PolicyError;
use crate::json::{self, Json, Node};
use crate::pattern::{Pattern, Variables, Wildcards};
use crate::policy::{Actions, Effect, Index, Policy, Resources, Statement};
use crate::principal::{PrincipalName, Principals};
use crate::resource;

/// The longest document that any API takes (`policyDocumentType` of IAM). Callers have smaller
/// quotas; see [`character_count`].
pub const DOCUMENT_BYTES_MAX: usize = 131_072;
/// Statements of a document. No quota of AWS lets more in.
pub const STATEMENTS_MAX: usize = 10_000;

/// What a document is for, which decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Identity policies, permissions boundaries and session policies: no `Principal`.
    Identity,
    /// Service control policies: as identity policies, and older versions are allowed.
    ServiceControl,
    /// On a resource: each statement says whom it means.
    Resource,
    /// Who may assume a role: as on a resource, but the resource is the role itself.
    Trust,
}

/// The size that quotas count: characters that are not white space (IAM User Guide, "IAM and STS
/// quotas").
pub fn character_count(document: &str) -> usize {
    document.chars().filter(|character| !character.is_whitespace()).count()
}

const STATEMENT_ELEMENTS: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

const TRUST_ACTIONS: [&str; 6] = [
    "sts:assumerole",
    "sts:assumerolewithsaml",
    "sts:assumerolewithwebidentity",
    "sts:tagsession",
    "sts:setsourceidentity",
    "sts:setcontext",
];

type Members<'a, 'b> = &'b [(std::borrow::Cow<'a, str>, Node<'a>)];

pub(crate) fn compile(kind: Kind, text: &str) -> Result<Policy, PolicyError> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(PolicyError::Syntax);
    }
    let root = json::parse(text).map_err(|_| PolicyError::Syntax)?;
    let Json::Object(members) = &root.value else { return Err(PolicyError::Syntax) };
    if members.iter().any(|(name, _)| !matches!(&**name, "Version" | "Id" | "Statement")) {
        return Err(PolicyError::Syntax);
    }
    let version = match text_of(members, "Version")? {
        None => None,
        Some(version @ ("2008-10-17" | "2012-10-17")) => Some(version),
        Some(_) => return Err(PolicyError::Syntax),
    };
    let id = text_of(members, "Id")?.map(str::to_owned);
    let nodes: &[Node<'_>] = match find(members, "Statement").ok_or(PolicyError::Syntax)? {
        Node { value: Json::Array(nodes), .. } => nodes,
        node => std::slice::from_ref(node),
    };
    if nodes.is_empty() || nodes.len() > STATEMENTS_MAX {
        return Err(PolicyError::Syntax);
    }
    let drafts = nodes.iter().map(Draft::read).collect::<Result<Vec<_>, _>>()?;
    if kind == Kind::Identity && version != Some("2012-10-17") {
        return Err(PolicyError::Version);
    }
    let variables = if version == Some("2012-10-17") { Variables::Expand } else { Variables::Literal };
    check_sids(kind, &drafts)?;
    let statements =
        drafts.into_iter().map(|draft| draft.compile(kind, variables)).collect::<Result<Vec<_>, _>>()?;
    let index = Index::of(&statements);
    Ok(Policy { kind, id, statements, index })
}

fn check_sids(kind: Kind, drafts: &[Draft<'_, '_>]) -> Result<(), PolicyError> {
    let mut seen = HashSet::new();
    for sid in drafts.iter().filter_map(|draft| draft.sid).filter(|sid| !sid.is_empty()) {
        let of_iam = kind != Kind::Resource;
        if of_iam && !sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(PolicyError::SidCharacters);
        }
        if !seen.insert(sid) {
            return Err(PolicyError::SidNotUnique);
        }
    }
    Ok(())
}

/// A statement whose form is right; what stands in it is yet to be looked at.
struct Draft<'a, 'b> {
    node: &'b Node<'a>,
    members: Members<'a, 'b>,
    sid: Option<&'b str>,
    effect: &'b str,
}

impl<'a, 'b> Draft<'a, 'b> {
    fn read(node: &'b Node<'a>) -> Result<Self, PolicyError> {
        let Json::Object(members) = &node.value else { return Err(PolicyError::Syntax) };
        if members.iter().any(|(name, _)| !STATEMENT_ELEMENTS.contains(&&**name)) {
            return Err(PolicyError::Syntax);
        }
        for [element, negated] in
            [["Action", "NotAction"], ["Resource", "NotResource"], ["Principal", "NotPrincipal"]]
        {
            if find(members, element).is_some() && find(members, negated).is_some() {
                return Err(PolicyError::Syntax);
            }
        }
        for element in ["Action", "NotAction", "Resource", "NotResource"] {
            if let Some(node) = find(members, element) {
                texts(node)?;
            }
        }
        let effect = text_of(members, "Effect")?.ok_or(PolicyError::Syntax)?;
        if !effect.eq_ignore_ascii_case("Allow") && !effect.eq_ignore_ascii_case("Deny") {
            return Err(PolicyError::Syntax);
        }
        let draft = Self { node, members, sid: text_of(members, "Sid")?, effect };
        draft.for_each_condition(|operator, _, values| {
            if values.is_ok() && is_operator(operator) { Ok(()) } else { Err(PolicyError::Syntax) }
        })?;
        Ok(draft)
    }

    fn compile(self, kind: Kind, variables: Variables) -> Result<Statement, PolicyError> {
        let effect = match self.effect {
            "Allow" => Effect::Allow,
            "Deny" => Effect::Deny,
            _ => return Err(PolicyError::LegacyParsing),
        };
        let conditions = self.conditions(variables)?;
        let actions = self.actions(kind)?;
        let principals = self.principals(kind)?;
        let resources = self.resources(kind, variables)?;
        Ok(Statement {
            sid: self.sid.filter(|sid| !sid.is_empty()).map(str::to_owned),
            effect,
            principals,
            actions,
            resources,
            conditions,
            span: self.node.span,
        })
    }

    /// The element or its negation, whichever is there.
    fn either(&self, element: &str, negated: &str) -> Option<(&'b Node<'a>, bool)> {
        let is = find(self.members, element).map(|node| (node, false));
        is.or_else(|| find(self.members, negated).map(|node| (node, true)))
    }

    fn actions(&self, kind: Kind) -> Result<Actions, PolicyError> {
        let (node, negated) = self.either("Action", "NotAction").ok_or(PolicyError::NoActions)?;
        let names = texts(node)?;
        if names.is_empty() {
            return Err(PolicyError::NoActions);
        }
        for name in &names {
            check_vendor(name)?;
            if kind == Kind::Trust && (negated || !TRUST_ACTIONS.contains(&&*name.to_ascii_lowercase())) {
                return Err(PolicyError::TrustAction);
            }
        }
        // Actions are the same in any case.
        let patterns = names.iter().map(|name| Pattern::free(&name.to_ascii_lowercase())).collect();
        Ok(Actions { negated, names: names.into_iter().map(str::to_owned).collect(), patterns })
    }

    fn resources(&self, kind: Kind, variables: Variables) -> Result<Option<Resources>, PolicyError> {
        let Some((node, negated)) = self.either("Resource", "NotResource") else {
            return match kind {
                Kind::Identity | Kind::ServiceControl => Err(PolicyError::NoResources),
                Kind::Resource | Kind::Trust => Ok(None),
            };
        };
        if kind == Kind::Trust {
            return Err(PolicyError::ResourceNotAllowed);
        }
        let names = texts(node)?;
        if names.is_empty() {
            return Err(PolicyError::NoResources);
        }
        names.iter().try_for_each(|name| resource::check(name))?;
        let pattern = |name: &&str| Pattern::compile(name, Wildcards::Resource, variables);
        let patterns = names.iter().map(pattern).collect();
        Ok(Some(Resources { negated, names: names.into_iter().map(str::to_owned).collect(), patterns }))
    }

    fn principals(&self, kind: Kind) -> Result<Option<Principals>, PolicyError> {
        let Some((node, negated)) = self.either("Principal", "NotPrincipal") else {
            return match kind {
                Kind::Identity | Kind::ServiceControl => Ok(None),
                Kind::Resource | Kind::Trust => Err(PolicyError::NoPrincipal),
            };
        };
        if matches!(kind, Kind::Identity | Kind::ServiceControl) {
            return Err(PolicyError::PrincipalNotAllowed);
        }
        let mut names = Vec::new();
        match &node.value {
            Json::String(name) if name == "*" => names.push(PrincipalName::Everyone),
            Json::String(name) => return Err(invalid_principal("AWS", name)),
            Json::Object(members) if !members.is_empty() => {
                for (of, node) in members {
                    for name in texts(node)? {
                        let parsed = PrincipalName::parse(of, name);
                        names.push(parsed.ok_or_else(|| invalid_principal(of, name))?);
                    }
                }
            }
            _ => return Err(PolicyError::Syntax),
        }
        if names.is_empty() {
            return Err(PolicyError::NoPrincipal);
        }
        Ok(Some(Principals { negated, names }))
    }

    fn conditions(&self, variables: Variables) -> Result<Vec<Condition>, PolicyError> {
        let mut conditions = Vec::new();
        self.for_each_condition(|operator, key, values| {
            if !key.contains(':') {
                return Err(PolicyError::NoVendor);
            }
            let condition = Condition::compile(operator, key, &values?, variables);
            conditions.push(condition.map_err(|error| match error {
                ConditionError::NoOperator => PolicyError::Syntax,
                ConditionError::Value => PolicyError::LegacyParsing,
            })?);
            Ok(())
        })?;
        Ok(conditions)
    }

    /// Calls with (operator, key, values) of each condition.
    fn for_each_condition(
        &self,
        mut each: impl FnMut(&str, &str, Result<Vec<String>, PolicyError>) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let Some(node) = find(self.members, "Condition") else { return Ok(()) };
        let Json::Object(operators) = &node.value else { return Err(PolicyError::Syntax) };
        for (operator, node) in operators {
            let Json::Object(keys) = &node.value else { return Err(PolicyError::Syntax) };
            for (key, node) in keys {
                each(operator, key, condition_values(node))?;
            }
        }
        Ok(())
    }
}

fn invalid_principal(kind: &str, name: &str) -> PolicyError {
    PolicyError::InvalidPrincipal { kind: kind.to_owned(), name: name.chars().take(256).collect() }
}

fn check_vendor(action: &str) -> Result<(), PolicyError> {
    let Some((vendor, name)) = action.split_once(':') else {
        return if action == "*" { Ok(()) } else { Err(PolicyError::NoVendor) };
    };
    if name.contains(':') {
        return Err(PolicyError::ManyColons);
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if vendor != "*" && (vendor.is_empty() || !vendor.bytes().all(known)) {
        return Err(PolicyError::InvalidVendor(vendor.to_owned()));
    }
    Ok(())
}

fn find<'a, 'b>(members: Members<'a, 'b>, name: &str) -> Option<&'b Node<'a>> {
    members.iter().find(|(of, _)| of == name).map(|(_, node)| node)
}

fn text_of<'b>(members: Members<'_, 'b>, name: &str) -> Result<Option<&'b str>, PolicyError> {
    match find(members, name) {
        None => Ok(None),
        Some(Node { value: Json::String(text), .. }) => Ok(Some(text)),
        Some(_) => Err(PolicyError::Syntax),
    }
}

/// A text, or several.
fn texts<'b>(node: &'b Node<'_>) -> Result<Vec<&'b str>, PolicyError> {
    match &node.value {
        Json::String(text) => Ok(vec![text]),
        Json::Array(nodes) => nodes
            .iter()
            .map(|node| match &node.value {
                Json::String(text) => Ok(&**text),
                _ => Err(PolicyError::Syntax),
            })
            .collect(),
        _ => Err(PolicyError::Syntax),
    }
}

/// A text, a number or a truth value, or several.
fn condition_values(node: &Node<'_>) -> Result<Vec<String>, PolicyError> {
    let scalar = |node: &Node<'_>| match &node.value {
        Json::String(text) => Ok(text.clone().into_owned()),
        Json::Number(number) => Ok((*number).to_owned()),
        Json::Bool(value) => Ok(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => Err(PolicyError::Syntax),
    };
    match &node.value {
        Json::Array(nodes) => nodes.iter().map(scalar).collect(),
        _ => Ok(vec![scalar(node)?]),
    }
}
