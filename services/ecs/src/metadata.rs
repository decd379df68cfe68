//! What a task is told of itself at 169.254.170.2.
//!
//! Amazon ECS Developer Guide, "Amazon ECS task metadata endpoint version 4 for tasks on Fargate",
//! and version 3 and 2 for the older paths. The caller is known by its address; the container in the
//! path must be one of its own.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};
use wharf_contracts::MetadataResponse;

use crate::reconcile::{Platform, spec};
use crate::records::{Container, ContainerStatus, InterfaceRecord, Task, TaskDefinition};

fn answer(status: u16, body: &Value) -> MetadataResponse {
    MetadataResponse { status, content_type: "application/json", body: body.to_string() }
}

fn missing(what: &str) -> MetadataResponse {
    MetadataResponse { status: 404, content_type: "text/plain", body: format!("{what}\n") }
}

pub fn get(platform: &Platform, vpc_id: &str, address: Ipv4Addr, path: &str) -> MetadataResponse {
    let Some(key) = platform.live.at_address(vpc_id, address) else {
        return missing("no task has this address");
    };
    let snapshot = platform.store.snapshot();
    let Some(task) = snapshot.get::<Task>(&key) else { return missing("no task has this address") };
    let Some(definition) = snapshot.get::<TaskDefinition>(&task.definition_key()) else {
        return missing("the task has no definition");
    };
    // What the record does not know yet, the reconciler has seen: the task may ask before it is RUNNING.
    let mut task = (*task).clone();
    if let Some(live) = platform.live.get(&task.id) {
        crate::plan::task::progress(&mut task, &definition, &live.observe(), platform.clock.now());
    }
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["v4" | "v3", id] => container_answer(&task, &definition, id),
        ["v4" | "v3", id, "task"] if index_of(&task, id).is_some() => {
            answer(200, &task_value(&task, &definition))
        }
        ["v2", "metadata"] => answer(200, &task_value(&task, &definition)),
        ["v2", "metadata", id] => container_answer(&task, &definition, id),
        ["v4" | "v3", id, "stats"] | ["v4" | "v3", id, "task", "stats"] if index_of(&task, id).is_some() => {
            MetadataResponse {
                status: 501,
                content_type: "text/plain",
                body: "Wharf does not implement stats of the task metadata endpoint.\n".to_owned(),
            }
        }
        _ => missing("no such path, or not a container of this task"),
    }
}

fn index_of(task: &Task, id: &str) -> Option<usize> {
    task.containers.iter().position(|container| container.runtime_id == id)
}

fn container_answer(task: &Task, definition: &TaskDefinition, id: &str) -> MetadataResponse {
    match index_of(task, id) {
        Some(index) => answer(200, &container_value(task, definition, index)),
        None => missing("not a container of this task"),
    }
}

fn task_value(task: &Task, definition: &TaskDefinition) -> Value {
    let containers: Vec<Value> =
        (0..task.containers.len()).map(|index| container_value(task, definition, index)).collect();
    let mut value = Map::new();
    value.insert("Cluster".into(), json!(task.cluster_arn));
    value.insert("TaskARN".into(), json!(task.arn));
    value.insert("Family".into(), json!(task.family));
    value.insert("Revision".into(), json!(task.revision.to_string()));
    value.insert("DesiredStatus".into(), json!(task.desired.as_str()));
    value.insert("KnownStatus".into(), json!(task.status.as_str()));
    value.insert("Limits".into(), json!({ "CPU": f64::from(task.cpu) / 1024.0, "Memory": task.memory_mib }));
    if let Some(at) = task.times.pull_started {
        value.insert("PullStartedAt".into(), json!(at.to_iso8601()));
    }
    if let Some(at) = task.times.pull_stopped {
        value.insert("PullStoppedAt".into(), json!(at.to_iso8601()));
    }
    value.insert("AvailabilityZone".into(), json!(task.availability_zone));
    value.insert("LaunchType".into(), json!("FARGATE"));
    value.insert("Containers".into(), Value::Array(containers));
    Value::Object(value)
}

fn container_value(task: &Task, definition: &TaskDefinition, index: usize) -> Value {
    let container = &task.containers[index];
    let of = &definition.containers[index];
    let labels: Map<String, Value> = spec::labels(task, definition, index)
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let mut value = Map::new();
    value.insert("DockerId".into(), json!(container.runtime_id));
    value.insert("Name".into(), json!(container.name));
    value.insert("DockerName".into(), json!(container.name));
    value.insert("Image".into(), json!(container.image));
    if let Some(digest) = &container.image_digest {
        value.insert("ImageID".into(), json!(digest));
    }
    value.insert("Labels".into(), Value::Object(labels));
    value.insert("DesiredStatus".into(), json!(task.desired.as_str()));
    value.insert("KnownStatus".into(), json!(container.status.as_str()));
    let mut limits = Map::new();
    limits.insert("CPU".into(), json!(container.cpu));
    if let Some(memory) = container.memory_mib {
        limits.insert("Memory".into(), json!(memory));
    }
    value.insert("Limits".into(), Value::Object(limits));
    insert_times(&mut value, container);
    value.insert("Type".into(), json!("NORMAL"));
    if let Some(logs) = &of.log_configuration {
        let awslogs = &logs.awslogs;
        let stream = crate::reconcile::logs::destination(task, index, awslogs).map(|to| to.stream);
        value.insert("LogDriver".into(), json!("awslogs"));
        value.insert(
            "LogOptions".into(),
            json!({
                "awslogs-group": awslogs.group,
                "awslogs-region": awslogs.region,
                "awslogs-stream": stream,
            }),
        );
    }
    value.insert("ContainerARN".into(), json!(container.arn));
    let networks: Vec<Value> = task.network.interface.iter().map(network_value).collect();
    value.insert("Networks".into(), Value::Array(networks));
    Value::Object(value)
}

fn insert_times(value: &mut Map<String, Value>, container: &Container) {
    if let Some(at) = container.started_at {
        value.insert("CreatedAt".into(), json!(at.to_iso8601()));
        value.insert("StartedAt".into(), json!(at.to_iso8601()));
    }
    if container.status == ContainerStatus::Stopped {
        if let Some(at) = container.finished_at {
            value.insert("FinishedAt".into(), json!(at.to_iso8601()));
        }
        if let Some(code) = container.exit_code {
            value.insert("ExitCode".into(), json!(code));
        }
    }
}

fn network_value(interface: &InterfaceRecord) -> Value {
    let prefix = interface.subnet_cidr.split_once('/').map_or("", |(_, prefix)| prefix);
    json!({
        "NetworkMode": "awsvpc",
        "IPv4Addresses": [interface.private_ipv4],
        "AttachmentIndex": 0,
        "MACAddress": interface.mac_address,
        "IPv4SubnetCIDRBlock": interface.subnet_cidr,
        "DomainNameServers": interface.name_servers,
        "PrivateDNSName": interface.private_dns_name,
        "SubnetGatewayIpv4Address": format!("{}/{prefix}", interface.gateway),
    })
}
