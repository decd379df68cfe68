"""Secrets Manager through boto3 and the AWS CLI, what survives a kill, and what is never on the disk."""

import json
import os
import subprocess
import urllib.request
import uuid
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from conftest import WHARF


@pytest.fixture
def secrets(wharf):
    return wharf.client("secretsmanager")


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    assert raised.value.response["Error"]["Code"] == code, raised.value
    return raised.value.response["Error"]["Message"]


def fresh(name):
    return f"{name}-{uuid.uuid4().hex[:8]}/x"


def test_versions_and_stages(secrets):
    name = fresh("stages")
    created = secrets.create_secret(Name=name, SecretString="1", Tags=[{"Key": "suite", "Value": "stages"}])
    arn = created["ARN"]
    assert arn.startswith(f"arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}-")
    second = secrets.put_secret_value(SecretId=name, SecretString="2")["VersionId"]
    value = lambda **wanted: secrets.get_secret_value(SecretId=name, **wanted)["SecretString"]
    assert (value(), value(VersionStage="AWSPREVIOUS"), value(VersionId=created["VersionId"])) == ("2", "1", "1")
    pending = secrets.put_secret_value(SecretId=arn, SecretBinary=b"\x00\xff", VersionStages=["AWSPENDING"])["VersionId"]
    assert secrets.get_secret_value(SecretId=name, VersionStage="AWSPENDING")["SecretBinary"] == b"\x00\xff"
    message = refused(
        "InvalidParameterException",
        secrets.update_secret_version_stage,
        SecretId=name,
        VersionStage="AWSCURRENT",
        MoveToVersionId=pending,
    )
    assert f"Staging label AWSCURRENT is currently attached to version {second}" in message
    secrets.update_secret_version_stage(
        SecretId=name, VersionStage="AWSCURRENT", MoveToVersionId=pending, RemoveFromVersionId=second
    )
    described = secrets.describe_secret(SecretId=name)
    assert described["VersionIdsToStages"] == {pending: ["AWSCURRENT", "AWSPENDING"], second: ["AWSPREVIOUS"]}
    assert described["Tags"] == [{"Key": "suite", "Value": "stages"}]
    versions = secrets.list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"]
    assert [version["VersionId"] for version in versions] == [created["VersionId"], second, pending]
    assert versions[0]["KmsKeyIds"] == ["DefaultEncryptionKey"]
    refused("ResourceNotFoundException", secrets.get_secret_value, SecretId=name, VersionStage="none")
    refused("ResourceExistsException", secrets.create_secret, Name=name, SecretString="other")


def test_deletion_and_recovery(secrets):
    name = fresh("deleted")
    secrets.create_secret(Name=name, SecretString="v")
    secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    message = refused("InvalidRequestException", secrets.get_secret_value, SecretId=name)
    assert message == "You can't perform this operation on the secret because it was marked for deletion."
    assert secrets.list_secrets(Filters=[{"Key": "name", "Values": [name]}])["SecretList"] == []
    secrets.restore_secret(SecretId=name)
    assert secrets.get_secret_value(SecretId=name)["SecretString"] == "v"
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    message = refused("ResourceNotFoundException", secrets.describe_secret, SecretId=name)
    assert message == "Secrets Manager can't find the specified secret."


def test_paginators_batches_and_filters(secrets):
    prefix = fresh("page")
    names = [f"{prefix}/{number:02}" for number in range(25)]
    for name in names:
        secrets.create_secret(Name=name, SecretString=name)
    filters = [{"Key": "name", "Values": [prefix]}]
    pages = secrets.get_paginator("list_secrets").paginate(Filters=filters, SortBy="name", PaginationConfig={"PageSize": 4})
    assert [secret["Name"] for page in pages for secret in page["SecretList"]] == names
    found, token = [], {}
    while token is not None:
        page = secrets.batch_get_secret_value(Filters=filters, MaxResults=10, **token)
        found += [value["SecretString"] for value in page["SecretValues"]]
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else None
    assert found == names
    batch = secrets.batch_get_secret_value(SecretIdList=[names[0], "none"])
    assert [value["Name"] for value in batch["SecretValues"]] == [names[0]]
    assert [error["ErrorCode"] for error in batch["Errors"]] == ["ResourceNotFoundException"]


def test_replicas_follow_in_the_other_region(wharf, secrets):
    name = fresh("replica")
    there = wharf.client("secretsmanager", region="eu-west-1")
    created = secrets.create_secret(Name=name, SecretString="1", AddReplicaRegions=[{"Region": "eu-west-1"}])
    assert created["ReplicationStatus"][0]["Status"] == "InSync"
    copy = there.get_secret_value(SecretId=name)
    assert (copy["SecretString"], copy["ARN"]) == ("1", created["ARN"].replace("us-east-1", "eu-west-1"))
    secrets.put_secret_value(SecretId=name, SecretString="2")
    assert there.get_secret_value(SecretId=name)["SecretString"] == "2"
    refused("InvalidParameterException", there.put_secret_value, SecretId=name, SecretString="3")
    refused("InvalidParameterException", secrets.delete_secret, SecretId=name)
    secrets.remove_regions_from_replication(SecretId=name, RemoveReplicaRegions=["eu-west-1"])
    refused("ResourceNotFoundException", there.get_secret_value, SecretId=name)


def test_another_account_gets_in_by_the_secrets_policy_alone(wharf, secrets):
    name = fresh("shared")
    arn = secrets.create_secret(Name=name, SecretString="v", KmsKeyId="alias/shared")["ARN"]
    stranger = wharf.client("secretsmanager", key="123456789012")
    message = refused("AccessDeniedException", stranger.get_secret_value, SecretId=arn)
    assert "secretsmanager:GetSecretValue" in message
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
                "Action": "secretsmanager:GetSecretValue",
                "Resource": "*",
            }
        ],
    }
    secrets.put_resource_policy(SecretId=name, ResourcePolicy=json.dumps(policy), BlockPublicPolicy=True)
    assert stranger.get_secret_value(SecretId=arn)["SecretString"] == "v"
    refused("AccessDeniedException", stranger.describe_secret, SecretId=arn)
    refused("MalformedPolicyDocumentException", secrets.put_resource_policy, SecretId=name, ResourcePolicy="{")
    everybody = json.dumps(policy).replace('{"AWS": "arn:aws:iam::123456789012:root"}', '"*"')
    refused(
        "PublicPolicyException", secrets.put_resource_policy, SecretId=name, ResourcePolicy=everybody, BlockPublicPolicy=True
    )
    secrets.delete_resource_policy(SecretId=name)
    refused("AccessDeniedException", stranger.get_secret_value, SecretId=arn)


def test_a_user_reaches_what_the_policy_says(wharf, secrets):
    iam = wharf.client("iam")
    user = f"reader-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    as_user = lambda service: wharf.client(service, key=key["AccessKeyId"], secret=key["SecretAccessKey"])
    mine, other = fresh("mine"), fresh("other")
    for name in (mine, other):
        secrets.create_secret(Name=name, SecretString=name)
        wharf.client("ssm").put_parameter(Name=f"/{name}", Value=name, Type="SecureString")
    refused("AccessDeniedException", as_user("secretsmanager").get_secret_value, SecretId=mine)
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "secretsmanager:GetSecretValue",
                "Resource": f"arn:aws:secretsmanager:*:*:secret:{mine}-??????",
            },
            {"Effect": "Allow", "Action": "secretsmanager:BatchGetSecretValue", "Resource": "*"},
            {"Effect": "Allow", "Action": "ssm:GetParameter*", "Resource": f"arn:aws:ssm:*:*:parameter/{mine}"},
        ],
    }
    iam.put_user_policy(UserName=user, PolicyName="read", PolicyDocument=json.dumps(document))
    assert as_user("secretsmanager").get_secret_value(SecretId=mine)["SecretString"] == mine
    message = refused("AccessDeniedException", as_user("secretsmanager").get_secret_value, SecretId=other)
    assert "because no identity-based policy allows the secretsmanager:GetSecretValue action" in message
    batch = as_user("secretsmanager").batch_get_secret_value(SecretIdList=[mine, other])
    assert [value["Name"] for value in batch["SecretValues"]] == [mine]
    assert [error["ErrorCode"] for error in batch["Errors"]] == ["AccessDeniedException"]
    ssm = as_user("ssm")
    assert ssm.get_parameter(Name=f"/{mine}", WithDecryption=True)["Parameter"]["Value"] == mine
    refused("AccessDeniedException", ssm.get_parameter, Name=f"/{other}")
    refused("AccessDeniedException", ssm.get_parameters, Names=[f"/{mine}", f"/{other}"])
    refused("AccessDeniedException", ssm.describe_parameters)


def test_random_passwords_and_the_aws_cli(wharf, secrets):
    assert len(secrets.get_random_password()["RandomPassword"]) == 32
    digits = secrets.get_random_password(
        PasswordLength=64, ExcludeLowercase=True, ExcludeUppercase=True, ExcludePunctuation=True, ExcludeCharacters="01"
    )["RandomPassword"]
    assert set(digits) <= set("23456789") and len(digits) == 64
    refused("InvalidParameterException", secrets.get_random_password, PasswordLength=3)
    refused("NotImplemented", secrets.rotate_secret, SecretId="x")
    name = fresh("cli")
    wharf.aws("secretsmanager", "create-secret", "--name", name, "--secret-string", '{"user":"me"}')
    got = wharf.aws("secretsmanager", "get-secret-value", "--secret-id", name)
    assert json.loads(got["SecretString"]) == {"user": "me"}
    failed = wharf.aws("secretsmanager", "get-secret-value", "--secret-id", "none", check=False)
    assert "ResourceNotFoundException" in failed.stderr


def files_below(directory):
    for path in Path(directory).rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def test_no_secret_is_in_clear_on_the_disk_or_in_a_log(new_wharf, monkeypatch):
    """Everything that takes a secret is done, well and badly, at the most talkative log level, over restarts."""
    monkeypatch.setenv("WHARF_LOG", "trace")
    wharf = new_wharf()
    markers = {}

    def marker(what):
        markers[what] = f"marker-{what}-{uuid.uuid4().hex}"
        return markers[what]

    def attempt(call, **arguments):
        try:
            return call(**arguments)
        except ClientError as error:
            assert not any(secret in str(error) for secret in markers.values()), error
            return None

    def everything(turn):
        # Our own checks are what is tried, so that the client makes none.
        ssm, secrets, iam = (wharf.client(service, parameter_validation=False) for service in ("ssm", "secretsmanager", "iam"))
        name = f"turn-{turn}"
        for kind in ("String", "SecureString"):
            put = {"Name": f"/{name}/{kind}", "Type": kind}
            ssm.put_parameter(**put, Value=marker(f"{kind}-{turn}"))
            ssm.put_parameter(**put, Value=marker(f"{kind}-again-{turn}"), Overwrite=True)
            attempt(ssm.put_parameter, **put, Value=marker(f"{kind}-exists-{turn}"))
            attempt(ssm.put_parameter, **put, Value=marker(f"{kind}-long-{turn}") * 200, Overwrite=True)
            pattern = {"AllowedPattern": r"^\d+$", "Overwrite": True}
            attempt(ssm.put_parameter, **put, Value=marker(f"{kind}-pattern-{turn}"), **pattern)
            attempt(ssm.put_parameter, **{**put, "Name": "/aws/x"}, Value=marker(f"{kind}-name-{turn}"))
            assert ssm.get_parameter(Name=put["Name"], WithDecryption=True)["Parameter"]["Value"] == markers[f"{kind}-again-{turn}"]
            ssm.get_parameter_history(Name=put["Name"], WithDecryption=True)
        secrets.create_secret(Name=name, SecretString=marker(f"secret-{turn}"), AddReplicaRegions=[{"Region": "eu-west-1"}])
        secrets.put_secret_value(SecretId=name, SecretString=marker(f"secret-put-{turn}"))
        secrets.put_secret_value(SecretId=name, SecretBinary=marker(f"secret-binary-{turn}").encode())
        secrets.update_secret(SecretId=name, SecretString=marker(f"secret-update-{turn}"), KmsKeyId="alias/mine")
        attempt(secrets.create_secret, Name=name, SecretString=marker(f"secret-exists-{turn}"))
        attempt(secrets.put_secret_value, SecretId="none", SecretString=marker(f"secret-none-{turn}"))
        attempt(secrets.put_secret_value, SecretId=name, SecretString=marker(f"secret-long-{turn}") * 2000)
        attempt(secrets.put_secret_value, SecretId="a b", SecretString=marker(f"secret-id-{turn}"))
        attempt(secrets.put_secret_value, SecretId=name, SecretString=marker(f"secret-token-{turn}"), ClientRequestToken="short")
        attempt(secrets.put_secret_value, SecretId=name, SecretString=[marker(f"secret-list-{turn}")])
        attempt(ssm.put_parameter, Name="x", Type="None", Value=marker(f"parameter-type-{turn}"))
        secrets.get_secret_value(SecretId=name)
        wharf.client("secretsmanager", region="eu-west-1").get_secret_value(SecretId=name)
        secrets.batch_get_secret_value(SecretIdList=[name])
        markers[f"password-{turn}"] = secrets.get_random_password(PasswordLength=40, ExcludePunctuation=True)["RandomPassword"]
        iam.create_user(UserName=name)
        markers[f"access-key-{turn}"] = iam.create_access_key(UserName=name)["AccessKey"]["SecretAccessKey"]
        malformed = boto3.client(
            "secretsmanager",
            endpoint_url=wharf.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="wrong",
            config=Config(retries={"max_attempts": 0}),
        )
        attempt(malformed.create_secret, Name="unsigned", SecretString=marker(f"unsigned-{turn}"))

    everything(1)
    wharf.restart()
    everything(2)
    wharf.down()
    wharf.start()
    ssm, secrets = wharf.client("ssm"), wharf.client("secretsmanager")
    assert ssm.get_parameter(Name="/turn-1/SecureString", WithDecryption=True)["Parameter"]["Value"] == markers["SecureString-again-1"]
    assert secrets.get_secret_value(SecretId="turn-1")["SecretString"] == markers["secret-update-1"]

    key = (wharf.directory / "vault.key").read_text().split()[-1]
    unwanted = {**markers, "the vault's key": key}
    seen = 0
    for path in [*files_below(wharf.directory), wharf.directory.with_suffix(".log")]:
        if path.name == "vault.key":
            assert path.stat().st_mode & 0o777 == 0o600
            continue
        content = path.read_bytes()
        seen += len(content)
        for what, secret in unwanted.items():
            assert secret.encode() not in content, f"{what} is in {path}"
    assert seen > 10_000 and 'operation="PutSecretValue"' in wharf.log
    assert "turn-1" in "".join(path.read_bytes().decode(errors="replace") for path in files_below(wharf.directory / "state"))


def test_everything_survives_kill_9_and_a_reset_keeps_the_key(new_wharf):
    wharf = new_wharf("--allow-reset")
    ssm, secrets = wharf.client("ssm"), wharf.client("secretsmanager")
    acknowledged = {}
    for number in range(20):
        ssm.put_parameter(Name=f"/kill/{number}", Value=f"p{number}", Type="SecureString", KeyId="alias/mine")
        acknowledged[number] = secrets.create_secret(Name=f"kill/{number}", SecretString=f"s{number}")["ARN"]
    wharf.restart()
    ssm, secrets = wharf.client("ssm"), wharf.client("secretsmanager")
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/kill", WithDecryption=True)
    found = {item["Name"]: item["Value"] for page in pages for item in page["Parameters"]}
    assert found == {f"/kill/{number}": f"p{number}" for number in range(20)}
    for number, arn in acknowledged.items():
        assert secrets.get_secret_value(SecretId=arn)["SecretString"] == f"s{number}"
    key = (wharf.directory / "vault.key").read_bytes()
    urllib.request.urlopen(urllib.request.Request(f"{wharf.endpoint}/_wharf/reset", method="POST"), timeout=60).close()
    assert secrets.list_secrets()["SecretList"] == []
    assert (wharf.directory / "vault.key").read_bytes() == key
    secrets.create_secret(Name="after", SecretString="v")
    wharf.restart()
    assert wharf.client("secretsmanager").get_secret_value(SecretId="after")["SecretString"] == "v"


def up(directory):
    """Tries to start a server that is expected to refuse."""
    command = [WHARF, "up", "--json", "--listen", "127.0.0.1:0", "--data-dir", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_a_missing_or_exposed_key_is_refused(new_wharf):
    wharf = new_wharf()
    wharf.client("secretsmanager").create_secret(Name="x", SecretString="v")
    wharf.down()
    key = wharf.directory / "vault.key"
    content = key.read_bytes()
    key.unlink()
    refusal = up(wharf.directory)
    assert refusal.returncode != 0 and "vault.key is missing" in refusal.stderr
    assert not key.exists()
    key.write_bytes(content)
    os.chmod(key, 0o644)
    refusal = up(wharf.directory)
    assert refusal.returncode != 0 and "can be read or written by others" in refusal.stderr
    os.chmod(key, 0o600)
    wharf.start()
    assert wharf.client("secretsmanager").get_secret_value(SecretId="x")["SecretString"] == "v"
