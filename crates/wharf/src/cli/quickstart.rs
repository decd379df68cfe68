//! `wharf quickstart`: the main job, step by step, through the same API that the AWS CLI uses.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{DataDir, load};
use crate::admin::client::Client;
use crate::admin::messages::Downed;
use crate::cli::aws::Aws;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::Layout;
use crate::output;

const DEADLINE: Duration = Duration::from_secs(60);
const FAMILY: &str = "quickstart";
const GROUP: &str = "/ecs/quickstart";

/// Do the whole main job, step by step, with an image of your own
#[derive(Args)]
#[command(
    long_about = "Load an image, register a task definition, run it as a task, ask it over HTTP, read its log and stop \
                  it, through the same API that the AWS CLI uses. A Wharf that is not running is started, and taken down at the end.",
    after_help = "Examples:\n  sudo wharf quickstart hello.tar\n  sudo wharf quickstart hello.tar --port 8080 --keep"
)]
pub struct Options {
    /// An OCI or `docker save` archive of an image that serves HTTP
    archive: PathBuf,
    /// The port that the image listens on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Leave Wharf and the task running at the end
    #[arg(long)]
    keep: bool,
    /// The address that a Wharf started for this listens on
    #[arg(long, default_value = "127.0.0.1:4566", value_name = "ADDRESS:PORT")]
    listen: std::net::SocketAddr,
    #[command(flatten)]
    data: DataDir,
}

pub fn run(options: &Options) -> Result<()> {
    super::block_on(quickstart(options))
}

/// A step that shows itself: a spinner while it runs, a line with its time when it is done.
struct Step(ProgressBar, String);

impl Step {
    fn begin(text: impl Into<String>) -> Self {
        let text = text.into();
        let style = ProgressStyle::with_template("{spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style).with_message(text.clone());
        bar.enable_steady_tick(Duration::from_millis(80));
        Self(bar, text)
    }

    fn done(self, outcome: impl AsRef<str>) {
        let took = self.0.elapsed();
        self.0.finish_and_clear();
        output::note(format!("✓ {} {} ({:.1} ms)", self.1, outcome.as_ref(), took.as_secs_f64() * 1000.0));
    }
}

async fn quickstart(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let started = ensure_up(options, &layout).await?;
    let outcome = main_job(options, &layout).await;
    if started && !options.keep {
        let step = Step::begin("wharf down");
        let server = layout.read_server()?;
        let _: Downed = Client::new(&layout).post("/down").await?;
        crate::platform::wait_until_gone(&server).await?;
        step.done("");
    }
    outcome
}

/// Returns whether it had to start the server.
async fn ensure_up(options: &Options, layout: &Layout) -> Result<bool> {
    if Client::new(layout).is_running().await {
        return Ok(false);
    }
    let step = Step::begin("wharf up --detach");
    let program = std::env::current_exe().context(|| "cannot find this program".to_owned())?;
    let output = tokio::process::Command::new(program)
        .args(["up", "--detach", "--listen", &options.listen.to_string(), "--data-dir"])
        .arg(layout.root())
        .stdin(Stdio::null())
        .output()
        .await
        .context(|| "cannot start the server".to_owned())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let find = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
        let failure = Failure::new(find("error:").unwrap_or("the server did not start"));
        return Err(match find("hint:") {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    step.done(&layout.read_server()?.endpoint);
    Ok(true)
}

async fn main_job(options: &Options, layout: &Layout) -> Result<()> {
    let step = Step::begin(format!("wharf load {}", options.archive.display()));
    let images = load::load(layout, &options.archive).await?;
    let image = images.first().ok_or_else(|| Failure::new("the archive names no image"))?.reference.clone();
    step.done(&image);

    let server = layout.read_server()?;
    let aws = Aws::new(&server, &server.region, None);

    let step = Step::begin("aws ecs register-task-definition");
    let definition = json!({
        "family": FAMILY,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{
            "name": "web",
            "image": image,
            "portMappings": [{"containerPort": options.port}],
            "logConfiguration": {"logDriver": "awslogs", "options": {
                "awslogs-group": GROUP,
                "awslogs-region": server.region,
                "awslogs-stream-prefix": "web",
                "awslogs-create-group": "true",
            }},
        }],
    });
    let registered = aws.call("ecs", "RegisterTaskDefinition", &definition).await?;
    let definition = text(&registered["taskDefinition"]["taskDefinitionArn"]);
    step.done(&definition);

    let subnets = aws.query("ec2", "2016-11-15", "DescribeSubnets", &[]).await?;
    let subnet = between(&subnets, "<subnetId>", "</subnetId>")
        .ok_or_else(|| Failure::new("the account has no subnet"))?
        .to_owned();

    let step = Step::begin("aws ecs run-task");
    let input = json!({
        "cluster": "default",
        "launchType": "FARGATE",
        "taskDefinition": definition,
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": [subnet], "assignPublicIp": "ENABLED"}},
    });
    let run = aws.call("ecs", "RunTask", &input).await?;
    let arn = text(&run["tasks"][0]["taskArn"]);
    let task = wait_for(&aws, &arn, "RUNNING").await?;
    let address = address(&task).ok_or_else(|| Failure::new("the task has no address"))?;
    step.done(format!("→ RUNNING at {address}"));

    open_port(&aws, options.port).await?;
    let url = format!("http://{address}:{}/", options.port);
    let step = Step::begin(format!("curl {url}"));
    let answer = Aws::get(&url, DEADLINE).await?;
    step.done("");
    for line in answer.lines().take(12) {
        output::line(format!("    {line}"));
    }

    let step = Step::begin("aws logs get-log-events");
    let stream = format!("web/web/{}", arn.rsplit('/').next().unwrap_or_default());
    let input = json!({"logGroupName": GROUP, "logStreamName": stream, "startFromHead": true});
    let events = loop_until(|| async {
        let page = aws.call("logs", "GetLogEvents", &input).await?;
        let events = page["events"].as_array().cloned().unwrap_or_default();
        Ok((!events.is_empty()).then_some(events))
    })
    .await?;
    step.done("");
    for event in events.iter().take(12) {
        output::line(format!("    {}", event["message"].as_str().unwrap_or_default()));
    }

    if options.keep {
        output::note(format!("\nThe task runs on at {url} . Stop everything with `wharf down`."));
        return Ok(());
    }
    let step = Step::begin("aws ecs stop-task");
    let input = json!({"cluster": "default", "task": arn, "reason": "quickstart is over"});
    aws.call("ecs", "StopTask", &input).await?;
    let task = wait_for(&aws, &arn, "STOPPED").await?;
    let code = &task["containers"][0]["exitCode"];
    step.done(format!("→ STOPPED, exit code {code}, {}", text(&task["stoppedReason"])));
    Ok(())
}

/// A default group lets in its own members alone, and this machine is none.
async fn open_port(aws: &Aws, port: u16) -> Result<()> {
    let step = Step::begin("aws ec2 authorize-security-group-ingress");
    let port = port.to_string();
    let rule = [
        ("GroupName", "default"),
        ("IpProtocol", "tcp"),
        ("FromPort", &port),
        ("ToPort", &port),
        ("CidrIp", "0.0.0.0%2F0"),
    ];
    match aws.query("ec2", "2016-11-15", "AuthorizeSecurityGroupIngress", &rule).await {
        Ok(_) => step.done(format!("→ the default group lets in port {port}")),
        Err(error) if error.to_string().contains("InvalidPermission.Duplicate") => {
            step.done(format!("→ the default group lets in port {port} already"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn wait_for(aws: &Aws, arn: &str, status: &str) -> Result<Value> {
    loop_until(|| async {
        let input = json!({"cluster": "default", "tasks": [arn]});
        let mut answer = aws.call("ecs", "DescribeTasks", &input).await?;
        let task = answer["tasks"][0].take();
        let now = text(&task["lastStatus"]);
        if now == "STOPPED" && status != "STOPPED" {
            return Err(Failure::new(format!("the task stopped: {}", text(&task["stoppedReason"]))));
        }
        Ok((now == status).then_some(task))
    })
    .await
}

/// Asks again until there is an answer, for as long as [`DEADLINE`].
async fn loop_until<T, F: Future<Output = Result<Option<T>>>>(ask: impl Fn() -> F) -> Result<T> {
    let asking = async {
        loop {
            if let Some(value) = ask().await? {
                return Ok(value);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking)
        .await
        .unwrap_or_else(|_| Err(Failure::new(format!("nothing happened for {} s", DEADLINE.as_secs()))))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = &text[text.find(start)? + start.len()..];
    Some(&rest[..rest.find(end)?])
}

fn address(task: &Value) -> Option<String> {
    let details = task["attachments"][0]["details"].as_array()?;
    let detail = details.iter().find(|detail| detail["name"] == "privateIPv4Address")?;
    detail["value"].as_str().map(str::to_owned)
}
