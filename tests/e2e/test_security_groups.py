"""Security groups and network ACLs hold for tasks that run: packets prove each of them."""

import pytest
from botocore.exceptions import ClientError
from conftest import address_of, describe, http_get, open_port, register, run, subnet_of, wait_for_status, wait_until

SERVE = "mkdir /w; echo here > /w/index.html; exec httpd -f -p 8000 -h /w"


@pytest.fixture
def groups(ec2):
    """Two groups of the default VPC beside the default one."""
    made = [
        ec2.create_security_group(GroupName=name, Description=f"the {name} tasks")["GroupId"]
        for name in ("callers", "servers")
    ]
    ec2.get_waiter("security_group_exists").wait(GroupIds=made)
    return made


def start(server, definition, group, subnet=None):
    """A running task in this group; its ARN and address."""
    configuration = {"subnets": [subnet or subnet_of(server)], "securityGroups": [group], "assignPublicIp": "DISABLED"}
    arn = run(server, definition, networkConfiguration={"awsvpcConfiguration": configuration})
    wait_for_status(server, arn, "RUNNING")
    return arn, address_of(describe(server, arn))


def answers(address, timeout=1):
    try:
        return http_get(f"http://{address}:8000/", timeout=timeout).strip() == "here"
    except OSError:
        return False


def asking(address):
    """Tries until it is answered, and ends."""
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 2 nc {address} 8000"
    return ["sh", "-c", f"until {ask} | grep -q here; do usleep 50000; done"]


def test_a_task_hears_whom_its_group_lets_in(wharf, ec2, groups):
    callers, servers = groups
    serving = register(wharf, "serving", command=["sh", "-c", SERVE])
    arn, address = start(wharf, serving, servers)
    # The machine is in no group.
    assert not answers(address)
    added = ec2.authorize_security_group_ingress(
        GroupId=servers, IpProtocol="tcp", FromPort=8000, ToPort=8000, CidrIp="0.0.0.0/0"
    )["SecurityGroupRules"]
    # What the call returned from holds already, for a task that runs.
    wait_until(lambda: answers(address), "the server to listen and to answer")
    ec2.revoke_security_group_ingress(GroupId=servers, SecurityGroupRuleIds=[added[0]["SecurityGroupRuleId"]])
    assert not answers(address)

    # By group: a task of the group that is named gets through, and one of another does not.
    ec2.authorize_security_group_ingress(
        GroupId=servers, IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": callers}]}]
    )
    caller = register(wharf, "caller", command=asking(address))
    stranger, _ = start(wharf, caller, servers)
    other = ec2.describe_subnets()["Subnets"][1]["SubnetId"]
    for subnet in (subnet_of(wharf), other):
        configuration = {"subnets": [subnet], "securityGroups": [callers]}
        friend = run(wharf, caller, networkConfiguration={"awsvpcConfiguration": configuration})
        wait_for_status(wharf, friend, "STOPPED")
        assert describe(wharf, friend)["containers"][0]["exitCode"] == 0
    assert describe(wharf, stranger)["lastStatus"] == "RUNNING", "it was let in by nobody"

    with pytest.raises(ClientError) as used:
        ec2.delete_security_group(GroupId=callers)
    assert used.value.response["Error"]["Code"] == "DependencyViolation"
    # The rules outlive the server.
    wharf.restart()
    assert not answers(address)
    open_port(wharf.client("ec2"), 8000, group="servers")
    assert wait_until(lambda: answers(address), "the server to answer")
    for task in (arn, stranger):
        wharf.client("ecs").stop_task(task=task)
        wait_for_status(wharf, task, "STOPPED")
    ec2 = wharf.client("ec2")
    wait_until(lambda: not ec2.describe_network_interfaces()["NetworkInterfaces"], "the interfaces to go")
    for group in (servers, callers):
        ec2.delete_security_group(GroupId=group)
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]


def test_an_acl_stops_what_a_group_lets_in(wharf, ec2):
    open_port(ec2, 8000)
    serving = register(wharf, "serving", command=["sh", "-c", SERVE])
    arn = run(wharf, serving)
    wait_for_status(wharf, arn, "RUNNING")
    address = address_of(describe(wharf, arn))
    wait_until(lambda: answers(address), "the server to listen and to answer")
    (acl,) = ec2.describe_network_acls()["NetworkAcls"]
    entry = {"NetworkAclId": acl["NetworkAclId"], "RuleNumber": 50, "Egress": False}
    ec2.create_network_acl_entry(
        **entry, Protocol="6", RuleAction="deny", CidrBlock="0.0.0.0/0", PortRange={"From": 8000, "To": 8000}
    )
    assert not answers(address)
    ec2.delete_network_acl_entry(**entry)
    assert wait_until(lambda: answers(address), "the server to answer")

    # An ACL that was just made has no entry but the one that denies; its subnet's packets meet it.
    made = ec2.create_network_acl(VpcId=acl["VpcId"])["NetworkAcl"]
    (under,) = [one for one in acl["Associations"] if one["SubnetId"] == subnet_of(wharf)]
    replaced = ec2.replace_network_acl_association(
        AssociationId=under["NetworkAclAssociationId"], NetworkAclId=made["NetworkAclId"]
    )
    assert not answers(address)
    ec2.replace_network_acl_association(
        AssociationId=replaced["NewAssociationId"], NetworkAclId=acl["NetworkAclId"]
    )
    assert wait_until(lambda: answers(address), "the server to answer")
    ec2.delete_network_acl(NetworkAclId=made["NetworkAclId"])


def test_the_cli_tags_and_finds(wharf):
    made = wharf.aws(
        "ec2", "create-security-group", "--group-name", "web", "--description", "web servers",
        "--tag-specifications", "ResourceType=security-group,Tags=[{Key=Name,Value=web}]",
    )  # fmt: skip
    found = wharf.aws("ec2", "describe-security-groups", "--filters", "Name=tag:Name,Values=w*")["SecurityGroups"]
    assert [group["GroupId"] for group in found] == [made["GroupId"]]
    (rule,) = wharf.aws("ec2", "describe-security-group-rules", "--filters", f"Name=group-id,Values={made['GroupId']}")[
        "SecurityGroupRules"
    ]
    assert rule["IsEgress"] and rule["CidrIpv4"] == "0.0.0.0/0"
    refused = wharf.aws(
        "ec2", "create-security-group", "--group-name", "web", "--description", "again", check=False
    )
    assert refused.returncode != 0 and "InvalidGroup.Duplicate" in refused.stderr
