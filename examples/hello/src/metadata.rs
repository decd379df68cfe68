//! What the task is, from the ECS task metadata endpoint version 4, whose address every container
//! finds in `ECS_CONTAINER_METADATA_URI_V4`. Outside of a task, what can be known is said and the
//! rest is left out.

use serde_json::{Value, json};

use crate::http;

const METADATA_VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";

#[derive(Debug, Default, PartialEq)]
pub struct TaskInfo {
    pub task_arn: Option<String>,
    pub addresses: Vec<String>,
    /// In vCPU.
    pub cpu: Option<f64>,
    /// In MiB.
    pub memory: Option<u64>,
    pub host_name: String,
}

impl TaskInfo {
    /// `address` is the one at which the client has reached us.
    pub fn of_this_task(address: &str) -> Self {
        let document =
            std::env::var(METADATA_VARIABLE).ok().and_then(|base| http::get(&format!("{base}/task")));
        let mut info = document.map(|document| Self::parse(&document)).unwrap_or_default();
        if info.addresses.is_empty() {
            info.addresses.push(address.to_owned());
        }
        info.host_name = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .unwrap_or_default();
        info
    }

    fn parse(document: &[u8]) -> Self {
        let task: Value = serde_json::from_slice(document).unwrap_or_default();
        let items = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        let mut addresses: Vec<String> = Vec::new();
        for container in items(&task, "Containers") {
            for network in items(&container, "Networks") {
                for address in items(&network, "IPv4Addresses") {
                    if let Some(address) = address.as_str()
                        && !addresses.iter().any(|known| known == address)
                    {
                        addresses.push(address.to_owned());
                    }
                }
            }
        }
        Self {
            task_arn: task["TaskARN"].as_str().map(str::to_owned),
            addresses,
            cpu: task["Limits"]["CPU"].as_f64(),
            memory: task["Limits"]["Memory"].as_u64(),
            host_name: String::new(),
        }
    }

    pub fn to_text(&self) -> String {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        format!(
            "Hello from Wharf!\n\ntask     {}\naddress  {}\ncpu      {}\nmemory   {}\nhost     {}\n",
            or_none(self.task_arn.clone()),
            self.addresses.join(", "),
            or_none(self.cpu.map(|cpu| format!("{cpu} vCPU"))),
            or_none(self.memory.map(|memory| format!("{memory} MiB"))),
            self.host_name,
        )
    }

    pub fn to_json(&self) -> String {
        let document = json!({
            "taskArn": self.task_arn,
            "addresses": self.addresses,
            "cpu": self.cpu,
            "memory": self.memory,
            "hostName": self.host_name,
        });
        format!("{document}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_document_is_understood() {
        let info = TaskInfo::parse(
            br#"{"TaskARN":"arn:aws:ecs:us-east-1:000000000000:task/default/abc","Limits":{"CPU":0.25,"Memory":512},
                "Containers":[{"Networks":[{"IPv4Addresses":["172.31.0.9"]}]},{"Networks":[{"IPv4Addresses":["172.31.0.9"]}]}]}"#,
        );
        assert_eq!(info.task_arn.as_deref(), Some("arn:aws:ecs:us-east-1:000000000000:task/default/abc"));
        assert_eq!((info.cpu, info.memory), (Some(0.25), Some(512)));
        assert_eq!(info.addresses, ["172.31.0.9"]);
        assert!(info.to_text().contains("0.25 vCPU"));
        let round: Value = serde_json::from_str(&info.to_json()).unwrap();
        assert_eq!(round["addresses"][0], "172.31.0.9");
    }

    #[test]
    fn a_document_of_another_form_gives_nothing_and_no_panic() {
        for document in ["", "[]", "{}", "null", r#"{"TaskARN":1,"Limits":[],"Containers":{"Networks":1}}"#] {
            assert_eq!(TaskInfo::parse(document.as_bytes()), TaskInfo::default(), "{document}");
        }
    }
}
