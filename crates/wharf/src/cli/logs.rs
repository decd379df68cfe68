//! `wharf logs`: what a task's containers printed, from CloudWatch Logs; or what a container run by
//! hand printed, from the engine.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use wharf_core::Arn;

use super::DataDir;
use super::container::{values, view};
use crate::admin::client::Client;
use crate::admin::containers::{Call, ContainerDetails};
use crate::admin::messages::{ContainerSummary, TaskSummary};
use crate::cli::aws::Aws;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::ServerFile;
use crate::output;

/// How often new events are asked for.
const POLL: Duration = Duration::from_millis(100);

/// Show what a container run by hand, or a task's containers, printed
#[derive(Args)]
#[command(
    after_help = "Examples:\n  wharf logs -f web\n  wharf logs --tail 10 --timestamps web\n  wharf logs 3f2a\n  \
                  wharf logs -f 3f2a --container web\n  wharf logs -f 3f2a --json"
)]
pub struct Options {
    /// A container's name or id; or a task: its id, the start of its id, or its ARN
    task: String,
    /// Go on until it has stopped
    #[arg(long, short)]
    follow: bool,
    /// Only this container of the task
    #[arg(long)]
    container: Option<String>,
    /// The last lines alone, or `all`; of a container run by hand
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<String>,
    /// Since a time, or for so long, such as 10m; of a container run by hand
    #[arg(long)]
    since: Option<String>,
    /// Until a time; of a container run by hand
    #[arg(long)]
    until: Option<String>,
    /// Begin each line with its time; of a container run by hand
    #[arg(long, short)]
    timestamps: bool,
    #[command(flatten)]
    data: DataDir,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    super::block_on(show(options))
}

impl Options {
    fn view(&self) -> Result<view::LogView> {
        let now = view::now();
        let moment = |text: &Option<String>| {
            text.as_deref().map(|text| values::moment(text, now)).transpose().map_err(Failure::new)
        };
        let tail = match self.tail.as_deref() {
            None | Some("all") => None,
            Some(lines) => {
                Some(lines.parse().map_err(|_| Failure::new(format!("{lines:?} is no number of lines")))?)
            }
        };
        Ok(view::LogView {
            follow: self.follow,
            tail,
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            timestamps: self.timestamps,
            json: self.json,
        })
    }
}

async fn show(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let admin = Client::new(&layout);
    let containers: Vec<ContainerDetails> = admin.call(&Call::List).await?;
    let is_wanted = |container: &ContainerDetails| {
        container.name == options.task || (options.task.len() >= 4 && container.id.starts_with(&options.task))
    };
    if let Some(container) = containers.iter().find(|container| is_wanted(container)) {
        return view::logs(&admin, &container.name, &options.view()?).await;
    }
    let for_containers = options.tail.is_some() || options.since.is_some() || options.until.is_some();
    if for_containers || options.timestamps {
        return Err(Failure::new(format!("there is no container {} run by hand", options.task)).hint(
            "`--tail`, `--since`, `--until` and `--timestamps` are for those; tasks have CloudWatch Logs",
        ));
    }
    let task = find(admin.get("/tasks").await?, &options.task)?;
    let containers: Vec<_> = task
        .containers
        .iter()
        .filter(|container| options.container.as_ref().is_none_or(|name| *name == container.name))
        .collect();
    if containers.is_empty() {
        let names: Vec<_> = task.containers.iter().map(|container| container.name.as_str()).collect();
        return Err(Failure::new(format!(
            "the task has no container {:?}",
            options.container.as_deref().unwrap_or_default()
        ))
        .hint(format!("its containers are: {}", names.join(", "))));
    }
    let server = layout.read_server()?;
    let streams = streams(&server, &task, &containers).await?;
    if streams.is_empty() {
        return Err(Failure::new(
            "the log driver of these containers is not `awslogs`: their output is not kept",
        )
        .hint("give them a logConfiguration with logDriver awslogs"));
    }
    let mut tokens: HashMap<String, String> = HashMap::new();
    loop {
        // Asked before the events are read, so that what comes last is not missed.
        let running = options.follow && {
            let tasks: Vec<TaskSummary> = admin.get("/tasks").await?;
            tasks.iter().any(|other| other.arn == task.arn && other.last_status != "STOPPED")
        };
        let mut printed = 0;
        for (name, log) in &streams {
            let events = read(log, tokens.entry(name.clone()).or_default()).await?;
            printed += events.len();
            for event in events {
                print(options, name, streams.len(), &event);
            }
        }
        if !running && printed == 0 {
            return Ok(());
        }
        if printed == 0 {
            tokio::time::sleep(POLL).await;
        }
    }
}

fn find(tasks: Vec<TaskSummary>, wanted: &str) -> Result<TaskSummary> {
    let mut matching: Vec<_> = tasks
        .into_iter()
        .filter(|task| {
            task.arn == wanted || task.arn.rsplit('/').next().is_some_and(|id| id.starts_with(wanted))
        })
        .collect();
    match matching.len() {
        1 => Ok(matching.remove(0)),
        0 => Err(Failure::new(format!("there is no task {wanted}")).hint("`wharf ps --all` lists them")),
        count => Err(Failure::new(format!("{count} tasks start with {wanted}")).hint("give more of the id")),
    }
}

/// Where a container's output is.
struct LogStream {
    aws: Aws,
    group: String,
    stream: String,
}

/// The streams of containers whose log driver is `awslogs`, by name, as the task definition says.
async fn streams(
    server: &ServerFile,
    task: &TaskSummary,
    containers: &[&ContainerSummary],
) -> Result<Vec<(String, LogStream)>> {
    let arn: Arn = task.arn.parse().context(|| format!("{} is not an ARN", task.arn))?;
    let region = arn.region.unwrap_or_default();
    let account = arn.account.map(|account| account.to_string());
    let aws = Aws::new(server, region.as_str(), account.as_deref());
    let input = json!({"taskDefinition": task.task_definition});
    let answer = aws.call("ecs", "DescribeTaskDefinition", &input).await?;
    let definitions =
        answer["taskDefinition"]["containerDefinitions"].as_array().cloned().unwrap_or_default();
    let id = arn.resource.rsplit('/').next().unwrap_or_default();
    let mut streams = Vec::new();
    for definition in &definitions {
        let name = definition["name"].as_str().unwrap_or_default();
        let logging = &definition["logConfiguration"];
        let option = |name: &str| logging["options"][name].as_str();
        let wanted = containers.iter().any(|container| container.name == name);
        let (true, Some("awslogs"), Some(group)) =
            (wanted, logging["logDriver"].as_str(), option("awslogs-group"))
        else {
            continue;
        };
        streams.push((
            name.to_owned(),
            LogStream {
                aws: Aws::new(
                    server,
                    option("awslogs-region").unwrap_or(region.as_str()),
                    account.as_deref(),
                ),
                group: group.to_owned(),
                stream: format!("{}/{name}/{id}", option("awslogs-stream-prefix").unwrap_or_default()),
            },
        ));
    }
    Ok(streams)
}

/// The events behind `token`, which is moved on.
async fn read(log: &LogStream, token: &mut String) -> Result<Vec<Value>> {
    let mut input = json!({"logGroupName": log.group, "logStreamName": log.stream, "startFromHead": true});
    if !token.is_empty() {
        input["nextToken"] = json!(token);
    }
    let page = match log.aws.call("logs", "GetLogEvents", &input).await {
        Ok(page) => page,
        // The stream is made when the container starts.
        Err(failure) if failure.to_string().contains("ResourceNotFoundException") => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    if let Some(next) = page["nextForwardToken"].as_str() {
        next.clone_into(token);
    }
    Ok(page["events"].as_array().cloned().unwrap_or_default())
}

fn print(options: &Options, container: &str, containers: usize, event: &Value) {
    let message = event["message"].as_str().unwrap_or_default();
    if options.json {
        output::json_line(
            &json!({"container": container, "timestamp": event["timestamp"], "message": message}),
        );
    } else if containers > 1 {
        output::line(format!("{container} | {message}"));
    } else {
        output::line(message);
    }
}
