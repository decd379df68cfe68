"""IAM with the stock clients: what people and Terraform call, in their order, and what a restart keeps."""

import csv
import json
import uuid

import pytest
from botocore.exceptions import ClientError

from conftest import wait_until

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
READ = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["iam:GetUser", "iam:ListUsers"], "Resource": "*"}],
}


@pytest.fixture(scope="module")
def server():
    """A server without images: nothing here runs a container."""
    import shutil

    import leaks
    from conftest import Wharf, short_directory

    before = leaks.snapshot()
    made = Wharf(short_directory()).start()
    yield made
    made.down()
    shutil.rmtree(made.directory, ignore_errors=True)
    made.directory.with_suffix(".log").unlink(missing_ok=True)
    leaks.check(before)


@pytest.fixture
def iam(server):
    return server.client("iam")


def name(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code
    return caught.value.response["Error"]["Message"]


def test_the_calls_of_terraform_for_a_role_with_policies(iam):
    role, policy = name("task"), name("read")
    iam.create_role(
        RoleName=role,
        AssumeRolePolicyDocument=json.dumps(TRUST),
        MaxSessionDuration=7200,
        Description="what tasks may do",
        Tags=[{"Key": "team", "Value": "a"}],
    )
    iam.get_waiter("role_exists").wait(RoleName=role, WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    read = iam.get_role(RoleName=role)["Role"]
    assert read["AssumeRolePolicyDocument"] == TRUST
    assert (read["Path"], read["MaxSessionDuration"], read["Tags"]) == ("/", 7200, [{"Key": "team", "Value": "a"}])
    assert read["RoleLastUsed"] == {}
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == []
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    made = iam.create_policy(PolicyName=policy, PolicyDocument=json.dumps(READ), Path="/app/")["Policy"]
    arn = made["Arn"]
    iam.get_waiter("policy_exists").wait(PolicyArn=arn, WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    found = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (found["DefaultVersionId"], found["AttachmentCount"], found["Tags"]) == ("v1", 0, [])
    version = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert version["Document"] == READ and version["IsDefaultVersion"]
    iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    iam.attach_role_policy(
        RoleName=role, PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    )
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert {one["PolicyName"] for one in attached} == {policy, "AmazonECSTaskExecutionRolePolicy"}
    under = iam.list_attached_role_policies(RoleName=role, PathPrefix="/app/")["AttachedPolicies"]
    assert under == [{"PolicyName": policy, "PolicyArn": arn}]
    iam.put_role_policy(RoleName=role, PolicyName="inline", PolicyDocument=json.dumps(READ))
    assert iam.get_role_policy(RoleName=role, PolicyName="inline")["PolicyDocument"] == READ

    message = refused("DeleteConflict", iam.delete_role, RoleName=role)
    assert message == "Cannot delete entity, must detach all policies first."
    for one in attached:
        iam.detach_role_policy(RoleName=role, PolicyArn=one["PolicyArn"])
    refused("DeleteConflict", iam.delete_role, RoleName=role)
    iam.delete_role_policy(RoleName=role, PolicyName="inline")
    assert iam.list_instance_profiles_for_role(RoleName=role)["InstanceProfiles"] == []
    iam.delete_role(RoleName=role)
    iam.delete_policy(PolicyArn=arn)
    assert refused("NoSuchEntity", iam.get_role, RoleName=role) == f"The role with name {role} cannot be found."
    assert refused("NoSuchEntity", iam.get_policy, PolicyArn=arn) == f"Policy {arn} was not found."


def test_waiters_and_paginators(iam):
    prefix = f"/{name('page')}/"
    names = sorted(name("user") for _ in range(5))
    for user in names:
        iam.create_user(UserName=user, Path=prefix)
        iam.get_waiter("user_exists").wait(UserName=user, WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    pages = list(
        iam.get_paginator("list_users").paginate(PathPrefix=prefix, PaginationConfig={"PageSize": 2})
    )
    assert [len(page["Users"]) for page in pages] == [2, 2, 1]
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    profile = name("profile")
    iam.create_instance_profile(InstanceProfileName=profile)
    iam.get_waiter("instance_profile_exists").wait(
        InstanceProfileName=profile, WaiterConfig={"Delay": 1, "MaxAttempts": 2}
    )
    aws_policies = [
        policy
        for page in iam.get_paginator("list_policies").paginate(Scope="AWS", PaginationConfig={"PageSize": 10})
        for policy in page["Policies"]
    ]
    arns = {policy["Arn"] for policy in aws_policies}
    assert "arn:aws:iam::aws:policy/AdministratorAccess" in arns and len(arns) == len(aws_policies)
    for operation, member in [
        ("list_roles", "Roles"),
        ("list_groups", "Groups"),
        ("list_instance_profiles", "InstanceProfiles"),
    ]:
        whole = getattr(iam, operation)()[member]
        paged = iam.get_paginator(operation).paginate(PaginationConfig={"PageSize": 1})
        assert [one for page in paged for one in page[member]] == whole
    details = iam.get_paginator("get_account_authorization_details").paginate(
        Filter=["User"], PaginationConfig={"PageSize": 2}
    )
    assert set(names) <= {user["UserName"] for page in details for user in page["UserDetailList"]}


def test_the_cli_makes_a_user_with_a_key_that_signs(server):
    user = name("cli")
    made = server.aws("iam", "create-user", "--user-name", user, "--tags", "Key=a,Value=b")["User"]
    assert made["UserId"].startswith("AIDA") and made["Tags"] == [{"Key": "a", "Value": "b"}]
    server.aws("iam", "wait", "user-exists", "--user-name", user)
    server.aws("iam", "put-user-policy", "--user-name", user, "--policy-name", "read", "--policy-document", json.dumps(READ))
    key = server.aws("iam", "create-access-key", "--user-name", user)["AccessKey"]
    own = server.client("iam", key=key["AccessKeyId"], secret=key["SecretAccessKey"])
    # No name: the caller is meant.
    assert own.get_user()["User"]["UserName"] == user
    who = server.client("sts", key=key["AccessKeyId"], secret=key["SecretAccessKey"]).get_caller_identity()
    assert (who["Arn"], who["UserId"]) == (made["Arn"], made["UserId"])
    refused("AccessDenied", own.create_user, UserName=name("other"))
    assert refused("AccessDenied", own.list_roles) == (
        f"User: {made['Arn']} is not authorized to perform: iam:ListRoles on resource: "
        "arn:aws:iam::000000000000:role/ because no identity-based policy allows the iam:ListRoles action"
    )
    assert user in {one["UserName"] for one in own.list_users()["Users"]}
    used = server.aws("iam", "get-access-key-last-used", "--access-key-id", key["AccessKeyId"])
    assert used["UserName"] == user and used["AccessKeyLastUsed"]["ServiceName"] in ("iam", "sts")
    iam = server.client("iam")
    assert iam.generate_credential_report()["State"] == "COMPLETE"
    header, *rows = csv.reader(iam.get_credential_report()["Content"].decode().splitlines())
    report = {row[0]: dict(zip(header, row)) for row in rows}
    assert report[user]["arn"] == made["Arn"] and report[user]["access_key_1_last_used_service"] in ("iam", "sts")
    job = iam.generate_service_last_accessed_details(Arn=made["Arn"])["JobId"]
    details = iam.get_service_last_accessed_details(JobId=job)
    (service,) = details["ServicesLastAccessed"]
    assert (details["JobStatus"], service["ServiceNamespace"]) == ("COMPLETED", "iam")
    assert service["LastAuthenticatedEntity"] == made["Arn"]
    server.aws(
        "iam", "update-access-key", "--user-name", user, "--access-key-id", key["AccessKeyId"], "--status", "Inactive"
    )
    refused("InvalidClientTokenId", own.get_user)
    server.aws(
        "iam", "update-access-key", "--user-name", user, "--access-key-id", key["AccessKeyId"], "--status", "Active"
    )
    assert own.get_user()["User"]["UserName"] == user
    server.aws("iam", "delete-access-key", "--user-name", user, "--access-key-id", key["AccessKeyId"])
    refused("InvalidClientTokenId", own.get_user)
    server.aws("iam", "delete-user-policy", "--user-name", user, "--policy-name", "read")
    server.aws("iam", "delete-user", "--user-name", user)


def test_bad_input_is_refused_in_the_words_of_aws(server, iam):
    user = name("words")
    iam.create_user(UserName=user)
    assert (
        refused("EntityAlreadyExists", iam.create_user, UserName=user.upper())
        == f"User with name {user.upper()} already exists."
    )
    message = refused("ValidationError", iam.create_user, UserName="a b")
    assert message == (
        "1 validation error detected: Value 'a b' at 'userName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [\\w+=,.@-]+"
    )
    refused("ValidationError", iam.list_users, Marker="!")
    put = dict(UserName=user, PolicyName="p")
    assert refused("MalformedPolicyDocument", iam.put_user_policy, PolicyDocument="{", **put)
    assert (
        refused("MalformedPolicyDocument", iam.put_user_policy, PolicyDocument=json.dumps(TRUST), **put)
        == "Policy document should not specify a principal."
    )
    absent = "arn:aws:iam::000000000000:policy/none"
    assert (
        refused("NoSuchEntity", iam.attach_user_policy, UserName=user, PolicyArn=absent)
        == f"Policy {absent} does not exist or is not attachable."
    )
    upload = ("upload-ssh-public-key", "--user-name", user, "--ssh-public-key-body", "ssh-rsa AAAA")
    done = server.aws("iam", *upload, check=False)
    assert "Wharf does not implement iam:UploadSSHPublicKey" in done.stderr
    # What nobody can have is listed as none: tools that delete a user ask.
    for list_none, member in [
        (iam.list_mfa_devices, "MFADevices"),
        (iam.list_ssh_public_keys, "SSHPublicKeys"),
        (iam.list_signing_certificates, "Certificates"),
        (iam.list_service_specific_credentials, "ServiceSpecificCredentials"),
    ]:
        assert list_none(UserName=user)[member] == []
        refused("NoSuchEntity", list_none, UserName=name("nobody"))


def test_another_account_sees_nothing_of_this_one(server, iam):
    user = name("mine")
    iam.create_user(UserName=user)
    other = server.client("iam", key="123456789012")
    refused("NoSuchEntity", other.get_user, UserName=user)
    assert other.list_users()["Users"] == []
    # Names are an account's own, and regions are all one.
    other.create_user(UserName=user)
    assert server.client("iam", region="eu-west-1").get_user(UserName=user)["User"]["Arn"].startswith(
        "arn:aws:iam::000000000000:"
    )
    assert server.client("iam", region="cn-north-1").get_user(UserName=user)["User"]["Arn"].startswith("arn:aws-cn:")


def test_a_restart_keeps_everything_and_the_key_of_the_box_stays_deleted(new_wharf):
    server = new_wharf()
    iam = server.client("iam")
    iam.create_user(UserName="alice", Tags=[{"Key": "k", "Value": "v"}])
    iam.create_group(GroupName="admins")
    iam.add_user_to_group(GroupName="admins", UserName="alice")
    iam.attach_group_policy(GroupName="admins", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    iam.create_login_profile(UserName="alice", Password="Correct-Horse-1")
    key = iam.create_access_key(UserName="alice")["AccessKey"]
    arn = iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(READ))["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(READ), SetAsDefault=True)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST), PermissionsBoundary=arn)
    iam.create_instance_profile(InstanceProfileName="ip")
    iam.add_role_to_instance_profile(InstanceProfileName="ip", RoleName="r")
    iam.create_account_alias(AccountAlias="my-account")
    iam.update_account_password_policy(MinimumPasswordLength=12)
    assert "test" in {one["AccessKeyId"] for one in iam.list_access_keys()["AccessKeyMetadata"]}
    # The clients themselves refuse an id of four characters unless they are told not to.
    server.client("iam", parameter_validation=False).delete_access_key(AccessKeyId="test")
    refused("InvalidClientTokenId", iam.get_account_summary)

    def seen():
        # By alice's own key, whose group lets her do all.
        own = server.client("iam", key=key["AccessKeyId"], secret=key["SecretAccessKey"])
        details = own.get_account_authorization_details()
        summary = own.get_account_summary()["SummaryMap"]
        for answer in (details,):
            answer.pop("ResponseMetadata")
        for role in details["RoleDetailList"]:
            role.pop("RoleLastUsed", None)
        return details, summary, own.list_account_aliases()["AccountAliases"], own.get_account_password_policy()[
            "PasswordPolicy"
        ]

    before = seen()
    assert before[2] == ["my-account"] and before[1]["Users"] == 1
    server.restart()
    assert seen() == before
    refused("InvalidClientTokenId", server.client("iam").get_account_summary)
    own = server.client("iam", key=key["AccessKeyId"], secret=key["SecretAccessKey"])
    wait_until(lambda: own.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"], "the last use")
    own.change_password(OldPassword="Correct-Horse-1", NewPassword="Battery-Staple-22")
    refused("AccessDenied", own.change_password, OldPassword="Correct-Horse-1", NewPassword="Battery-Staple-23")
