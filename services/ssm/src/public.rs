//! AWS's own parameters, below `/aws/service/`: those whose values are true here.
//!
//! `/aws/service/global-infrastructure/regions/CODE` and `…/services/NAME` (and what each has in the
//! other) tell of the regions that `ec2:DescribeRegions` knows and of the services that Wharf does.
//!
//! Ids of machine images (`/aws/service/ecs/optimized-ami/…`, `/aws/service/ami-amazon-linux-latest/…`)
//! are not here: no instance can be started from an image, so an id would name nothing. They are
//! answered as every parameter that does not exist: `ParameterNotFound`.
//!
//! Systems Manager User Guide, "Discovering public parameters".

use crate::plan::name::{Depth, PUBLIC_PREFIX, lies_below};

/// What the parameters are made of.
#[derive(Clone, Debug, Default)]
pub struct PublicFacts {
    /// Codes of regions, sorted.
    pub regions: Vec<String>,
    /// Names of the services that Wharf does, sorted. Each is in every region.
    pub services: Vec<String>,
}

/// A parameter of AWS's: a `String` in its first version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicParameter {
    pub name: String,
    pub value: String,
}

const ROOT: &str = "/aws/service/global-infrastructure";

impl PublicFacts {
    /// Whether a name or path can only be AWS's.
    pub fn owns(name: &str) -> bool {
        name.starts_with(PUBLIC_PREFIX) || name == PUBLIC_PREFIX.trim_end_matches('/')
    }

    pub fn get(&self, name: &str) -> Option<PublicParameter> {
        let rest = name.strip_prefix(ROOT)?.strip_prefix('/')?;
        let value = match rest.split('/').collect::<Vec<_>>()[..] {
            ["regions", region] => self.region(region),
            ["regions", region, "services", service] => {
                self.region(region)?;
                self.service(service)
            }
            ["services", service] => self.service(service),
            ["services", service, "regions", region] => {
                self.service(service)?;
                self.region(region)
            }
            _ => None,
        }?;
        Some(PublicParameter { name: name.to_owned(), value })
    }

    /// All below a path, sorted by name.
    pub fn below(&self, path: &str, depth: Depth) -> Vec<PublicParameter> {
        let mut names = Vec::new();
        for region in &self.regions {
            names.push(format!("{ROOT}/regions/{region}"));
            names.extend(
                self.services.iter().map(|service| format!("{ROOT}/regions/{region}/services/{service}")),
            );
        }
        for service in &self.services {
            names.push(format!("{ROOT}/services/{service}"));
            names.extend(
                self.regions.iter().map(|region| format!("{ROOT}/services/{service}/regions/{region}")),
            );
        }
        names.retain(|name| lies_below(name, path, depth));
        names.sort();
        names.iter().filter_map(|name| self.get(name)).collect()
    }

    fn region(&self, code: &str) -> Option<String> {
        self.regions.iter().find(|region| *region == code).cloned()
    }

    fn service(&self, name: &str) -> Option<String> {
        self.services.iter().find(|service| *service == name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_there_and_nothing_else() {
        let facts = PublicFacts {
            regions: vec!["eu-west-1".into(), "us-east-1".into()],
            services: vec!["ecs".into(), "logs".into()],
        };
        let values = |path, depth| -> Vec<String> {
            facts.below(path, depth).into_iter().map(|parameter| parameter.value).collect()
        };
        let regions = "/aws/service/global-infrastructure/regions";
        assert_eq!(values(regions, Depth::OneLevel), ["eu-west-1", "us-east-1"]);
        assert_eq!(
            values("/aws/service/global-infrastructure/services/ecs/regions", Depth::OneLevel).len(),
            2
        );
        assert_eq!(values("/aws/service", Depth::Recursive).len(), 2 + 4 + 2 + 4);
        assert_eq!(values("/aws/service/ecs", Depth::Recursive), Vec::<String>::new());
        assert_eq!(facts.get(&format!("{regions}/eu-west-1")).unwrap().value, "eu-west-1");
        assert_eq!(facts.get(&format!("{regions}/moon-1")), None);
        assert_eq!(facts.get("/aws/service/ecs/optimized-ami/amazon-linux-2/recommended"), None);
    }
}
