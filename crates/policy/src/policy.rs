//! A policy, compiled: what each statement means, and where the statements for a service are.

use std::collections::{BTreeSet, HashMap};

use crate::condition::Condition;
use crate::context::Context;
use crate::document::{self, Kind};
use crate::error::PolicyError;
use crate::json::Span;
use crate::pattern::Pattern;
use crate::principal::{PrincipalName, Principals};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// A checked and compiled document.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) kind: Kind,
    pub(crate) id: Option<String>,
    pub(crate) statements: Vec<Statement>,
    pub(crate) index: Index,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) principals: Option<Principals>,
    pub(crate) actions: Actions,
    /// `None` in trust policies, and where a service's resource policies mean the resource itself.
    pub(crate) resources: Option<Resources>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) span: Span,
}

/// `Action` or `NotAction`, in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Actions {
    pub negated: bool,
    /// As written.
    pub names: Vec<String>,
    pub patterns: Vec<Pattern>,
}

/// `Resource` or `NotResource`.
#[derive(Clone, Debug)]
pub(crate) struct Resources {
    pub negated: bool,
    /// As written.
    pub names: Vec<String>,
    pub patterns: Vec<Pattern>,
}

/// Which statements may mean an action, by the action's service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    by_service: HashMap<Box<str>, Vec<u32>>,
    /// Those that may mean any service.
    any: Vec<u32>,
}

impl Policy {
    /// # Errors
    /// What IAM says in `MalformedPolicyDocument`.
    pub fn parse(kind: Kind, document: &str) -> Result<Self, PolicyError> {
        document::compile(kind, document)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Everybody whom a `Principal` or `NotPrincipal` element names, for whoever has to know whether
    /// they exist.
    pub fn principals(&self) -> impl Iterator<Item = &PrincipalName> {
        self.statements.iter().filter_map(|statement| statement.principals.as_ref()).flat_map(|of| &of.names)
    }

    /// The condition keys that it looks at, in conditions and variables, as written first.
    pub fn context_keys(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut keys = Vec::new();
        for statement in &self.statements {
            for key in statement.context_keys() {
                if seen.insert(key.to_ascii_lowercase()) {
                    keys.push(key.to_owned());
                }
            }
        }
        keys
    }

    /// The statements whose actions may be of this service (in lower case), by their numbers.
    pub(crate) fn candidates(&self, service: &str) -> impl Iterator<Item = (usize, &Statement)> {
        let of_service = self.index.by_service.get(service).map_or(&[] as &[u32], Vec::as_slice);
        of_service.iter().chain(&self.index.any).map(|number| {
            let number = *number as usize;
            (number, &self.statements[number])
        })
    }
}

impl Statement {
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Where it stands in its document.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The entries of `Action`, as written; empty for `NotAction`.
    pub fn actions(&self) -> &[String] {
        if self.actions.negated { &[] } else { &self.actions.names }
    }

    /// Whether actions, resources and conditions mean the request; whom it means is another question.
    /// `action` is in lower case.
    pub(crate) fn applies(&self, action: &str, resource: &str, context: &dyn Context) -> bool {
        self.actions.matches(action)
            && self.resources.as_ref().is_none_or(|resources| resources.matches(resource, context))
            && self.conditions.iter().all(|condition| condition.holds(context))
    }

    pub(crate) fn context_keys(&self) -> impl Iterator<Item = &str> {
        let resources = self.resources.iter().flat_map(|resources| &resources.patterns);
        let conditions = self
            .conditions
            .iter()
            .flat_map(|condition| std::iter::once(condition.key.as_str()).chain(condition.variables()));
        resources.flat_map(Pattern::variables).chain(conditions)
    }
}

/// Nothing that a pattern of actions looks at comes from the request.
struct NoContext;

impl Context for NoContext {
    fn get(&self, _key: &str) -> Option<crate::context::Values<'_>> {
        None
    }
}

impl Actions {
    pub fn matches(&self, action: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(action, &NoContext)) != self.negated
    }
}

impl Resources {
    fn matches(&self, resource: &str, context: &dyn Context) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(resource, context)) != self.negated
    }
}

impl Index {
    pub fn of(statements: &[Statement]) -> Self {
        let mut index = Self::default();
        for (number, statement) in statements.iter().enumerate() {
            // There are at most STATEMENTS_MAX.
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let services = statement.actions.services();
            match services {
                Some(services) => {
                    for service in services {
                        index.by_service.entry(service).or_default().push(number);
                    }
                }
                None => index.any.push(number),
            }
        }
        index
    }
}

impl Actions {
    /// The services of the actions; `None` when it may be any.
    fn services(&self) -> Option<BTreeSet<Box<str>>> {
        if self.negated {
            return None;
        }
        let service = |name: &String| {
            let (service, _) = name.split_once(':')?;
            (!service.contains(['*', '?'])).then(|| service.to_ascii_lowercase().into_boxed_str())
        };
        self.names.iter().map(service).collect()
    }
}
