//! The containers of `wharf ps`: filters, and forms of printing.

use wharf_core::{Clock as _, SystemClock, Timestamp};

use super::refuse;
use super::values;
use crate::admin::containers::ContainerDetails;
use crate::failure::Result;
use crate::output;

/// Of a command in a table.
const COMMAND_CHARS_MAX: usize = 24;

/// `KEY=VALUE`, of `docker ps --filter`.
pub fn matches(container: &ContainerDetails, filters: &[String]) -> Result<bool> {
    // Several of one key are alternatives; different keys must all hold.
    let mut keys: Vec<(&str, bool)> = Vec::new();
    for filter in filters {
        let (key, value) = filter
            .split_once('=')
            .ok_or_else(|| refuse(format!("{filter:?} is no filter: it is KEY=VALUE")))?;
        let holds = match key {
            "name" => container.name.contains(value.trim_start_matches('/')),
            "id" => container.id.starts_with(value),
            "status" => container.state == value,
            "ancestor" => container.image == value || container.image.split(':').next() == Some(value),
            "health" => container.health.as_deref().unwrap_or("none") == value,
            "exited" => {
                let code = container.exit.as_ref().and_then(|exit| exit.code);
                container.state == "exited" && code.map(|code| code.to_string()).as_deref() == Some(value)
            }
            "label" => container.config.labels.iter().any(|(name, of)| match value.split_once('=') {
                Some((wanted, wanted_value)) => name == wanted && of == wanted_value,
                None => name == value,
            }),
            other => return Err(refuse(format!("the filter {other:?} is not known here"))),
        };
        match keys.iter_mut().find(|(known, _)| *known == key) {
            // Every label must be there.
            Some((_, all)) if key == "label" => *all &= holds,
            Some((_, any)) => *any |= holds,
            None => keys.push((key, holds)),
        }
    }
    Ok(keys.iter().all(|(_, holds)| *holds))
}

/// `Up 3 minutes (healthy)`, `Exited (1) 2 hours ago`.
pub fn status(container: &ContainerDetails) -> String {
    let ago = |text: Option<&str>| {
        let at = text.and_then(|text| values::moment(text, SystemClock.now()).ok());
        at.map_or_else(|| "a while".to_owned(), |at| age(at, SystemClock.now()))
    };
    let up = ago(container.started_at.as_deref());
    match (container.state.as_str(), &container.exit) {
        ("running", _) => match &container.health {
            Some(health) => format!("Up {up} ({health})"),
            None => format!("Up {up}"),
        },
        ("paused", _) => format!("Up {up} (Paused)"),
        ("exited", Some(exit)) => {
            let code = exit.code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
            format!("Exited ({code}) {} ago", ago(Some(&exit.at)))
        }
        ("restarting", Some(exit)) => {
            let code = exit.code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
            format!("Restarting ({code}) {} ago", ago(Some(&exit.at)))
        }
        ("created", _) => "Created".to_owned(),
        (other, _) => other.to_owned(),
    }
}

/// `5 seconds`, `3 hours`, as Docker rounds.
pub fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = (to.as_millis() - from.as_millis()).max(0) / 1000;
    let plural = |count: i64, unit: &str| match count {
        1 => format!("1 {unit}"),
        _ => format!("{count} {unit}s"),
    };
    match seconds {
        0 => "less than a second".to_owned(),
        1..60 => plural(seconds, "second"),
        60..3600 => plural(seconds / 60, "minute"),
        3600..172_800 => plural(seconds / 3600, "hour"),
        172_800..1_209_600 => plural(seconds / 86_400, "day"),
        1_209_600..5_184_000 => plural(seconds / 604_800, "week"),
        _ => plural(seconds / 2_592_000, "month"),
    }
}

/// `0.0.0.0:8080->80/tcp`.
pub fn ports(container: &ContainerDetails) -> String {
    let shown: Vec<String> = container
        .ports
        .iter()
        .map(|port| {
            let address = std::net::SocketAddr::new(port.address, port.host_port);
            format!("{address}->{}/{}", port.container_port, port.protocol.as_str())
        })
        .collect();
    shown.join(", ")
}

fn created(container: &ContainerDetails) -> String {
    let at = values::moment(&container.created_at, SystemClock.now()).ok();
    at.map_or_else(String::new, |at| format!("{} ago", age(at, SystemClock.now())))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn command(container: &ContainerDetails) -> String {
    let text = container.args.join(" ");
    if text.chars().count() <= COMMAND_CHARS_MAX {
        return text;
    }
    let mut cut: String = text.chars().take(COMMAND_CHARS_MAX - 1).collect();
    cut.push('…');
    cut
}

pub fn print_table(containers: &[&ContainerDetails]) {
    let rows: Vec<Vec<String>> = containers
        .iter()
        .map(|container| {
            vec![
                short(&container.id).to_owned(),
                container.image.clone(),
                command(container),
                created(container),
                status(container),
                container.network.as_ref().map_or_else(|| "-".to_owned(), |network| network.address.clone()),
                ports(container),
                container.name.clone(),
            ]
        })
        .collect();
    output::table(&["CONTAINER", "IMAGE", "COMMAND", "CREATED", "STATUS", "ADDRESS", "PORTS", "NAME"], &rows);
}

/// `json`, or text with `{{.Names}}` and its like.
pub fn print_formatted(container: &ContainerDetails, format: &str) -> Result<()> {
    if format == "json" {
        output::json_line(container);
        return Ok(());
    }
    let format = format.strip_prefix("table ").unwrap_or(format).replace("\\t", "\t").replace("\\n", "\n");
    let (mut text, mut rest) = (String::new(), format.as_str());
    while let Some((before, after)) = rest.split_once("{{") {
        let (field, after) = after.split_once("}}").ok_or_else(|| refuse("the format has {{ without }}"))?;
        text.push_str(before);
        text.push_str(&match field.trim() {
            ".ID" => short(&container.id).to_owned(),
            ".Names" | ".Name" => container.name.clone(),
            ".Image" => container.image.clone(),
            ".Command" => container.args.join(" "),
            ".CreatedAt" => container.created_at.clone(),
            ".RunningFor" => created(container),
            ".Ports" => ports(container),
            ".State" => container.state.clone(),
            ".Status" => status(container),
            ".Labels" => {
                let labels = container.config.labels.iter().map(|(name, value)| format!("{name}={value}"));
                labels.collect::<Vec<_>>().join(",")
            }
            ".Networks" => container.network.as_ref().map_or_else(String::new, |_| "default".to_owned()),
            other => return Err(refuse(format!("the field {{{{{other}}}}} is not known here"))),
        });
        rest = after;
    }
    text.push_str(rest);
    output::line(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_as_docker_tells_them() {
        let at = Timestamp::from_millis;
        for (seconds, text) in [
            (0, "less than a second"),
            (1, "1 second"),
            (90, "1 minute"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(age(at(0), at(seconds * 1000)), text);
        }
    }
}
