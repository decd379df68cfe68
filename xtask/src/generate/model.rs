//! botocore's service models: fetched at the pinned version, corrected, and read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// A service model in the form of botocore's `service-2.json`. What is not named here (prose,
/// examples, endpoint rules) is not read.
#[derive(Deserialize)]
pub struct Model {
    pub metadata: Metadata,
    pub operations: BTreeMap<String, OperationModel>,
    pub shapes: BTreeMap<String, ShapeModel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub api_version: String,
    pub endpoint_prefix: String,
    pub service_id: String,
    pub protocol: String,
    pub json_version: Option<String>,
    pub signing_name: Option<String>,
    pub target_prefix: Option<String>,
    pub xml_namespace: Option<String>,
}

#[derive(Deserialize)]
pub struct OperationModel {
    pub http: Http,
    pub input: Option<Reference>,
    pub output: Option<Reference>,
    #[serde(default)]
    pub errors: Vec<Reference>,
    pub authtype: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    pub method: String,
    pub request_uri: String,
}

/// A mention of a shape, with the traits that hold at this place alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    pub shape: String,
    pub location: Option<String>,
    pub location_name: Option<String>,
    pub query_name: Option<String>,
    pub result_wrapper: Option<String>,
    #[serde(default)]
    pub idempotency_token: bool,
    #[serde(default)]
    pub xml_attribute: bool,
    pub timestamp_format: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeModel {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub members: BTreeMap<String, Reference>,
    #[serde(default)]
    pub required: Vec<String>,
    pub member: Option<Reference>,
    pub key: Option<Reference>,
    pub value: Option<Reference>,
    #[serde(rename = "enum", default)]
    pub values: Vec<String>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub pattern: Option<String>,
    pub payload: Option<String>,
    pub timestamp_format: Option<String>,
    pub error: Option<ErrorModel>,
    #[serde(default)]
    pub exception: bool,
    #[serde(default)]
    pub fault: bool,
    #[serde(default)]
    pub flattened: bool,
    #[serde(default)]
    pub sensitive: bool,
    #[serde(default)]
    pub union: bool,
    #[serde(default)]
    pub document: bool,
    #[serde(default)]
    pub eventstream: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorModel {
    pub code: Option<String>,
    pub http_status_code: Option<u16>,
}

/// A correction of a model. AWS's models are not always what AWS's services do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    /// What the service does, and how that is known.
    why: String,
    /// A JSON pointer into `service-2.json`.
    path: String,
    /// The new value; null takes the place out.
    value: Value,
}

/// The pinned wheel, which pip has fetched and whose digest has been verified.
pub struct Wheel {
    path: PathBuf,
    pub version: String,
}

impl Wheel {
    /// Fetches the release that `xtask/botocore.lock` pins, unless the cache has it.
    pub fn fetch(root: &Path) -> anyhow::Result<Self> {
        let lock = root.join("xtask/botocore.lock");
        let text =
            std::fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        let pin = text
            .lines()
            .find_map(|line| line.strip_prefix("botocore=="))
            .context("botocore.lock pins nothing")?;
        let (version, digest) = pin.split_once(" --hash=sha256:").context("botocore.lock has no sha256")?;
        let cache = target_directory(root)?.join("botocore");
        let path = cache.join(format!("botocore-{version}-py3-none-any.whl"));
        if !path.exists() {
            std::fs::create_dir_all(&cache)?;
            let status = Command::new("python3")
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary", ":all:", "--require-hashes", "--requirement"])
                .arg(&lock)
                .arg("--dest")
                .arg(&cache)
                .status()
                .context("cannot run python3 -m pip")?;
            ensure!(status.success(), "pip could not download botocore {version}");
        }
        let wheel = Self { path, version: version.to_owned() };
        let found = wheel.python(
            "import sys,hashlib; print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())",
            &[],
        )?;
        ensure!(
            String::from_utf8_lossy(&found).trim() == digest.trim(),
            "{} has another sha256 than botocore.lock says; remove it",
            wheel.path.display()
        );
        Ok(wheel)
    }

    /// The newest model of a service, with the corrections of `patch` when that file exists.
    pub fn model(&self, service: &str, patch: &Path) -> anyhow::Result<Model> {
        const READ: &str = "
import sys, zipfile, gzip, re
wheel = zipfile.ZipFile(sys.argv[1])
form = re.compile('botocore/data/' + re.escape(sys.argv[2]) + r'/[^/]+/service-2\\.json(\\.gz)?$')
names = sorted(name for name in wheel.namelist() if form.match(name))
if not names: sys.exit('botocore has no service ' + sys.argv[2])
data = wheel.read(names[-1])
sys.stdout.buffer.write(gzip.decompress(data) if names[-1].endswith('.gz') else data)
";
        let mut model: Value = serde_json::from_slice(&self.python(READ, &[service])?)?;
        if patch.exists() {
            apply(&mut model, &std::fs::read_to_string(patch)?)
                .with_context(|| format!("in {}", patch.display()))?;
        }
        Ok(serde_json::from_value(model)?)
    }

    fn python(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = Command::new("python3").args(["-c", script]).arg(&self.path).args(arguments).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    }
}

fn apply(model: &mut Value, patches: &str) -> anyhow::Result<()> {
    let patches: Vec<Patch> = serde_json::from_str(patches)?;
    for patch in patches {
        ensure!(!patch.why.trim().is_empty(), "the patch of {} does not say why", patch.path);
        let (parent, last) = patch.path.rsplit_once('/').context("a path begins with a slash")?;
        let parent = model
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .with_context(|| format!("the model has no {parent}"))?;
        let last = last.replace("~1", "/").replace("~0", "~");
        if patch.value.is_null() {
            ensure!(parent.remove(&last).is_some(), "the model has no {}", patch.path);
        } else {
            ensure!(
                parent.get(&last) != Some(&patch.value),
                "the model already has what the patch of {} says",
                patch.path
            );
            parent.insert(last, patch.value);
        }
    }
    Ok(())
}

fn target_directory(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec()?;
    Ok(metadata.target_directory.into_std_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_sets_or_takes_out_and_must_change_something() {
        let mut model = serde_json::json!({"shapes": {"A/B": {"min": 1}}});
        apply(&mut model, r#"[{"why": "w", "path": "/shapes/A~1B/min", "value": 2}]"#).unwrap();
        assert_eq!(model["shapes"]["A/B"]["min"], 2);
        assert!(apply(&mut model, r#"[{"why": "w", "path": "/shapes/A~1B/min", "value": 2}]"#).is_err());
        assert!(apply(&mut model, r#"[{"why": "", "path": "/shapes/A~1B/min", "value": null}]"#).is_err());
        apply(&mut model, r#"[{"why": "w", "path": "/shapes/A~1B/min", "value": null}]"#).unwrap();
        assert_eq!(model, serde_json::json!({"shapes": {"A/B": {}}}));
    }
}
