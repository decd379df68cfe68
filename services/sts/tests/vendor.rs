//! Roles of tasks: whom a role's trust policy lets in, and what comes of it.

mod support;

use std::time::Duration;

use support::*;
use wharf_contracts::{CredentialSource as _, CredentialVendor as _, VendError, VendRequest};
use wharf_core::{Partition, SessionOrigin};

const TASK: &str = "arn:aws:ecs:us-east-1:123456789012:task/default/1";

fn request(role_arn: &str) -> VendRequest<'_> {
    VendRequest {
        role_arn,
        service: "ecs-tasks.amazonaws.com",
        session_name: "0123456789abcdef",
        source_arn: Some(TASK),
        source_account: Some(account()),
        lifetime: Duration::from_secs(6 * 3600),
        now: NOW,
    }
}

#[test]
fn a_task_gets_the_role_that_trusts_tasks() {
    let world = World::new();
    world.add_role(
        "task",
        3600,
        r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"},
                          "ArnLike": {"aws:SourceArn": "arn:aws:ecs:*:123456789012:*"}}}]}"#,
    );
    let arn = role_arn("task");
    let vended = world.sts.vend(&request(&arn)).unwrap();
    let tokens = world.sts.tokens();
    let known = tokens.credentials(&vended.access_key_id, Some(&vended.session_token), NOW).unwrap();
    assert_eq!(known.principal, vended.principal);
    assert_eq!(
        known.principal.arn(Partition::Aws),
        "arn:aws:sts::123456789012:assumed-role/task/0123456789abcdef"
    );
    assert_eq!(known.session.unwrap().origin, SessionOrigin::Service);
    assert_eq!(vended.expires_at, after(Duration::from_secs(6 * 3600)));
    let shown = format!("{vended:?}");
    assert!(!shown.contains(&vended.secret_access_key) && !shown.contains(&vended.session_token), "{shown}");

    let refused = |request: VendRequest<'_>| world.sts.vend(&request).unwrap_err();
    assert_eq!(refused(VendRequest { service: "ec2.amazonaws.com", ..request(&arn) }), VendError::NotTrusted);
    assert_eq!(refused(VendRequest { source_account: None, ..request(&arn) }), VendError::NotTrusted);
    assert_eq!(refused(request(&role_arn("deploy"))), VendError::NotTrusted);
    assert_eq!(refused(request(&role_arn("none"))), VendError::NoRole);
    assert_eq!(refused(request("task")), VendError::Arn);
}
