"""Parameter Store through boto3 and the AWS CLI: what is put is kept, sealed, found and forgotten."""

import datetime

import pytest
from botocore.exceptions import ClientError

from conftest import wait_until


@pytest.fixture
def ssm(wharf):
    return wharf.client("ssm")


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    assert raised.value.response["Error"]["Code"] == code, raised.value
    return raised.value.response["Error"]["Message"]


def test_versions_labels_and_selectors(ssm):
    name = "/e2e/app/url"
    assert ssm.put_parameter(Name=name, Value="one", Type="String")["Version"] == 1
    refused("ParameterAlreadyExists", ssm.put_parameter, Name=name, Value="two", Type="String")
    answer = ssm.put_parameter(Name=name, Value="two", Overwrite=True)
    assert (answer["Version"], answer["Tier"]) == (2, "Standard")
    assert ssm.label_parameter_version(Name=name, ParameterVersion=1, Labels=["prod", "1bad"])["InvalidLabels"] == ["1bad"]
    arn = ssm.get_parameter(Name=name)["Parameter"]["ARN"]
    assert arn == "arn:aws:ssm:us-east-1:000000000000:parameter/e2e/app/url"
    for reference, value in [(name, "two"), (f"{name}:1", "one"), (f"{name}:prod", "one"), (arn, "two"), (f"{arn}:prod", "one")]:
        assert ssm.get_parameter(Name=reference)["Parameter"]["Value"] == value, reference
    history = ssm.get_parameter_history(Name=name)["Parameters"]
    assert [(item["Version"], item["Value"], item["Labels"]) for item in history] == [(1, "one", ["prod"]), (2, "two", [])]
    assert history[0]["LastModifiedUser"] == "arn:aws:iam::000000000000:root"
    refused("ParameterVersionNotFound", ssm.get_parameter, Name=f"{name}:9")
    ssm.delete_parameter(Name=name)
    refused("ParameterNotFound", ssm.get_parameter, Name=name)


def test_paginators_walk_everything(ssm):
    names = [f"/e2e/page/{number:02}/value" for number in range(23)]
    for name in names:
        ssm.put_parameter(Name=name, Value="v", Type="String", Tags=[{"Key": "suite", "Value": "page"}])
    by_path = ssm.get_paginator("get_parameters_by_path").paginate(Path="/e2e/page", Recursive=True)
    assert [item["Name"] for page in by_path for item in page["Parameters"]] == names
    filters = [{"Key": "tag:suite", "Values": ["page"]}]
    described = ssm.get_paginator("describe_parameters").paginate(ParameterFilters=filters, PaginationConfig={"PageSize": 7})
    assert [item["Name"] for page in described for item in page["Parameters"]] == names
    for version in range(2, 9):
        ssm.put_parameter(Name=names[0], Value=str(version), Overwrite=True)
    history = ssm.get_paginator("get_parameter_history").paginate(Name=names[0], PaginationConfig={"PageSize": 3})
    assert [item["Version"] for page in history for item in page["Parameters"]] == list(range(1, 9))
    for start in range(0, len(names), 10):
        gone = ssm.delete_parameters(Names=[*names[start : start + 10][:9], "/e2e/none"])
        assert gone["InvalidParameters"] == ["/e2e/none"]


def test_secure_strings_need_decryption(ssm):
    ssm.put_parameter(Name="/e2e/secure", Value="hunter2", Type="SecureString", KeyId="alias/mine")
    assert ssm.get_parameter(Name="/e2e/secure", WithDecryption=True)["Parameter"]["Value"] == "hunter2"
    assert "hunter2" not in ssm.get_parameter(Name="/e2e/secure")["Parameter"]["Value"]
    (described,) = ssm.describe_parameters(ParameterFilters=[{"Key": "KeyId", "Values": ["alias/mine"]}])["Parameters"]
    assert (described["Name"], described["Type"]) == ("/e2e/secure", "SecureString")
    message = refused(
        "ParameterPatternMismatchException",
        ssm.put_parameter,
        Name="/e2e/pattern",
        Value="hunter2",
        Type="SecureString",
        AllowedPattern=r"^\d+$",
    )
    assert "hunter2" not in message


def test_what_aws_refuses_is_refused(ssm):
    put = ssm.put_parameter
    refused("ValidationException", put, Name="ssm-x", Value="v", Type="String")
    refused("AccessDeniedException", put, Name="/aws/x", Value="v", Type="String")
    refused("HierarchyLevelLimitExceededException", put, Name="/a" * 16, Value="v", Type="String")
    refused("ValidationException", put, Name="x", Value="v" * 4097, Type="String")
    refused("NotImplemented", put, Name="x", Value="ami-1", Type="String", DataType="aws:ec2:image")
    refused("InvalidFilterKey", ssm.describe_parameters, ParameterFilters=[{"Key": "Label", "Values": ["x"]}])
    refused("ValidationException", ssm.get_parameters_by_path, Path="no-slash")
    refused("InvalidNextToken", ssm.describe_parameters, NextToken="made-up")
    put(Name="/e2e/advanced", Value="v" * 8192, Type="String", Tier="Intelligent-Tiering")
    refused("ValidationException", put, Name="/e2e/advanced", Value="v", Tier="Standard", Overwrite=True)


def test_an_expiration_deletes(ssm):
    soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)).isoformat()
    policy = f'[{{"Type":"Expiration","Version":"1.0","Attributes":{{"Timestamp":"{soon}"}}}}]'
    ssm.put_parameter(Name="/e2e/expires", Value="v", Type="String", Tier="Advanced", Policies=policy)
    names = lambda: ssm.get_parameters(Names=["/e2e/expires"])["InvalidParameters"]
    wait_until(names, "the parameter to expire")
    notice = '[{"Type":"NoChangeNotification","Version":"1.0","Attributes":{"After":"20","Unit":"Days"}}]'
    refused("NotImplemented", ssm.put_parameter, Name="x", Value="v", Type="String", Tier="Advanced", Policies=notice)


def test_tags_and_public_parameters(ssm):
    ssm.put_parameter(Name="/e2e/tagged", Value="v", Type="String")
    resource = {"ResourceType": "Parameter", "ResourceId": "/e2e/tagged"}
    ssm.add_tags_to_resource(**resource, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ssm.remove_tags_from_resource(**resource, TagKeys=["a"])
    assert ssm.list_tags_for_resource(**resource)["TagList"] == [{"Key": "b", "Value": "2"}]
    root = "/aws/service/global-infrastructure"
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=f"{root}/regions")
    regions = {item["Value"] for page in pages for item in page["Parameters"]}
    assert {"us-east-1", "eu-west-1"} <= regions
    assert ssm.get_parameter(Name=f"{root}/services/ecs")["Parameter"]["Value"] == "ecs"
    image = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
    refused("ParameterNotFound", ssm.get_parameter, Name=image)


def test_the_aws_cli(wharf):
    put = ["ssm", "put-parameter", "--name", "/e2e/cli", "--type", "SecureString"]
    assert wharf.aws(*put, "--value", "from the shell")["Version"] == 1
    got = wharf.aws("ssm", "get-parameter", "--name", "/e2e/cli", "--with-decryption")
    assert got["Parameter"]["Value"] == "from the shell"
    listed = wharf.aws("ssm", "get-parameters-by-path", "--path", "/e2e", "--query", "Parameters[?Name=='/e2e/cli'].Type")
    assert listed == ["SecureString"]
    failed = wharf.aws(*put, "--value", "again", check=False)
    assert "ParameterAlreadyExists" in failed.stderr
