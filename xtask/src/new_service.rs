//! Makes a new AWS service: `services/NAME` with its manifest, its empty handler and its settings,
//! and `services/NAME/api`, generated. The workspace's manifest gets the two members; the line for
//! `crates/wharf/src/services.rs` is printed, since wiring is a decision.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::generate;

#[derive(clap::Args)]
pub struct Options {
    /// The service's folder and IAM prefix, such as `sqs`
    name: String,
    /// The service's name in botocore, where it is another
    #[arg(long)]
    botocore: Option<String>,
    /// Only these operations
    #[arg(long, value_delimiter = ',')]
    operations: Vec<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let name = &options.name;
    let well_formed = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    ensure!(well_formed, "the name of a service is made of lower-case letters and digits, not {name:?}");
    let root = generate::workspace_root()?;
    let folder = root.join("services").join(name);
    ensure!(!folder.exists(), "{} exists", folder.display());

    let service = generate::default_trait_name(name);
    write(&folder.join("operations.toml"), &settings(options))?;
    let made = generate::one(&root, name).and_then(|()| {
        write(&folder.join("Cargo.toml"), &manifest(name))?;
        write(&folder.join("src/lib.rs"), &handler(name, &service))?;
        write(&folder.join("api/Cargo.toml"), &api_manifest(name))?;
        let path = root.join("Cargo.toml");
        let workspace = std::fs::read_to_string(&path)?;
        Ok(std::fs::write(path, with_members(&workspace, name)?)?)
    });
    if let Err(error) = made {
        // Nothing half made stays: a second try would find the folder.
        std::fs::remove_dir_all(&folder)?;
        return Err(error);
    }
    anstream::eprintln!(
        "services/{name} is made; say in its operations.toml how it words a validation error.\n\
         hint: name wharf-{name} and wharf-{name}-api in crates/wharf/Cargo.toml, and in `registrations` of \
         crates/wharf/src/services.rs write"
    );
    anstream::println!("wharf_{name}_api::service(wharf_{name}::{service}::new()).into(),");
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let parent = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn settings(options: &Options) -> String {
    let operations = if options.operations.is_empty() {
        "operations = \"all\"\n".to_owned()
    } else {
        let lines: String = options.operations.iter().map(|name| format!("    {name:?},\n")).collect();
        format!("operations = [\n{lines}]\n")
    };
    let botocore = options.botocore.as_ref().map_or(String::new(), |name| format!("botocore = {name:?}\n"));
    format!(
        "# What `cargo xtask generate` makes of {}.\n{operations}{botocore}\n\
         [validation]\ncode = \"ValidationException\"\nform = \"constraint\"\n",
        options.name
    )
}

const INHERITED: &str = "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
                         license.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n";

fn manifest(name: &str) -> String {
    format!(
        "[package]\nname = \"wharf-{name}\"\ndescription = \"The {name} service\"\n{INHERITED}\n[dependencies]\n\
         wharf-core.workspace = true\nwharf-{name}-api.workspace = true\nasync-trait.workspace = true\n"
    )
}

fn api_manifest(name: &str) -> String {
    format!(
        "[package]\nname = \"wharf-{name}-api\"\n\
         description = \"Generated: the {name} API's types, shape tables, service trait and routes\"\n{INHERITED}\n\
         [dependencies]\nwharf-core.workspace = true\nwharf-shape.workspace = true\nasync-trait.workspace = true\n"
    )
}

fn handler(name: &str, service: &str) -> String {
    format!(
        "//! The {name} service. Every operation that is not written here answers `NotImplemented`.\n\
         #![forbid(unsafe_code)]\n\nuse std::sync::Arc;\n\nuse async_trait::async_trait;\n\
         use wharf_{name}_api::{service} as Api;\n\n#[derive(Debug, Default)]\npub struct {service};\n\n\
         impl {service} {{\n    pub fn new() -> Arc<Self> {{\n        Arc::new(Self)\n    }}\n}}\n\n\
         #[async_trait]\nimpl Api for {service} {{}}\n"
    )
}

/// The workspace's manifest with the two crates among its members and its dependencies, in their
/// order. The text is edited as text, for the sake of its comments.
fn with_members(workspace: &str, name: &str) -> anyhow::Result<String> {
    let members = [format!("    \"services/{name}\","), format!("    \"services/{name}/api\",")];
    let dependencies = [
        format!("wharf-{name} = {{ path = \"services/{name}\" }}"),
        format!("wharf-{name}-api = {{ path = \"services/{name}/api\" }}"),
    ];
    let text = insert(workspace, "    \"services/", &members)?;
    insert(&text, "wharf-", &dependencies)
}

/// Puts lines before the first line of the run beginning with `prefix` that sorts after them, or
/// else behind the run.
fn insert(text: &str, prefix: &str, new: &[String]) -> anyhow::Result<String> {
    // A service's dependencies stand behind those of the crates.
    let in_run = |line: &&str| line.starts_with(prefix) && line.contains("services/");
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(in_run).with_context(|| format!("no line begins with {prefix:?}"))?;
    let length = lines[first..].iter().take_while(|line| in_run(line)).count();
    let at = lines[first..first + length]
        .iter()
        .position(|line| *line > new[0].as_str())
        .map_or(first + length, |offset| first + offset);
    let mut out: Vec<&str> = lines[..at].to_vec();
    out.extend(new.iter().map(String::as_str));
    out.extend(&lines[at..]);
    Ok(out.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_put_in_their_order() {
        let workspace = "[workspace]\nmembers = [\n    \"crates/core\",\n    \"services/ecs\",\n    \
                         \"services/ecs/api\",\n    \"services/sts\",\n    \"services/sts/api\",\n    \"xtask\",\n]\n\n\
                         [workspace.dependencies]\nwharf-wire = { path = \"crates/wire\" }\n\
                         wharf-ecs = { path = \"services/ecs\" }\nwharf-ecs-api = { path = \"services/ecs/api\" }\n\nanyhow = \"1\"\n";
        let with_sqs = with_members(workspace, "sqs").unwrap();
        let order = [
            "\"services/ecs/api\"",
            "\"services/sqs\"",
            "\"services/sqs/api\"",
            "\"services/sts\"",
            "\"xtask\"",
            "wharf-ecs-api =",
            "wharf-sqs =",
            "wharf-sqs-api =",
            "anyhow",
        ];
        let positions: Vec<usize> = order.iter().map(|text| with_sqs.find(text).unwrap()).collect();
        assert!(positions.is_sorted(), "{with_sqs}");
        assert_eq!(with_sqs.lines().count(), workspace.lines().count() + 4);
    }
}
