"""Temporary credentials with the stock clients: profiles that assume roles, web identities, session
policies, federated users, and what becomes of a session when its token, its role or the server changes."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
import rsa
from botocore.config import Config
from botocore.exceptions import ClientError

import leaks
from conftest import Wharf, short_directory

ACCOUNT = "000000000000"
OTHER = "111122223333"


@pytest.fixture(scope="module")
def server():
    """A server without images: nothing here runs a container."""
    before = leaks.snapshot()
    made = Wharf(short_directory()).start()
    yield made
    made.down()
    shutil.rmtree(made.directory, ignore_errors=True)
    made.directory.with_suffix(".log").unlink(missing_ok=True)
    leaks.check(before)


def name(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(actions, resource="*", **rest):
    return {"Effect": "Allow", "Action": actions, "Resource": resource} | rest


def trust(principal, actions="sts:AssumeRole", **rest):
    return policy({"Effect": "Allow", "Principal": principal, "Action": actions} | rest)


def make_user(server, *statements, account_key="test"):
    """A user with an inline policy; (name, its access key)."""
    iam = server.client("iam", key=account_key)
    user = name("user")
    iam.create_user(UserName=user)
    if statements:
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=policy(*statements))
    return user, iam.create_access_key(UserName=user)["AccessKey"]


def make_role(server, trust_policy, *statements, account_key="test", **arguments):
    iam = server.client("iam", key=account_key)
    role = iam.create_role(RoleName=name("role"), AssumeRolePolicyDocument=trust_policy, **arguments)["Role"]
    if statements:
        iam.put_role_policy(RoleName=role["RoleName"], PolicyName="p", PolicyDocument=policy(*statements))
    return role


def as_user(server, service, key):
    return server.client(service, key=key["AccessKeyId"], secret=key["SecretAccessKey"])


def as_session(server, service, credentials):
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=Config(retries={"max_attempts": 0}),
    )


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    return error["Message"]


def test_profiles_of_the_cli_assume_one_role_after_the_other(server, tmp_path):
    user, key = make_user(server, allow("sts:AssumeRole"))
    first = make_role(
        server,
        trust(
            {"AWS": f"arn:aws:iam::{ACCOUNT}:user/{user}"},
            Condition={"StringEquals": {"sts:ExternalId": "a-secret-handshake"}},
        ),
        allow("sts:AssumeRole"),
    )
    second = make_role(server, trust({"AWS": first["Arn"]}), allow("ecs:ListClusters"))
    (tmp_path / "credentials").write_text(
        f"[base]\naws_access_key_id={key['AccessKeyId']}\naws_secret_access_key={key['SecretAccessKey']}\n"
    )
    (tmp_path / "config").write_text(
        f"[profile first]\nrole_arn={first['Arn']}\nsource_profile=base\nexternal_id=a-secret-handshake\n"
        "role_session_name=one\n"
        f"[profile second]\nrole_arn={second['Arn']}\nsource_profile=first\nrole_session_name=two\n"
        f"[profile stranger]\nrole_arn={first['Arn']}\nsource_profile=base\n"
    )

    def aws(*arguments):
        environment = {
            name: value for name, value in server.environment().items() if not name.startswith("AWS_ACCESS")
        }
        environment.pop("AWS_SECRET_ACCESS_KEY")
        environment |= {
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "HOME": str(tmp_path),
        }
        return subprocess.run(
            [os.environ["WHARF_AWS"], *arguments, "--output", "json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    done = aws("sts", "get-caller-identity", "--profile", "first")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{first['RoleName']}/one"
    done = aws("ecs", "list-clusters", "--profile", "second")
    assert done.returncode == 0, done.stderr
    done = aws("ecs", "create-cluster", "--profile", "second")
    assert "is not authorized to perform: ecs:CreateCluster" in done.stderr
    assert f"assumed-role/{second['RoleName']}/two" in done.stderr
    done = aws("sts", "get-caller-identity", "--profile", "stranger")
    assert "(AccessDenied) when calling the AssumeRole operation" in done.stderr, done.stderr


def test_a_session_policy_narrows_and_never_widens(server):
    user, key = make_user(server, allow("sts:AssumeRole"))
    role = make_role(server, trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}), allow(["ecs:ListClusters", "ecs:CreateCluster"]))
    sts = as_user(server, "sts", key)
    whole = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="whole")
    assert "PackedPolicySize" not in whole
    as_session(server, "ecs", whole["Credentials"]).create_cluster(clusterName=name("c"))
    narrow = sts.assume_role(
        RoleArn=role["Arn"],
        RoleSessionName="narrow",
        Policy=policy(allow(["ecs:ListClusters", "logs:*"])),
    )
    assert 0 < narrow["PackedPolicySize"] <= 100
    ecs = as_session(server, "ecs", narrow["Credentials"])
    ecs.list_clusters()
    message = refused("AccessDeniedException", ecs.create_cluster, clusterName="x")
    assert message.endswith("because no session policy allows the ecs:CreateCluster action"), message
    logs = as_session(server, "logs", narrow["Credentials"])
    message = refused("AccessDeniedException", logs.describe_log_groups)
    assert "because no identity-based policy allows" in message, message
    managed = sts.assume_role(
        RoleArn=role["Arn"],
        RoleSessionName="managed",
        PolicyArns=[{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}],
    )
    ecs = as_session(server, "ecs", managed["Credentials"])
    ecs.list_clusters()
    refused("AccessDeniedException", ecs.create_cluster, clusterName="x")
    refused("MalformedPolicyDocument", sts.assume_role, RoleArn=role["Arn"], RoleSessionName="bad", Policy="{}")


def test_a_changed_token_is_refused_in_each_protocol(server):
    _, key = make_user(server, allow("sts:AssumeRole"))
    role = make_role(server, trust({"AWS": ACCOUNT}), allow("*"))
    good = as_user(server, "sts", key).assume_role(RoleArn=role["Arn"], RoleSessionName="one")["Credentials"]
    as_session(server, "ecs", good).list_clusters()
    token = good["SessionToken"]
    middle = len(token) // 2
    flipped = "A" if token[middle] != "A" else "B"
    for bad in (token[:middle] + flipped + token[middle + 1 :], token[:-8], "x", token + token):
        changed = good | {"SessionToken": bad}
        refused("UnrecognizedClientException", as_session(server, "ecs", changed).list_clusters)
        refused("InvalidClientTokenId", as_session(server, "sts", changed).get_caller_identity)
        refused("AuthFailure", as_session(server, "ec2", changed).describe_vpcs)
    without = server.client("ecs", key=good["AccessKeyId"], secret=good["SecretAccessKey"])
    refused("UnrecognizedClientException", without.list_clusters)
    wrong = as_session(server, "sts", good | {"SecretAccessKey": "x" * 40})
    refused("SignatureDoesNotMatch", wrong.get_caller_identity)
    # The token of a session beside the key of another, and beside a long-term key.
    other = as_user(server, "sts", key).assume_role(RoleArn=role["Arn"], RoleSessionName="two")["Credentials"]
    refused("InvalidClientTokenId", as_session(server, "sts", other | {"SessionToken": token}).get_caller_identity)
    long_term = {"AccessKeyId": key["AccessKeyId"], "SecretAccessKey": key["SecretAccessKey"], "SessionToken": token}
    refused("InvalidClientTokenId", as_session(server, "sts", long_term).get_caller_identity)


def test_a_restart_keeps_sessions_and_a_deleted_role_ends_them(server):
    _, key = make_user(server, allow("sts:AssumeRole"))
    role = make_role(server, trust({"AWS": ACCOUNT}), allow("ecs:ListClusters"))
    credentials = as_user(server, "sts", key).assume_role(RoleArn=role["Arn"], RoleSessionName="one")["Credentials"]
    as_session(server, "ecs", credentials).list_clusters()
    server.restart()
    as_session(server, "ecs", credentials).list_clusters()
    iam = server.client("iam")
    iam.delete_role_policy(RoleName=role["RoleName"], PolicyName="p")
    refused("AccessDeniedException", as_session(server, "ecs", credentials).list_clusters)
    iam.delete_role(RoleName=role["RoleName"])
    refused("UnrecognizedClientException", as_session(server, "ecs", credentials).list_clusters)
    refused("InvalidClientTokenId", as_session(server, "sts", credentials).get_caller_identity)


def test_another_account_is_let_in_when_both_sides_agree(server):
    role = make_role(server, trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}), allow("ecs:ListClusters"), account_key=OTHER)
    assert role["Arn"].split(":")[4] == OTHER
    _, allowed = make_user(server, allow("sts:AssumeRole", role["Arn"]))
    _, forgotten = make_user(server)
    credentials = as_user(server, "sts", allowed).assume_role(RoleArn=role["Arn"], RoleSessionName="guest")["Credentials"]
    assert as_session(server, "sts", credentials).get_caller_identity()["Account"] == OTHER
    as_session(server, "ecs", credentials).list_clusters()
    message = refused(
        "AccessDenied", as_user(server, "sts", forgotten).assume_role, RoleArn=role["Arn"], RoleSessionName="guest"
    )
    assert "because no identity-based policy allows the sts:AssumeRole action" in message, message
    closed = make_role(server, trust({"AWS": OTHER}), account_key=OTHER)
    _, all_roles = make_user(server, allow("sts:*"))
    message = refused(
        "AccessDenied", as_user(server, "sts", all_roles).assume_role, RoleArn=closed["Arn"], RoleSessionName="guest"
    )
    assert "is not authorized to perform: sts:AssumeRole" in message, message


def test_sessions_carry_tags_and_a_source_identity(server):
    user, key = make_user(server, allow(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]))
    role = make_role(
        server,
        trust({"AWS": ACCOUNT}, ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]),
        allow("ecs:ListClusters", Condition={"StringEquals": {"aws:PrincipalTag/team": "blue"}}),
        allow("sts:AssumeRole"),
    )
    sts = as_user(server, "sts", key)
    call = {"RoleArn": role["Arn"], "RoleSessionName": "one"}
    blue = sts.assume_role(**call, Tags=[{"Key": "team", "Value": "blue"}], TransitiveTagKeys=["team"])
    as_session(server, "ecs", blue["Credentials"]).list_clusters()
    red = sts.assume_role(**call, Tags=[{"Key": "team", "Value": "red"}])
    refused("AccessDeniedException", as_session(server, "ecs", red["Credentials"]).list_clusters)
    named = sts.assume_role(**call, SourceIdentity="alice")
    assert named["SourceIdentity"] == "alice"
    # A trust policy that does not let tags in.
    strict = make_role(server, trust({"AWS": ACCOUNT}))
    message = refused(
        "AccessDenied", sts.assume_role, RoleArn=strict["Arn"], RoleSessionName="one", Tags=[{"Key": "a", "Value": "b"}]
    )
    assert "is not authorized to perform: sts:TagSession" in message, message
    refused(
        "ValidationError", sts.assume_role, **call, DurationSeconds=7200
    )


def test_root_users_assume_no_role_and_get_sessions_of_an_hour(server):
    role = make_role(server, trust({"AWS": ACCOUNT}))
    root = server.client("sts")
    message = refused("AccessDenied", root.assume_role, RoleArn=role["Arn"], RoleSessionName="one")
    assert message == "Roles may not be assumed by root accounts."
    credentials = root.get_session_token(DurationSeconds=129600)["Credentials"]
    left = credentials["Expiration"].timestamp() - time.time()
    assert 3500 < left <= 3600
    assert as_session(server, "sts", credentials).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    as_session(server, "ecs", credentials).list_clusters()


def test_a_session_of_a_user_is_the_user_without_iam(server):
    user, key = make_user(server, allow(["ecs:ListClusters", "iam:*"]))
    credentials = as_user(server, "sts", key).get_session_token()["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    identity = as_session(server, "sts", credentials).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{user}"
    as_session(server, "ecs", credentials).list_clusters()
    as_user(server, "iam", key).list_users()
    # Without a second factor, as on AWS.
    refused("InvalidClientTokenId", as_session(server, "iam", credentials).list_users)
    refused("AccessDenied", as_session(server, "sts", credentials).get_session_token)
    server.client("iam").delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    as_session(server, "ecs", credentials).list_clusters()


def test_a_federated_user_may_do_what_the_user_and_the_session_policy_both_allow(server):
    user, key = make_user(server, allow(["sts:GetFederationToken", "ecs:ListClusters", "ecs:CreateCluster"]))
    sts = as_user(server, "sts", key)
    answer = sts.get_federation_token(Name="bob", Policy=policy(allow(["ecs:ListClusters", "logs:*"])))
    assert answer["FederatedUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:federated-user/bob"
    ecs = as_session(server, "ecs", answer["Credentials"])
    ecs.list_clusters()
    message = refused("AccessDeniedException", ecs.create_cluster, clusterName="x")
    assert message.startswith(f"User: arn:aws:sts::{ACCOUNT}:federated-user/bob is not authorized"), message
    refused("AccessDeniedException", as_session(server, "logs", answer["Credentials"]).describe_log_groups)
    nothing = sts.get_federation_token(Name="eve")["Credentials"]
    refused("AccessDeniedException", as_session(server, "ecs", nothing).list_clusters)
    refused("InvalidClientTokenId", as_session(server, "iam", answer["Credentials"]).list_users)


def test_everybody_may_ask_who_they_are_and_denials_can_be_decoded(server):
    user, key = make_user(server, {"Effect": "Deny", "Action": "*", "Resource": "*"})
    identity = as_user(server, "sts", key).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{user}"
    message = refused("UnauthorizedOperation", as_user(server, "ec2", key).describe_vpcs)
    assert "with an explicit deny in an identity-based policy" in message, message
    encoded = message.split("Encoded authorization failure message: ")[1]
    root = server.client("sts")
    decoded = json.loads(root.decode_authorization_message(EncodedMessage=encoded)["DecodedMessage"])
    assert decoded["allowed"] is False and decoded["explicitDeny"] is True
    assert decoded["context"]["action"] == "ec2:DescribeVpcs"
    refused("AccessDenied", as_user(server, "sts", key).decode_authorization_message, EncodedMessage=encoded)
    refused("InvalidAuthorizationMessageException", root.decode_authorization_message, EncodedMessage=encoded[:-4])
    other = server.client("sts", key=OTHER)
    refused("InvalidAuthorizationMessageException", other.decode_authorization_message, EncodedMessage=encoded)
    assert root.get_access_key_info(AccessKeyId=key["AccessKeyId"])["Account"] == ACCOUNT


class Provider:
    """An OpenID Connect provider on loopback, whose tokens are signed with RSA."""

    def __init__(self):
        self.public, self.private = rsa.newkeys(2048)
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(provider.documents().get(self.path, {})).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/realm"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def name(self):
        return self.url.removeprefix("http://")

    def documents(self):
        def number(value):
            return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))

        return {
            "/realm/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/realm/keys": {
                "keys": [
                    {
                        "kty": "RSA",
                        "use": "sig",
                        "alg": "RS256",
                        "kid": "k",
                        "n": number(self.public.n),
                        "e": number(self.public.e),
                    }
                ]
            },
        }

    def token(self, **claims):
        now = int(time.time())
        claims = {"iss": self.url, "aud": "sts.amazonaws.com", "sub": "repo:me/app", "iat": now, "exp": now + 300} | claims
        signed = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k"}, claims))
        return f"{signed}.{encode(rsa.sign(signed.encode(), self.private, 'SHA-256'))}"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def provider():
    made = Provider()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_a_web_identity_token_file_is_all_that_a_job_needs(server, provider, tmp_path):
    iam = server.client("iam")
    arn = iam.create_open_id_connect_provider(Url=provider.url, ClientIDList=["sts.amazonaws.com"])[
        "OpenIDConnectProviderArn"
    ]
    assert arn == f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider.name}"
    role = make_role(
        server,
        trust(
            {"Federated": arn},
            "sts:AssumeRoleWithWebIdentity",
            Condition={
                "StringEquals": {f"{provider.name}:aud": "sts.amazonaws.com"},
                "StringLike": {f"{provider.name}:sub": "repo:me/*"},
            },
        ),
        allow("ecs:ListClusters"),
    )
    token = tmp_path / "token"

    def job(*arguments):
        environment = server.environment() | {
            "AWS_ROLE_ARN": role["Arn"],
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_SESSION_NAME": "job",
            "HOME": str(tmp_path),
        }
        del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        return subprocess.run(
            [os.environ["WHARF_AWS"], *arguments, "--output", "json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    token.write_text(provider.token())
    done = job("sts", "get-caller-identity")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{role['RoleName']}/job"
    assert job("ecs", "list-clusters").returncode == 0
    assert "AccessDeniedException" in job("ecs", "create-cluster").stderr

    for written, error in [
        (provider.token(sub="repo:you/app"), "AccessDenied"),
        (provider.token(exp=int(time.time()) - 1), "ExpiredTokenException"),
        (provider.token(aud="somebody else"), "InvalidIdentityToken"),
        (provider.token(iss="https://token.example.com"), "InvalidIdentityToken"),
        (provider.token()[:-6] + "AAAAAA", "InvalidIdentityToken"),
        ("not a token", "InvalidIdentityToken"),
    ]:
        token.write_text(written)
        assert f"({error})" in job("sts", "get-caller-identity").stderr, written

    # Boto3 as well, and what it is told.
    sts = boto3.client(
        "sts",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"max_attempts": 0}),
    )
    answer = sts.assume_role_with_web_identity(
        RoleArn=role["Arn"], RoleSessionName="boto", WebIdentityToken=provider.token()
    )
    assert answer["SubjectFromWebIdentityToken"] == "repo:me/app"
    assert (answer["Provider"], answer["Audience"]) == (arn, "sts.amazonaws.com")
    as_session(server, "ecs", answer["Credentials"]).list_clusters()

    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    token.write_text(provider.token())
    assert "No OpenIDConnect provider found in your account" in job("sts", "get-caller-identity").stderr


def test_identity_providers_are_made_changed_and_listed(server):
    iam = server.client("iam")
    thumbprint = "990f4193972f2becf12ddeda5237f9c952f20d9e"
    url = f"https://{name('idp')}.example.com/id"
    made = iam.create_open_id_connect_provider(
        Url=url, ClientIDList=["one"], ThumbprintList=[thumbprint.upper()], Tags=[{"Key": "a", "Value": "b"}]
    )
    arn = made["OpenIDConnectProviderArn"]
    refused("EntityAlreadyExists", iam.create_open_id_connect_provider, Url=url)
    refused("InvalidInput", iam.create_open_id_connect_provider, Url="http://example.com")
    iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="two")
    iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="one")
    iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=[{"Key": "c", "Value": "d"}])
    read = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert (read["Url"], read["ClientIDList"], read["ThumbprintList"]) == (
        url.removeprefix("https://"),
        ["two"],
        [thumbprint],
    )
    assert read["Tags"] == [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}]
    assert {"Arn": arn} in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    refused("NoSuchEntity", iam.get_open_id_connect_provider, OpenIDConnectProviderArn=arn)

    metadata = (
        '<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example.com">'
        '<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><md:KeyDescriptor>'
        '<ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>'
        f"{'MIIC' * 250}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor></md:IDPSSODescriptor>"
        "</md:EntityDescriptor>"
    )
    saml = iam.create_saml_provider(Name=name("saml"), SAMLMetadataDocument=metadata)["SAMLProviderArn"]
    assert iam.get_saml_provider(SAMLProviderArn=saml)["SAMLMetadataDocument"] == metadata
    refused("InvalidInput", iam.update_saml_provider, SAMLProviderArn=saml, SAMLMetadataDocument="x" * 1000)
    iam.delete_saml_provider(SAMLProviderArn=saml)
    refused("NotImplemented", server.client("sts").assume_root, TargetPrincipal=OTHER, TaskPolicyArn={"arn": "arn:aws:iam::aws:policy/root-task/IAMAuditRootUserCredentials"})


def test_the_simulator_answers_as_the_server_decides(server):
    user, key = make_user(
        server,
        allow("ecs:*"),
        {"Effect": "Deny", "Action": "ecs:DeleteCluster", "Resource": "*"},
        allow("s3:GetObject", Condition={"StringEquals": {"aws:PrincipalTag/team": "blue"}}),
    )
    iam = server.client("iam")
    source = f"arn:aws:iam::{ACCOUNT}:user/{user}"
    results = iam.simulate_principal_policy(
        PolicySourceArn=source, ActionNames=["ecs:RunTask", "ecs:DeleteCluster", "iam:GetUser", "s3:GetObject"]
    )["EvaluationResults"]
    found = {result["EvalActionName"]: result for result in results}
    assert {action: result["EvalDecision"] for action, result in found.items()} == {
        "ecs:RunTask": "allowed",
        "ecs:DeleteCluster": "explicitDeny",
        "iam:GetUser": "implicitDeny",
        "s3:GetObject": "implicitDeny",
    }
    assert found["s3:GetObject"]["MissingContextValues"] == ["aws:PrincipalTag/team"]
    assert found["ecs:RunTask"]["MatchedStatements"][0]["SourcePolicyId"] == "p"
    refused("AccessDeniedException", as_user(server, "ecs", key).delete_cluster, cluster="x")
    blue = [{"ContextKeyName": "aws:PrincipalTag/team", "ContextKeyType": "string", "ContextKeyValues": ["blue"]}]
    results = iam.simulate_custom_policy(
        PolicyInputList=[policy(allow("s3:GetObject", Condition={"StringEquals": {"aws:PrincipalTag/team": "blue"}}))],
        ActionNames=["s3:GetObject"],
        ResourceArns=["arn:aws:s3:::b/1", "arn:aws:s3:::b/2"],
        ContextEntries=blue,
    )["EvaluationResults"]
    assert [(result["EvalResourceName"], result["EvalDecision"]) for result in results] == [
        ("arn:aws:s3:::b/1", "allowed"),
        ("arn:aws:s3:::b/2", "allowed"),
    ]
    keys = iam.get_context_keys_for_principal_policy(PolicySourceArn=source)["ContextKeyNames"]
    assert keys == ["aws:PrincipalTag/team"]


def test_aws_managed_policies_have_their_effect(server):
    user, key = make_user(server)
    iam = server.client("iam")
    ecs = as_user(server, "ecs", key)
    refused("AccessDeniedException", ecs.list_clusters)
    iam.attach_user_policy(UserName=user, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    ecs.list_clusters()
    refused("AccessDeniedException", ecs.create_cluster, clusterName="x")
    iam.attach_user_policy(UserName=user, PolicyArn="arn:aws:iam::aws:policy/AmazonECS_FullAccess")
    ecs.create_cluster(clusterName=name("c"))
    version = iam.get_policy(PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy")["Policy"]
    assert version["Path"] == "/service-role/"
