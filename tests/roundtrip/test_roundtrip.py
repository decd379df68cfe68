"""Every operation of every generated service, against botocore.

Inputs and outputs are drawn from the model with a seed, written by botocore's serializer, decoded
and encoded again by ours (crates/wire/examples/roundtrip.rs), read by botocore's parser and
compared. Then the same bodies, broken: each must give the protocol's 4xx error.

The seed is 1 unless ROUNDTRIP_SEED says otherwise; a failure prints the case.
"""

import base64
import datetime
import json
import os
import random
import re
import subprocess
import tomllib
import urllib.parse
from pathlib import Path

import botocore
import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import pytest

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("ROUNDTRIP_SEED", "1"))
DRAWS = int(os.environ.get("ROUNDTRIP_DRAWS", "3"))
DEPTH_MAX = 10
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/operations.toml"))

LOADER = botocore.loaders.create_loader()
MODELS = {name: botocore.model.ServiceModel(LOADER.load_service_model(name, "service-2")) for name in SERVICES}


def test_botocore_is_the_pinned_one():
    lock = (ROOT / "xtask/botocore.lock").read_text()
    assert f"botocore=={botocore.__version__} --hash" in lock


def operations(service):
    wanted = tomllib.loads((ROOT / "services" / service / "operations.toml").read_text())["operations"]
    names = MODELS[service].operation_names if wanted == "all" else wanted
    return [MODELS[service].operation_model(name) for name in sorted(names)]


def is_event_stream(operation):
    return operation.has_event_stream_input or operation.has_event_stream_output


def cases():
    """(service, operation, "input" or "output", its shape's name)."""
    for service in SERVICES:
        for operation in operations(service):
            if is_event_stream(operation):
                continue
            if operation.input_shape is not None:
                yield service, operation, "input", operation.input_shape.name
            if operation.output_shape is not None:
                yield service, operation, "output", operation.output_shape.name


class Draw:
    """Draws values of a shape. A full draw sets every member, a sparse one only what is required."""

    def __init__(self, random, protocol, share):
        self.random = random
        self.is_xml = protocol in ("query", "ec2")
        self.share = share

    def value(self, shape, above=()):
        return getattr(self, "_" + shape.type_name, self._string)(shape, above)

    def _structure(self, shape, above):
        if shape.is_document_type:
            # A member that is null is absent, even where null is a document.
            return {"document": self.document(0)}
        names = list(shape.members)
        if getattr(shape, "is_tagged_union", False):
            members = [name for name in names if shape.members[name].name not in above] or names
            names = [self.random.choice(members)]
            required = names
        else:
            required = shape.required_members
        deep = len(above) > DEPTH_MAX
        return {
            name: self.value(shape.members[name], (*above, shape.name))
            for name in names
            if name in required
            or not deep and shape.members[name].name not in above and self.random.random() < self.share
        }

    def length(self, shape):
        least = shape.metadata.get("min", 0)
        if self.share == 1:
            return max(1, min(least, 3))
        return self.random.randint(1 if self.is_xml else min(least, 1), 3)

    def _list(self, shape, above):
        above = (*above, shape.name)
        if shape.member.name in above and shape.member.type_name == "structure" and not self.is_xml:
            return []
        return [self.value(shape.member, above) for _ in range(self.length(shape))]

    def _map(self, shape, above):
        above = (*above, shape.name)
        return {self.value(shape.key, above): self.value(shape.value, above) for _ in range(self.length(shape))}

    def _string(self, shape, above):
        if getattr(shape, "enum", None) and self.random.random() < 0.9:
            return self.random.choice(shape.enum)
        alphabet = "abcXYZ019 _-./:\"'\\<>&=+%#\n\r\té\u0085ß中\u2028😀\U0010fffd"
        if not self.is_xml:
            alphabet += "\x00\x01\x1f\x7f\ufffe"
        return "".join(self.random.choice(alphabet) for _ in range(self.random.randint(0, 12)))

    def _boolean(self, shape, above):
        return self.random.random() < 0.5

    def _integer(self, shape, above):
        return self.random.choice([0, 1, -1, 2**31 - 1, -(2**31), self.random.randint(0, 1000)])

    def _long(self, shape, above):
        return self.random.choice([0, 2**63 - 1, -(2**63), 2**53 + 1, self.random.randint(0, 2**45)])

    def _double(self, shape, above):
        return self.random.choice([0.0, 0.1, -1.5, 1e300, 5e-324, 3.0, self.random.random()])

    _float = _double

    def _timestamp(self, shape, above):
        seconds = self.random.choice([0, 1, 1_700_000_000, 253_402_300_799, self.random.randint(0, 2**32)])
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)

    def _blob(self, shape, above):
        return self.random.randbytes(self.random.randint(0, 9))

    def document(self, depth):
        kinds = ["", "text \"x\"", True, None, 7, -2**60, 0.25]
        if depth < 3 and self.random.random() < 0.6:
            if self.random.random() < 0.5:
                return [self.document(depth + 1) for _ in range(self.random.randint(0, 3))]
            return {f"k{i}": self.document(depth + 1) for i in range(self.random.randint(0, 3))}
        return self.random.choice(kinds)


def pseudo_operation(service, operation, shape_name):
    """An operation with this shape as its input and its output."""
    reference = output = {"shape": shape_name}
    if MODELS[service].protocol == "query":
        wrapper = operation._operation_model.get("output", {}).get("resultWrapper", "Result")
        output = {**reference, "resultWrapper": wrapper}
    description = {
        "name": operation.name,
        "http": operation._operation_model["http"],
        "input": reference,
        "output": output,
    }
    return botocore.model.OperationModel(description, MODELS[service], operation.name)


def serialize(service, operation, value):
    """The query string and the body that botocore makes of a value."""
    serializer = botocore.serialize.create_serializer(MODELS[service].protocol, include_validation=False)
    request = serializer.serialize_to_request(value, operation)
    body = request["body"]
    if isinstance(body, dict):
        body = urllib.parse.urlencode(body, doseq=True)
    return body.encode() if isinstance(body, str) else body


def parse(service, operation, answer):
    headers = {"x-amzn-requestid": "0", "content-type": "application/x-amz-json-1.1"}
    parser = botocore.parsers.create_parser(MODELS[service].protocol)
    response = {"status_code": answer["status"], "headers": headers, "body": base64.b64decode(answer["body"])}
    return parser.parse(response, operation.output_shape)


def line(service, operation, shape, body, query=""):
    return {
        "service": service,
        "operation": operation.name,
        "shape": shape,
        "query": query,
        "body": base64.b64encode(body).decode(),
    }


def build():
    command = ["cargo", "build", "--quiet", "--package", "wharf-wire", "--example", "roundtrip"]
    messages = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    artifacts = [json.loads(message) for message in messages.splitlines()]
    ours = [artifact for artifact in artifacts if artifact.get("target", {}).get("name") == "roundtrip"]
    return ours[-1]["executable"]


@pytest.fixture(scope="session")
def ours():
    """Sends a list of cases through our codecs."""
    program = os.environ.get("WHARF_ROUNDTRIP_BIN") or build()

    def run(lines):
        text = "".join(json.dumps(one) + "\n" for one in lines)
        done = subprocess.run([program], input=text, text=True, stdout=subprocess.PIPE, check=True, timeout=60)
        answers = [json.loads(answer) for answer in done.stdout.splitlines()]
        assert len(answers) == len(lines)
        return answers

    return run


def without_empty(value):
    """The form protocols cannot say an empty structure, and EC2 cannot say an empty list."""
    if isinstance(value, dict):
        inner = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item not in ({}, [])}
    if isinstance(value, list):
        return [item for item in map(without_empty, value) if item not in ({}, [])]
    return value


def test_values_come_back(ours):
    lines, wanted = [], []
    for service, operation, kind, shape_name in cases():
        protocol = MODELS[service].protocol
        pseudo = pseudo_operation(service, operation, shape_name)
        for share in [1, 0, *[0.5] * DRAWS]:
            generator = random.Random(f"{SEED} {service} {operation.name} {kind} {len(lines)}")
            value = Draw(generator, protocol, share).value(pseudo.input_shape)
            lines.append(line(service, operation, kind, serialize(service, pseudo, value)))
            wanted.append((service, pseudo, kind, value))
    assert {service for service, *_ in wanted} == set(SERVICES)
    for (service, pseudo, kind, value), sent, answer in zip(wanted, lines, ours(lines), strict=True):
        where = f"{service}:{pseudo.name} {kind}"
        assert answer["status"] == 200, (where, base64.b64decode(sent["body"]), base64.b64decode(answer["body"]))
        unsayable = MODELS[service].protocol != "json" and value != without_empty(value)
        assert answer["missing"] == [] or unsayable, (where, value)
        read = parse(service, pseudo, answer)
        del read["ResponseMetadata"]
        if MODELS[service].protocol in ("query", "ec2"):
            value, read = without_empty(value), without_empty(read)
        assert read == value, where


def lower_first(name):
    return name[0].lower() + name[1:]


def test_absent_and_null_members_are_missing(ours):
    lines, wanted = [], []
    for service, operation, kind, _ in cases():
        if kind != "input":
            continue
        required = sorted(lower_first(name) for name in operation.input_shape.required_members)
        is_json = MODELS[service].protocol == "json"
        nulls = json.dumps({name: None for name in operation.input_shape.members}).encode()
        for body in [b"", b"{}", b' {"noSuchMember": [{"a": 1.5e3}]} ', nulls] if is_json else [b""]:
            lines.append(line(service, operation, kind, body))
            wanted.append(required)
    assert any(wanted)
    for required, sent, answer in zip(wanted, lines, ours(lines), strict=True):
        assert (answer["status"], sorted(answer["missing"])) == (200, required), sent


def wrong_values(shape):
    """JSON values that no service takes for this shape."""
    wrong = {
        "structure": [1, "x", True, []],
        "list": [1, "x", False, {}],
        "map": [1.5, "x", True, []],
        "string": [1, True, [], {}],
        "integer": ["1", True, [], {}, 2**31, -(2**31) - 1, 1e99],
        "long": ["1", False, [], {}, 2**63, 1e99, 0.5],
        "double": ["1", True, [], {}],
        "boolean": ["true", 1, 0, [], {}],
        "timestamp": [True, [], {}, 1e300],
        "blob": [1, "not base64!", [], {}],
    }
    wrong["float"] = wrong["double"]
    return [] if getattr(shape, "is_document_type", False) else wrong[shape.type_name]


def broken_json(shape, good, generator):
    """(body, whether it must be refused)."""
    for at in sorted({1, len(good) // 2, len(good) - 1}):
        if 0 < at < len(good):
            yield good[:at], True
    yield b"[" * 100_000, True
    yield b'{"zz":' * 100_000, True
    yield b'{"zz":"\xff"}', True
    yield good + b"}", True
    yield b"null", True
    yield b"[]", True
    yield b'{"zz":"\\ud800"}', True
    yield b'{"zz":01}', True
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        for value in wrong_values(member):
            yield json.dumps({wire: value}).encode(), True
        if member.type_name == "list":
            yield b'{"%s":[%s{}]}' % (wire.encode(), b"{}," * 50_000), True
        yield b'{"%s":%s}' % (wire.encode(), b'{"a":' * 1000), True
    for _ in range(3):
        flipped = bytearray(good)
        flipped[generator.randrange(len(flipped))] = generator.randrange(256)
        yield bytes(flipped), False


def broken_form(protocol, shape, good, generator):
    yield b"Action=%zz", True
    yield b"X=%ff", True
    yield b"\xff=1", True
    yield b"A=1&A=1", True
    yield b"&".join(b"p%d=1" % index for index in range(30_000)), True
    yield b"X.99999999999999999999=1&" + b"a." * 50_000 + b"=1", protocol == "ec2"
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        if protocol == "ec2":
            wire = member.serialization.get("queryName", wire[0].upper() + wire[1:])
        name = wire.encode()
        prefix = name if protocol == "ec2" else name + b".member"
        if member.type_name == "list":
            yield prefix + b".x=1", True
            yield prefix + b".-1=1", True
            yield prefix + b".99999999999999999999=1", True
            # A number alone takes no memory.
            scalar = member.member.type_name == "string"
            yield prefix + b".4000000000=1", not scalar
            yield name + b"=1", True
        elif member.type_name in ("integer", "long", "boolean", "timestamp"):
            for value in [b"x", b"", b"1.5e", b"99999999999999999999", b"%00", b"+1+"]:
                yield name + b"=" + value, True
        elif member.type_name == "structure":
            yield name + b"=1", True
    for _ in range(3):
        if good:
            flipped = bytearray(good)
            flipped[generator.randrange(len(flipped))] = generator.randrange(256)
            yield bytes(flipped), False


def test_broken_bodies_are_the_senders_error(ours):
    codes = {
        "json": {"SerializationException"},
        "query": {"MalformedQueryString", "InvalidParameterValue"},
        "ec2": {"MalformedQueryString", "InvalidParameterValue", "UnknownParameter"},
    }
    lines, wanted = [], []
    for service, operation, kind, shape_name in cases():
        if kind != "input":
            continue
        protocol = MODELS[service].protocol
        generator = random.Random(f"{SEED} {service} {operation.name}")
        pseudo = pseudo_operation(service, operation, shape_name)
        good = serialize(service, pseudo, Draw(generator, protocol, 0.5).value(pseudo.input_shape))
        shape = operation.input_shape
        broken = broken_json(shape, good, generator) if protocol == "json" else broken_form(protocol, shape, good, generator)
        for body, refused in broken:
            lines.append(line(service, operation, kind, body))
            wanted.append((service, pseudo, refused))
    for (service, pseudo, refused), sent, answer in zip(wanted, lines, ours(lines), strict=True):
        where = (service, pseudo.name, base64.b64decode(sent["body"])[:300])
        assert answer["status"] == 400 or not refused and answer["status"] == 200, (where, answer["status"])
        if answer["status"] == 400:
            error = parse(service, pseudo, answer)["Error"]
            assert error["Code"] in codes[MODELS[service].protocol], (where, error)
            assert re.fullmatch(r".{5,400}", error["Message"], re.DOTALL), (where, error)


def test_timestamps_and_floats_that_botocore_does_not_write(ours):
    """Fractions of seconds, and the floats that are no JSON numbers."""
    ecs = {operation.name: operation for operation in operations("ecs")}
    operation = ecs["DescribeTasks"]
    body = b'{"tasks":[{"createdAt":1700000000.123,"startedAt":1.7000000005E9}]}'
    [answer] = ours([line("ecs", operation, "output", body)])
    tasks = json.loads(base64.b64decode(answer["body"]))["tasks"]
    assert tasks == [{"createdAt": 1700000000.123, "startedAt": 1700000000.5}]
    sts = {operation.name: operation for operation in operations("sts")}
    body = b"Credentials.Expiration=2026-11-20T14:27:46.5%2B01:00&Credentials.AccessKeyId=a"
    [answer] = ours([line("sts", sts["AssumeRole"], "output", body)])
    assert b"<Expiration>2026-11-20T13:27:46.500Z</Expiration>" in base64.b64decode(answer["body"])
