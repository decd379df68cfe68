//! What holds of every operation of every service, whoever wrote its table: proven by walking the
//! registered tables, with the real authorizer and the real handlers on a store in memory.

mod world;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use wharf_authorizer::IamAuthorizer;
use wharf_contracts::{
    AuthorizationRequest, Authorizer, Check, Decision, Identity, IdentityPolicies, IdentityRef, ImageError,
    ImageSource, OperationRequest, PolicySource, Reach, RequestFacts, Required, ResolvedImage,
};
use wharf_core::{
    AccountId, ApiError, Clock, ManualClock, Principal, Region, RequestContext, RequestId, Rng, Scope,
    SeededRng, Timestamp,
};
use wharf_engine::sim::Sim;
use wharf_network::DataPlane;
use wharf_network::sim::SimPlane;
use wharf_shape::{Operation, Shape, Slot, Structure};
use wharf_state::{MemoryJournal, Store};
use wharf_vault::Vault;
use wharf_wire::Registration;

use crate::services::{Parts, Services, tables};
use crate::vpc_endpoint::TaskEndpoints;

const OURS: &str = "111122223333";
const THEIRS: &str = "444455556666";
/// Stands in what only the other account may read.
const MARKER: &str = "their-own-affair";

/// Operations that AWS asks no permission for.
const FREE: [&str; 4] = [
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetCallerIdentity",
    "sts:GetSessionToken",
    // Of one's own keys.
    "iam:GetAccessKeyLastUsed",
];

/// An IAM with one user, who has one policy.
struct OneUser(Arc<Identity>);

impl OneUser {
    fn with(statements: &str) -> Arc<dyn IdentityPolicies> {
        let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        Arc::new(Self(Arc::new(Identity {
            account: account(OURS),
            id: "AIDAEXAMPLE".into(),
            path: "/".into(),
            name: "bob".into(),
            tags: Default::default(),
            policies: vec![PolicySource { name: "p".into(), document: document.into() }],
            boundary: None,
        })))
    }
}

impl IdentityPolicies for OneUser {
    fn identity(&self, _identity: IdentityRef<'_>) -> Option<Arc<Identity>> {
        Some(Arc::clone(&self.0))
    }

    fn managed_policy(&self, _account: AccountId, _arn: &str) -> Option<PolicySource> {
        None
    }
}

struct NoImages;

#[async_trait]
impl ImageSource for NoImages {
    async fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError> {
        Err(ImageError::NotFound { reference: reference.to_owned() })
    }
}

fn account(digits: &str) -> AccountId {
    digits.parse().unwrap()
}

fn context(principal: Principal) -> RequestContext {
    RequestContext {
        request_id: RequestId::random(&SeededRng::new(1)),
        scope: Scope { account: principal.account(), region: Region::default() },
        principal,
        session: None,
        access_key_id: "AKIAEXAMPLE".into(),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        now: Timestamp::from_millis(1_767_225_600_000),
    }
}

fn bob() -> RequestContext {
    context(Principal::User {
        account: account(OURS),
        id: "AIDAEXAMPLE".into(),
        path: "/".into(),
        name: "bob".into(),
    })
}

fn root_of(digits: &str) -> RequestContext {
    context(Principal::Root { account: account(digits) })
}

/// Every service, on nothing but memory.
fn registrations() -> Vec<Registration> {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
    let rng: Arc<dyn Rng> = Arc::new(SeededRng::new(7));
    let data_plane: Arc<dyn DataPlane> = Arc::new(SimPlane::new());
    let store = tables(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap();
    let services = Services::new(Parts {
        store,
        vault: Vault::ephemeral(Arc::clone(&rng)),
        engine: Arc::new(Sim::new(Arc::clone(&clock))),
        images: Arc::new(NoImages),
        endpoints: TaskEndpoints::new(Arc::clone(&data_plane)),
        data_plane,
        name_servers: Vec::new(),
        clock: clock as Arc<dyn Clock>,
        rng,
        default_account: AccountId::DEFAULT,
    });
    services.registrations()
}

/// What a text of an input is filled with.
#[derive(Clone, Copy)]
struct Filling<'a> {
    text: &'a str,
    /// The optional member of the outermost structure that is set too.
    also: Option<usize>,
}

impl Filling<'_> {
    fn input(self, operation: &Operation) -> Box<dyn Structure> {
        let mut input = (operation.new_input)();
        self.structure(&mut *input, self.also, 0);
        input
    }

    fn structure(self, structure: &mut dyn Structure, also: Option<usize>, depth: usize) {
        let shape = structure.shape();
        for (index, member) in shape.members.iter().enumerate() {
            let wanted = member.required || also == Some(index);
            if let Some(slot) = wanted.then(|| structure.member_mut(index)).flatten() {
                self.slot(slot, depth);
            }
        }
    }

    fn slot(self, slot: Slot<'_>, depth: usize) {
        if depth > 4 {
            return;
        }
        match slot {
            Slot::String(text) => text.set(self.text.to_owned()),
            Slot::Structure(structure) => self.structure(structure, None, depth + 1),
            Slot::List(list) => self.slot(list.push(), depth + 1),
            Slot::Map(map) => self.slot(map.insert(self.text.to_owned()), depth + 1),
            Slot::Blob(bytes) => bytes.extend_from_slice(self.text.as_bytes()),
            Slot::Integer(number) => *number = 1,
            Slot::Long(number) => *number = 1,
            Slot::Boolean(_) | Slot::Double(_) | Slot::Timestamp(_) | Slot::Document(_) => {}
        }
    }
}

/// Each operation that its service does.
fn done(registration: &Registration) -> impl Iterator<Item = &'static Operation> {
    let known: BTreeSet<&str> = registration.authorization().operations().into_iter().collect();
    registration.service().model().operations.iter().filter(move |operation| known.contains(operation.name))
}

fn required(
    registration: &Registration,
    context: &RequestContext,
    operation: &'static Operation,
    input: &dyn Structure,
) -> Result<Required, ApiError> {
    registration.authorization().required(&OperationRequest { context, operation, input })
}

fn decide(iam: &Arc<dyn IdentityPolicies>, context: &RequestContext, checks: &[Check]) -> Decision {
    let facts = RequestFacts::default();
    IamAuthorizer::new(Arc::clone(iam)).decide(&AuthorizationRequest { context, checks, facts: &facts })
}

/// The checks of an operation whose texts are `text`; `None` when nothing is asked, or when the text
/// is refused before anybody is asked.
fn checks(registration: &Registration, operation: &'static Operation, text: &str) -> Option<Vec<Check>> {
    let input = Filling { text, also: None }.input(operation);
    match required(registration, &bob(), operation, &*input) {
        Ok(Required::All(checks)) => Some(checks),
        Ok(Required::Nothing) | Err(_) => None,
    }
}

/// Texts with which each table should get along: a name, and ARNs of some kinds.
fn own_texts() -> Vec<String> {
    let mut texts = vec!["name".to_owned(), "AKIAIOSFODNN7EXAMPLE".to_owned()];
    texts.extend(arns_of(OURS));
    texts
}

/// Each kind of thing that can be named by an ARN, all of them called `thing`.
fn arns_of(account: &str) -> Vec<String> {
    [
        "ecs:us-east-1:ACCOUNT:cluster/thing",
        "ecs:us-east-1:ACCOUNT:task-definition/thing:1",
        "ecs:us-east-1:ACCOUNT:task/thing/0123456789abcdef0123456789abcdef",
        "logs:us-east-1:ACCOUNT:log-group:thing",
        "logs:us-east-1:ACCOUNT:log-group:thing:*",
        "iam::ACCOUNT:role/thing",
        "iam::ACCOUNT:user/thing",
        "iam::ACCOUNT:policy/thing",
        "ssm:us-east-1:ACCOUNT:parameter/thing",
        "secretsmanager:us-east-1:ACCOUNT:secret:thing-AbCdEf",
        "iam::ACCOUNT:oidc-provider/thing.example.com",
        "iam::ACCOUNT:saml-provider/thing",
    ]
    .map(|rest| format!("arn:aws:{}", rest.replace("ACCOUNT", account)))
    .to_vec()
}

#[tokio::test]
async fn nothing_can_be_called_by_a_principal_without_a_policy() {
    let nothing = OneUser::with(r#"{"Effect":"Allow","Action":"none:None","Resource":"*"}"#);
    for registration in registrations() {
        let model = registration.service().model();
        let known: BTreeSet<&str> = registration.authorization().operations().into_iter().collect();
        for operation in model.operations {
            for text in own_texts() {
                let input = Filling { text: &text, also: None }.input(operation);
                let asked = required(&registration, &bob(), operation, &*input);
                if !known.contains(operation.name) {
                    let error = asked.expect_err(operation.action);
                    assert_eq!((error.status, &*error.code), (501, "NotImplemented"), "{}", operation.action);
                    continue;
                }
                match asked {
                    // Refused before anybody is asked.
                    Err(error) => assert!(error.status < 500, "{}: {error}", operation.action),
                    Ok(Required::Nothing) => {
                        assert!(FREE.contains(&operation.action), "{}", operation.action);
                    }
                    Ok(Required::All(checks)) => {
                        let Decision::Deny(denial) = decide(&nothing, &bob(), &checks) else {
                            panic!("{} may be called by anybody", operation.action)
                        };
                        let start = "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: ";
                        assert!(denial.message.starts_with(start), "{}", denial.message);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn everything_can_be_called_by_whoever_has_just_what_its_table_asks() {
    for registration in registrations() {
        for operation in done(&registration) {
            if FREE.contains(&operation.action) {
                continue;
            }
            let mut passed = false;
            for checks in own_texts().iter().filter_map(|text| checks(&registration, operation, text)) {
                let gated = checks.iter().flat_map(|check| &check.resources).any(|of| of.policy.is_some());
                let foreign =
                    checks.iter().flat_map(|check| &check.resources).any(|of| of.owner != account(OURS));
                if gated || foreign {
                    continue;
                }
                let actions: BTreeSet<String> =
                    checks.iter().map(|check| format!("{:?}", check.action)).collect();
                let list = actions.iter().cloned().collect::<Vec<_>>().join(",");
                let just =
                    OneUser::with(&format!(r#"{{"Effect":"Allow","Action":[{list}],"Resource":"*"}}"#));
                assert_eq!(decide(&just, &bob(), &checks), Decision::Allow, "{}", operation.action);
                // Each of the actions is needed.
                for action in &actions {
                    let but = OneUser::with(&format!(
                        r#"{{"Effect":"Allow","NotAction":{action},"Resource":"*"}}"#
                    ));
                    let decision = decide(&but, &bob(), &checks);
                    assert!(matches!(decision, Decision::Deny(_)), "{} without {action}", operation.action);
                }
                // A role that does not exist has no trust policy to be let in by.
                passed = true;
            }
            assert!(passed || operation.action == "sts:AssumeRole", "{} is never passed", operation.action);
        }
    }
}

#[tokio::test]
async fn what_a_table_names_of_another_account_is_denied_without_its_resource_policy() {
    let all = OneUser::with(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#);
    for registration in registrations() {
        for operation in done(&registration) {
            for arn in arns_of(THEIRS) {
                let Some(checks) = checks(&registration, operation, &arn) else { continue };
                let foreign =
                    checks.iter().flat_map(|check| &check.resources).any(|of| of.owner != account(OURS));
                let decision = decide(&all, &bob(), &checks);
                assert_eq!(decision == Decision::Allow, !foreign, "{} of {arn}", operation.action);
                // Root users are asked where another account can be reached.
                if registration.authorization().reach(operation) == Reach::AnyAccount {
                    let decision = decide(&all, &root_of(OURS), &checks);
                    assert_eq!(decision == Decision::Allow, !foreign, "{} of {arn}", operation.action);
                }
            }
        }
    }
}

/// Calls an operation as the pipeline does after authorization.
async fn call(
    registration: &Registration,
    context: &RequestContext,
    name: &str,
    input: Box<dyn Structure>,
) -> Result<String, ApiError> {
    let service = registration.service();
    let operation = service.model().operation(name).unwrap();
    service.call(operation, context, input).await.map(|output| format!("{output:?}"))
}

/// The members of an operation's input that may name something; and none of them.
fn names(operation: &Operation) -> Vec<Option<usize>> {
    let members = operation.input.members.iter().enumerate();
    let optional = members.filter(|(_, member)| {
        let names_something = match member.shape {
            Shape::String(_) => true,
            Shape::List(list) => matches!(list.member, Shape::String(_)),
            _ => false,
        };
        names_something && !member.required
    });
    std::iter::once(None).chain(optional.map(|(index, _)| Some(index))).collect()
}

/// Roots are not asked about operations that stay at home; so these must stay there.
#[tokio::test]
async fn no_handler_reaches_into_another_account_whatever_it_is_asked() {
    let registrations = registrations();
    let theirs = world::make(&registrations, &root_of(THEIRS), MARKER).await;
    let before = world::describe(&registrations, &root_of(THEIRS)).await;
    assert!(before.contains(MARKER), "the other account has something to hide: {before}");
    assert_eq!(told(&registrations, &root_of(OURS), &theirs).await, BTreeSet::new());
    let after = world::describe(&registrations, &root_of(THEIRS)).await;
    assert_eq!(after, before, "the other account was changed");
    // The same calls tell their owner a lot, so that they would have told us, too.
    let owner = told(&registrations, &root_of(THEIRS), &theirs).await;
    assert!(owner.len() > 10, "{owner:?}");
}

/// The operations that answer with the marker when they are asked about one of these.
async fn told(
    registrations: &[Registration],
    context: &RequestContext,
    texts: &[String],
) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for registration in registrations {
        for operation in done(registration) {
            if registration.authorization().reach(operation) == Reach::AnyAccount {
                continue;
            }
            for also in names(operation) {
                for text in texts {
                    let input = Filling { text, also }.input(operation);
                    let answer = call(registration, context, operation.name, input).await;
                    if answer.is_ok_and(|answer| answer.contains(MARKER)) {
                        told.insert(format!("{} of {text}", operation.action));
                    }
                }
            }
        }
    }
    told
}
