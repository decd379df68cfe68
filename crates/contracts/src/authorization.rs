//! What IAM has to be asked before an operation may run: each service's own table.
//!
//! A service's `authorization.rs` holds one [`Entry`] for each operation that it does, in the terms
//! of the Service Authorization Reference ("Actions, resources, and condition keys for …"): the
//! action, the resources that the request names, the condition keys. There is no default: an
//! operation without an entry is answered by `NotImplemented`, to everybody but root users, for whom
//! the generated trait says the same.
//!
//! Nothing here decides; see [`crate::Authorizer`].

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_core::{AccountId, ApiError, Arn, RequestContext};
use wharf_shape::{Operation, ServiceModel, Structure, View};

/// Tags of a resource or of a request.
pub type Tags = BTreeMap<String, String>;

/// A decoded and validated request, before anybody has been asked.
pub struct OperationRequest<'a> {
    pub context: &'a RequestContext,
    pub operation: &'static Operation,
    pub input: &'a dyn Structure,
}

/// What must be allowed for an operation to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Required {
    /// AWS asks for no permission, and an explicit deny does not help: `sts:GetCallerIdentity`.
    Nothing,
    /// Every one of these. None at all is denied.
    All(Vec<Check>),
}

/// One question to IAM: may the caller do `action` on each of `resources`?
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// `ecs:RunTask`.
    pub action: Cow<'static, str>,
    /// Never empty: an action without resource-level permissions is asked on [`Resource::any`].
    pub resources: Vec<Resource>,
    /// Condition keys that hold for all of the resources.
    pub keys: Vec<ConditionKey>,
}

/// Something that an action is done to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// An ARN, or `*`. A resource that is yet to be named has `*` in the place of what is unknown.
    pub arn: String,
    /// The account that the resource belongs to (`aws:ResourceAccount`).
    pub owner: AccountId,
    /// `aws:ResourceTag/*`, and the service's own `SERVICE:ResourceTag/*`. Empty when the resource
    /// does not exist: whether it does must not be told to who may not know.
    pub tags: Tags,
    pub policy: Option<ResourcePolicy>,
    /// Condition keys that hold for this resource alone.
    pub keys: Vec<ConditionKey>,
}

/// The policy that is attached to a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePolicy {
    /// As it was stored. The same `Arc` for as long as the policy is the same makes decisions cheap.
    pub document: Arc<str>,
    pub kind: ResourcePolicyKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourcePolicyKind {
    /// In the resource's own account an identity policy alone is enough (secrets, repositories …).
    Grants,
    /// Nobody gets in whom this policy does not let in, in the resource's own account either: KMS
    /// key policies.
    Gates,
    /// As [`Self::Gates`]: who may assume a role.
    Trust,
}

/// A condition key of the request and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionKey {
    /// `ecs:cluster`, `aws:RequestTag/team`.
    pub name: Cow<'static, str>,
    pub values: Values,
}

/// How many values a key has is a property of the key, not of the request: `aws:TagKeys` is
/// multivalued even when there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    One(String),
    Many(Vec<String>),
}

/// What the pipeline asks a service. Implemented by [`AuthorizationTable`].
pub trait ServiceAuthorization: Send + Sync {
    /// # Errors
    /// `NotImplemented` for an operation that has no entry; the service's own error when the request
    /// names a resource in a form that nobody understands.
    fn required(&self, request: &OperationRequest<'_>) -> Result<Required, ApiError>;

    /// Whether the operation can reach resources of an account that is not the caller's. If it
    /// cannot, the root user of the account is not asked any further.
    fn reach(&self, operation: &Operation) -> Reach;

    /// The operations that have an entry, for the tests that walk all tables.
    fn operations(&self) -> Vec<&'static str>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whatever the request says, the handler looks at the caller's account alone.
    OwnAccount,
    /// The request may name a resource of another account, whose policy decides.
    AnyAccount,
}

/// How one operation is asked for.
pub struct Entry<S> {
    /// The operation's name in the model: `RunTask`.
    pub operation: &'static str,
    pub reach: Reach,
    pub required: fn(&S, &OperationRequest<'_>) -> Result<Required, ApiError>,
}

impl<S> Entry<S> {
    pub const fn new(
        operation: &'static str,
        required: fn(&S, &OperationRequest<'_>) -> Result<Required, ApiError>,
    ) -> Self {
        Self { operation, reach: Reach::OwnAccount, required }
    }

    /// For an operation whose resource has a policy that may let other accounts in.
    #[must_use]
    pub const fn across_accounts(mut self) -> Self {
        self.reach = Reach::AnyAccount;
        self
    }
}

/// A service's entries beside its model.
pub struct AuthorizationTable<S: 'static> {
    service: Arc<S>,
    entries: &'static [Entry<S>],
    /// By the operation's name.
    by_name: BTreeMap<&'static str, &'static Entry<S>>,
}

impl<S: Send + Sync + 'static> AuthorizationTable<S> {
    /// # Panics
    /// When an entry names no operation of the model, or one twice: a mistake in the table.
    pub fn new(model: &ServiceModel, service: Arc<S>, entries: &'static [Entry<S>]) -> Arc<Self> {
        let mut by_name = BTreeMap::new();
        for entry in entries {
            assert!(
                model.operation(entry.operation).is_some(),
                "{}: {} is no operation of the model",
                model.name,
                entry.operation
            );
            let twice = by_name.insert(entry.operation, entry).is_some();
            assert!(!twice, "{}: {} has two entries", model.name, entry.operation);
        }
        Arc::new(Self { service, entries, by_name })
    }
}

impl<S: Send + Sync + 'static> ServiceAuthorization for AuthorizationTable<S> {
    fn required(&self, request: &OperationRequest<'_>) -> Result<Required, ApiError> {
        match self.by_name.get(request.operation.name) {
            Some(entry) => (entry.required)(&self.service, request),
            None => Err(ApiError::not_implemented(request.operation.action)),
        }
    }

    fn reach(&self, operation: &Operation) -> Reach {
        // An operation without an entry does nothing; its handler says so.
        self.by_name.get(operation.name).map_or(Reach::OwnAccount, |entry| entry.reach)
    }

    fn operations(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.operation).collect()
    }
}

/// A mistake of ours: a table looks for another input than the operation has.
#[derive(Debug, thiserror::Error)]
#[error("the input of {operation} is not {wanted}")]
struct WrongInput {
    operation: &'static str,
    wanted: &'static str,
}

impl<'a> OperationRequest<'a> {
    /// The typed input.
    ///
    /// # Errors
    /// An internal error when the operation has another input.
    pub fn input<T: Structure>(&self) -> Result<&'a T, ApiError> {
        let input: &'a dyn Any = self.input;
        input.downcast_ref::<T>().ok_or_else(|| {
            ApiError::internal(WrongInput {
                operation: self.operation.name,
                wanted: std::any::type_name::<T>(),
            })
        })
    }

    /// A member that is a string; `None` when it is absent, empty or of another type.
    pub fn text(&self, member: &str) -> Option<&'a str> {
        match self.member(member) {
            View::String(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The items of a member that is a list of strings.
    pub fn texts(&self, member: &str) -> Vec<&'a str> {
        let View::List(list) = self.member(member) else { return Vec::new() };
        (0..list.len())
            .filter_map(|index| match list.item(index) {
                View::String(text) => Some(text),
                _ => None,
            })
            .collect()
    }

    /// The tags in a member: a map, or a list of structures with a key and a value, under whatever
    /// names the service gives these two.
    pub fn tags(&self, member: &str) -> Tags {
        match self.member(member) {
            View::Map(map) => map
                .entries()
                .filter_map(|(key, value)| match value {
                    View::String(value) => Some((key.to_owned(), value.to_owned())),
                    _ => None,
                })
                .collect(),
            View::List(list) => (0..list.len())
                .filter_map(|index| match list.item(index) {
                    View::Structure(tag) => tag_of(tag),
                    _ => None,
                })
                .collect(),
            _ => Tags::new(),
        }
    }

    /// The value of a member by its name in the model; [`View::Absent`] when there is none.
    pub fn member(&self, name: &str) -> View<'a> {
        let members = self.input.shape().members;
        members
            .iter()
            .position(|member| member.name == name)
            .map_or(View::Absent, |index| self.input.member(index))
    }

    /// The operation's own action, asked on `*`.
    #[must_use]
    pub fn on_any(&self) -> Check {
        self.on([self.any()])
    }

    /// The operation's own action, asked on these. None at all means `*`.
    #[must_use]
    pub fn on(&self, resources: impl IntoIterator<Item = Resource>) -> Check {
        self.action(self.operation.action, resources)
    }

    /// Another action, asked on these. None at all means `*`.
    #[must_use]
    pub fn action(
        &self,
        action: impl Into<Cow<'static, str>>,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Check {
        let mut resources: Vec<Resource> = resources.into_iter().collect();
        if resources.is_empty() {
            resources.push(self.any());
        }
        Check { action: action.into(), resources, keys: Vec::new() }
    }

    /// `iam:PassRole` on a role that is handed to a service (`ecs-tasks.amazonaws.com`).
    #[must_use]
    pub fn pass_role(&self, role_arn: &str, service: &'static str) -> Check {
        self.action("iam:PassRole", [self.named(role_arn)]).with("iam:PassedToService", service)
    }

    /// `*`, in the caller's account.
    pub fn any(&self) -> Resource {
        Resource::new("*", self.context.account())
    }

    /// A resource of the caller's account and region: `arn:…:ecs:REGION:ACCOUNT:RESOURCE`.
    pub fn regional(&self, service: &str, resource: impl AsRef<str>) -> Resource {
        let context = self.context;
        let arn = format!(
            "arn:{}:{service}:{}:{}:{}",
            context.partition(),
            context.region(),
            context.account(),
            resource.as_ref()
        );
        Resource::new(arn, context.account())
    }

    /// A resource of the caller's account in a service without regions: `arn:…:iam::ACCOUNT:RESOURCE`.
    pub fn global(&self, service: &str, resource: impl AsRef<str>) -> Resource {
        let context = self.context;
        let arn =
            format!("arn:{}:{service}::{}:{}", context.partition(), context.account(), resource.as_ref());
        Resource::new(arn, context.account())
    }

    /// A resource by the ARN that the request gives. Its owner is the account in the ARN; the
    /// caller's, when the ARN has none or is none.
    pub fn named(&self, arn: &str) -> Resource {
        let owner = arn.parse::<Arn>().ok().and_then(|arn| arn.account);
        Resource::new(arn, owner.unwrap_or_else(|| self.context.account()))
    }
}

/// The two strings of a tag structure.
fn tag_of(tag: &dyn Structure) -> Option<(String, String)> {
    let text = |wanted: &str| {
        let members = tag.shape().members;
        let index = members.iter().position(|member| {
            let name = member.name;
            name.eq_ignore_ascii_case(wanted) || name.to_ascii_lowercase() == format!("tag{wanted}")
        })?;
        match tag.member(index) {
            View::String(text) => Some(text.to_owned()),
            _ => None,
        }
    };
    Some((text("key")?, text("value").unwrap_or_default()))
}

impl Check {
    /// With a single-valued condition key.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.keys.push(ConditionKey { name: name.into(), values: Values::One(value.into()) });
        self
    }

    /// With a single-valued condition key that the request may lack.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With a multivalued condition key.
    #[must_use]
    pub fn with_many(
        mut self,
        name: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = String>,
    ) -> Self {
        self.keys
            .push(ConditionKey { name: name.into(), values: Values::Many(values.into_iter().collect()) });
        self
    }

    /// With `aws:RequestTag/*` and `aws:TagKeys`: the tags that the request would set. Nothing when
    /// there are none.
    #[must_use]
    pub fn with_request_tags(mut self, tags: &Tags) -> Self {
        if tags.is_empty() {
            return self;
        }
        for (key, value) in tags {
            self = self.with(format!("aws:RequestTag/{key}"), value);
        }
        self.with_tag_keys(tags.keys().cloned())
    }

    /// With `aws:TagKeys`: the tags that the request would take away.
    #[must_use]
    pub fn with_tag_keys(self, keys: impl IntoIterator<Item = String>) -> Self {
        self.with_many("aws:TagKeys", keys)
    }
}

impl From<Check> for Required {
    fn from(check: Check) -> Self {
        Self::All(vec![check])
    }
}

impl From<Vec<Check>> for Required {
    fn from(checks: Vec<Check>) -> Self {
        Self::All(checks)
    }
}

impl Resource {
    pub fn new(arn: impl Into<String>, owner: AccountId) -> Self {
        Self { arn: arn.into(), owner, tags: Tags::new(), policy: None, keys: Vec::new() }
    }

    #[must_use]
    pub fn with_tags(mut self, tags: &Tags) -> Self {
        self.tags.clone_from(tags);
        self
    }

    #[must_use]
    pub fn with_policy(mut self, document: Arc<str>, kind: ResourcePolicyKind) -> Self {
        self.policy = Some(ResourcePolicy { document, kind });
        self
    }

    /// With a condition key of this resource alone.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.keys.push(ConditionKey { name: name.into(), values: Values::One(value.into()) });
        self
    }
}
