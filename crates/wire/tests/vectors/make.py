"""Writes botocore.json: requests signed by botocore's own signers, at a fixed time.

    python -m venv v && v/bin/pip install botocore && v/bin/python make.py
"""

import datetime
import json
import pathlib

import botocore
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOW = datetime.datetime(2026, 11, 20, 15, 4, 5, tzinfo=datetime.timezone.utc)
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//token+with/signs=="


class Fixed(datetime.datetime):
    @classmethod
    def utcnow(cls):
        return NOW.replace(tzinfo=None)

    @classmethod
    def now(cls, tz=None):
        return NOW


botocore.auth.get_current_datetime = lambda remove_tzinfo=True: NOW.replace(tzinfo=None) if remove_tzinfo else NOW
botocore.auth.datetime = type("datetime_module", (), {"datetime": Fixed})

JSON = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListTasks"}
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
CASES = [
    ("ecs json", "ecs", "POST", "http://localhost:4566/", JSON, b'{"cluster":"default"}', None),
    ("ecs json, session token", "ecs", "POST", "http://localhost:4566/", JSON, b"{}", TOKEN),
    ("logs, body with UTF-8", "logs", "POST", "http://127.0.0.1:4566/",
     {**JSON, "X-Amz-Target": "Logs_20140328.PutLogEvents"}, '{"message":"Grüße ☃"}'.encode(), None),
    ("sts form", "sts", "POST", "http://sts.us-east-1.amazonaws.com/", FORM,
     b"Action=GetCallerIdentity&Version=2011-06-15", None),
    ("sts get", "sts", "GET", "http://localhost:4566/?Action=GetCallerIdentity&Version=2011-06-15", {}, b"", None),
    ("ec2 form, session token", "ec2", "POST", "http://localhost:4566/", FORM,
     b"Action=DescribeVpcs&Version=2016-11-15&Filter.1.Name=vpc-id", TOKEN),
    ("path with escapes", "lambda", "GET",
     "http://localhost:4566/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/x%20y",
     {}, b"", None),
    ("path with dots and slashes", "execute-api", "GET", "http://localhost:4566/a//b/./c/../d/", {}, b"", None),
    ("query that needs sorting", "execute-api", "GET",
     "http://localhost:4566/p?b=2&a=~&a=1&c=&A=x%20y&d=%2B%2F%3D", {}, b"", None),
    ("headers with odd white space", "ecs", "POST", "http://localhost:4566/",
     {**JSON, "X-Custom": "  a   b\tc  "}, b"{}", None),
    ("s3 put", "s3", "PUT", "http://localhost:4566/bucket/a%20b//c/../d", {}, b"object", None),
]


def parts(request):
    prepared = request.prepare()
    path, _, query = prepared.url.split("://", 1)[1].partition("?")
    host, slash, path = path.partition("/")
    headers = [[name, value.decode() if isinstance(value, bytes) else value] for name, value in prepared.headers.items()]
    headers.append(["Host", host])
    body = prepared.body or b""
    return {
        "method": prepared.method,
        "path": slash + path,
        "query": query,
        "headers": headers,
        "body": (body if isinstance(body, bytes) else body.encode()).hex(),
    }


def main():
    out = []
    for name, service, method, url, headers, body, token in CASES:
        credentials = Credentials(KEY, SECRET, token)
        for form in ("header", "query"):
            if form == "query" and method == "PUT":
                continue
            if service == "s3":
                auth = botocore.auth.S3SigV4Auth(credentials, service, "us-east-1")
            elif form == "header":
                auth = botocore.auth.SigV4Auth(credentials, service, "us-east-1")
            else:
                auth = botocore.auth.SigV4QueryAuth(credentials, service, "us-east-1", expires=900)
            request = AWSRequest(method=method, url=url, headers=headers, data=body)
            if form == "query" and headers is FORM and body:
                # botocore moves a form into the URL when it presigns.
                request = AWSRequest(method="GET", url=url + "?" + body.decode(), headers={})
            auth.add_auth(request)
            out.append({"name": f"{name} ({form})", "service": service, "token": token, **parts(request)})
    document = {"botocore": botocore.__version__, "now_ms": int(NOW.timestamp() * 1000), "key": KEY, "secret": SECRET, "cases": out}
    path = pathlib.Path(__file__).with_name("botocore.json")
    path.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")


main()
