//! Which services a set of permission policies gives access to, as the access advisor means it: by
//! what actions statements name, whatever the resources and conditions (API Reference,
//! GenerateServiceLastAccessedDetails: "It only applies permissions policy logic").

use std::collections::BTreeSet;

use serde_json::Value;

/// The services of this field, by namespace and name (Service Authorization Reference). A policy that
/// allows every service is told to give access to these.
const SERVICES: &[(&str, &str)] = &[
    ("acm", "AWS Certificate Manager"),
    ("apigateway", "Amazon API Gateway Management"),
    ("application-autoscaling", "AWS Application Auto Scaling"),
    ("autoscaling", "Amazon EC2 Auto Scaling"),
    ("batch", "AWS Batch"),
    ("cloudformation", "AWS CloudFormation"),
    ("cloudtrail", "AWS CloudTrail"),
    ("cloudwatch", "Amazon CloudWatch"),
    ("dynamodb", "Amazon DynamoDB"),
    ("ec2", "Amazon EC2"),
    ("ecr", "Amazon Elastic Container Registry"),
    ("ecs", "Amazon Elastic Container Service"),
    ("eks", "Amazon Elastic Kubernetes Service"),
    ("elasticfilesystem", "Amazon Elastic File System"),
    ("elasticloadbalancing", "AWS Elastic Load Balancing V2"),
    ("events", "Amazon EventBridge"),
    ("execute-api", "Amazon API Gateway"),
    ("iam", "AWS Identity and Access Management"),
    ("kms", "AWS Key Management Service"),
    ("lambda", "AWS Lambda"),
    ("logs", "Amazon CloudWatch Logs"),
    ("route53", "Amazon Route 53"),
    ("s3", "Amazon S3"),
    ("scheduler", "Amazon EventBridge Scheduler"),
    ("secretsmanager", "AWS Secrets Manager"),
    ("servicediscovery", "AWS Cloud Map"),
    ("sns", "Amazon SNS"),
    ("sqs", "Amazon SQS"),
    ("ssm", "AWS Systems Manager"),
    ("states", "AWS Step Functions"),
    ("sts", "AWS Security Token Service"),
];

/// The name of a service; its namespace where it is not known.
pub fn service_name(namespace: &str) -> &str {
    SERVICES.iter().find(|(known, _)| *known == namespace).map_or(namespace, |(_, name)| name)
}

/// What the statements of some documents say of services.
#[derive(Default)]
pub struct Access {
    allowed: Vec<Actions>,
    denied: Vec<Actions>,
}

enum Actions {
    /// `Action`: the entries.
    These(Vec<String>),
    /// `NotAction`: everything but the entries.
    AllBut(Vec<String>),
}

impl Actions {
    /// Whether some action of the service is among them.
    fn touch(&self, service: &str) -> bool {
        match self {
            Self::These(entries) => entries.iter().any(|entry| {
                entry == "*" || entry.split_once(':').is_some_and(|(of, _)| of.eq_ignore_ascii_case(service))
            }),
            Self::AllBut(entries) => !covers(entries, service),
        }
    }

    /// Whether every action of the service is among them.
    fn cover(&self, service: &str) -> bool {
        match self {
            Self::These(entries) => covers(entries, service),
            Self::AllBut(_) => self.touch(service) && !self.names(service),
        }
    }

    /// Whether an entry is of this service.
    fn names(&self, service: &str) -> bool {
        self.namespaces().any(|of| of == service)
    }

    fn namespaces(&self) -> impl Iterator<Item = String> {
        let (Self::These(entries) | Self::AllBut(entries)) = self;
        entries.iter().filter_map(|entry| entry.split_once(':')).map(|(of, _)| of.to_ascii_lowercase())
    }
}

fn covers(entries: &[String], service: &str) -> bool {
    entries.iter().any(|entry| {
        let of_service = entry.split_once(':');
        entry == "*" || of_service.is_some_and(|(of, name)| of.eq_ignore_ascii_case(service) && name == "*")
    })
}

impl Access {
    /// Of documents that have passed the grammar check; anything else allows nothing.
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a str>) -> Self {
        let mut access = Self::default();
        for document in documents {
            let Ok(policy) = serde_json::from_str::<Value>(document) else { continue };
            for statement in items(&policy["Statement"]) {
                access.add(statement);
            }
        }
        access
    }

    fn add(&mut self, statement: &Value) {
        let texts = |value: &Value| items(value).filter_map(Value::as_str).map(str::to_owned).collect();
        let actions = if statement["NotAction"].is_null() {
            Actions::These(texts(&statement["Action"]))
        } else {
            Actions::AllBut(texts(&statement["NotAction"]))
        };
        match statement["Effect"].as_str() {
            Some("Allow") => self.allowed.push(actions),
            // A denial counts when it leaves nothing of a service.
            Some("Deny")
                if statement["Condition"].is_null()
                    && items(&statement["Resource"]).any(|resource| resource == "*") =>
            {
                self.denied.push(actions);
            }
            _ => {}
        }
    }

    /// Whether some action of the service is allowed.
    pub fn gives(&self, service: &str) -> bool {
        self.allowed.iter().any(|actions| actions.touch(service))
            && !self.denied.iter().any(|actions| actions.cover(service))
    }

    /// The namespaces of all services that it gives access to, in order.
    pub fn services(&self) -> BTreeSet<String> {
        let known = SERVICES.iter().map(|(namespace, _)| (*namespace).to_owned());
        let named = self.allowed.iter().flat_map(Actions::namespaces);
        known.chain(named).filter(|service| self.gives(service)).collect()
    }
}

/// The items of a list, or the one thing that stands in its place.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    let (list, one) = match value {
        Value::Array(list) => (list.as_slice(), None),
        Value::Null => (Default::default(), None),
        other => (Default::default(), Some(other)),
    };
    list.iter().chain(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(statements: &str) -> Access {
        let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        Access::of([document.as_str()])
    }

    #[test]
    fn services_are_those_whose_actions_are_allowed() {
        let read = r#"{"Effect":"Allow","Action":["ECS:RunTask","madeup:Do"],"Resource":"*"}"#;
        assert_eq!(access(read).services().into_iter().collect::<Vec<_>>(), ["ecs", "madeup"]);
        let all = access(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#);
        assert_eq!(all.services().len(), SERVICES.len());
        let power = access(r#"{"Effect":"Allow","NotAction":["iam:*","kms:Decrypt"],"Resource":"*"}"#);
        assert!(!power.gives("iam") && power.gives("kms") && power.gives("ecs"));
    }

    #[test]
    fn a_denial_of_all_of_a_service_takes_it_away_and_a_smaller_one_does_not() {
        let allow = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
        let with = |deny: &str| access(&format!("{allow},{deny}"));
        assert!(!with(r#"{"Effect":"Deny","Action":"ecs:*","Resource":"*"}"#).gives("ecs"));
        assert!(with(r#"{"Effect":"Deny","Action":"ecs:RunTask","Resource":"*"}"#).gives("ecs"));
        assert!(with(r#"{"Effect":"Deny","Action":"ecs:*","Resource":"arn:aws:ecs:::x"}"#).gives("ecs"));
        assert!(!with(r#"{"Effect":"Deny","NotAction":"iam:*","Resource":"*"}"#).gives("ecs"));
        assert!(with(r#"{"Effect":"Deny","NotAction":"ecs:RunTask","Resource":"*"}"#).gives("ecs"));
    }

    #[test]
    fn names_are_in_order_so_that_a_report_is() {
        assert!(SERVICES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!((service_name("ecs"), service_name("x")), ("Amazon Elastic Container Service", "x"));
    }
}
